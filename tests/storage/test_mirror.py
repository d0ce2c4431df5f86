"""Checkpoints in a bucket, on a real object store: what gets there, what comes back, and a bucket that is away, slow,
closed, or holds what is none.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import pytest

from stream_ml.config.service import BucketSettings
from stream_ml.errors import CheckpointError
from stream_ml.storage.bucket import Bucket
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore
from stream_ml.storage.mirror import Mirror
from tests.support.object_store import ObjectStore, object_store, silent_store
from tests.support.service import until

KEY = b"0123456789abcdef0123"
LINEAGE = "a" * 16


@pytest.fixture(scope="module", name="objects")
def _objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("objects")) as found:
        yield found


@pytest.fixture(name="prefix")
def _prefix() -> str:
    return uuid.uuid4().hex


class Node:
    """A machine: a directory of its own, and a mirror to the common bucket."""

    def __init__(self, directory: Path, bucket: Bucket, *, key: bytes | None = KEY, keep: int = 5, **more: Any) -> None:
        self.store = CheckpointStore(directory, LINEAGE, keep=keep, key=key, **more)
        self.bucket, self.mirror = bucket, Mirror(bucket, directory, wait_s=10.0)

    def write(self, *positions: int, content: Any = "content") -> None:
        for position in positions:
            self.store.save(position, {"app": "shop"}, f"{content} {position}", checkpoint_types=[])
            self.mirror.offer(self.store, position)

    def write_each(self, *positions: int) -> None:
        """One by one, each once the one before it is there."""
        for position in positions:
            self.write(position)
            assert until(lambda at=position: at in self.there, 10), self.mirror.problem  # type: ignore[misc]

    @property
    def there(self) -> list[int]:
        return sorted(int(name.partition(".")[0]) for name in self.bucket.names(LINEAGE))

    def found(self, at_most: int | None = None) -> list[Any]:
        """Contents from newest to oldest; of one that cannot be used the words."""
        found = []
        for one in self.mirror.newest(self.store, at_most):
            found.append(self.store.content(one, []) if isinstance(one, Checkpoint) else str(one))
        return found


def test_a_new_machine_begins_with_the_newest_of_the_bucket(objects: ObjectStore, prefix: str, tmp_path: Path) -> None:
    first = Node(tmp_path / "first", objects.bucket(prefix))
    first.write_each(10, 20, 30)
    second = Node(tmp_path / "second", objects.bucket(prefix))
    assert second.found() == ["content 30", "content 20", "content 10"]
    assert second.store.positions() == [30, 20, 10], "it is here from now on"
    assert second.found(at_most=25) == ["content 20", "content 10"]


def test_nothing_is_brought_that_is_not_asked_for(objects: ObjectStore, prefix: str, tmp_path: Path) -> None:
    first = Node(tmp_path / "first", objects.bucket(prefix))
    first.write_each(10, 20)
    second = Node(tmp_path / "second", objects.bucket(prefix))
    assert next(iter(second.mirror.newest(second.store, None))).position == 20  # type: ignore[union-attr]
    assert second.store.positions() == [20]


def test_what_is_newer_here_goes_before_what_is_there(objects: ObjectStore, prefix: str, tmp_path: Path) -> None:
    first = Node(tmp_path / "first", objects.bucket(prefix))
    first.write_each(10)
    second = Node(tmp_path / "second", objects.bucket(prefix))
    second.store.save(40, {}, "own", checkpoint_types=[])
    assert second.found() == ["own", "content 10"]


def test_of_many_who_create_one_name_one_wins_and_nobody_fails(objects: ObjectStore, prefix: str) -> None:
    bucket, failed = objects.bucket(prefix), list[Exception]()

    def create(number: int) -> None:
        try:
            objects.bucket(prefix).create("a/name", BytesIO(b"%d" % number))
        except CheckpointError as error:
            failed.append(error)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    into = BytesIO()
    bucket.read("a/name", into, 10)
    assert failed == [] and int(into.getvalue()) in range(16)
    bucket.create("a/name", BytesIO(b"99"))
    again = BytesIO()
    bucket.read("a/name", again, 10)
    assert again.getvalue() == into.getvalue()


@pytest.mark.parametrize("is_spaced", [False, True])
def test_the_bucket_keeps_what_the_directory_keeps(
    objects: ObjectStore, prefix: str, tmp_path: Path, *, is_spaced: bool
) -> None:
    node = Node(tmp_path, objects.bucket(prefix + str(is_spaced)), keep=2, spaced=is_spaced)
    node.write_each(*range(10, 130, 10))
    assert until(lambda: node.there == sorted(node.store.positions()), 10), (node.there, node.store.positions())


def test_pinned_ones_stay_there(objects: ObjectStore, prefix: str, tmp_path: Path) -> None:
    node = Node(tmp_path, objects.bucket(prefix), keep=1)
    node.write_each(10)
    node.bucket.create(f"{LINEAGE}/pins/{10:020d}.kept.json", BytesIO(b"{}"))
    node.write_each(20, 30)
    assert until(lambda: node.there == [10, 30], 10), node.there


def test_what_is_pinned_here_stays_there(objects: ObjectStore, prefix: str, tmp_path: Path) -> None:
    node = Node(tmp_path, objects.bucket(prefix), keep=1)
    node.write_each(10)
    (node.store.folder / "pins").mkdir()
    (node.store.folder / "pins" / f"{10:020d}.kept.json").write_text("{}", "utf-8")
    node.write_each(20, 30)
    assert until(lambda: node.there == [10, 30], 10), node.there


class SlowBucket(Bucket):
    """Takes a while for each object, and remembers in which folder it was."""

    def __init__(self, settings: BucketSettings) -> None:
        super().__init__(settings)
        self.created: list[str] = []

    def create(self, name: str, file: IO[bytes]) -> None:
        time.sleep(0.2)  # an upload that takes longer than the next checkpoint
        self.created.append(name.partition("/")[0])
        super().create(name, file)


def test_one_that_is_written_often_keeps_no_other_from_the_bucket(
    objects: ObjectStore, prefix: str, tmp_path: Path
) -> None:
    bucket = SlowBucket(BucketSettings(**objects.settings(prefix)))
    node = Node(tmp_path, bucket)
    other = CheckpointStore(tmp_path, "b" * 16, keep=5, key=KEY)
    other.save(10, {}, "other", checkpoint_types=[])
    position = 0

    def offer() -> bool:
        nonlocal position
        position += 1
        node.write(position)
        return "b" * 16 in bucket.created

    node.write(1_000_000)
    node.mirror.offer(other, 10)
    assert until(offer, 10), bucket.created


# --- what is none ---


HARMS: dict[str, Callable[[bytes], bytes]] = {
    "half": lambda whole: whole[: len(whole) // 2],
    "a bit": lambda whole: whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:],
    "nothing": lambda _: b"",
    "zeros": lambda _: b"\0" * 2_000_000,
}


@pytest.mark.parametrize("harm", HARMS)
def test_one_that_is_damaged_there_is_told_and_the_one_before_it_is_taken(
    objects: ObjectStore, prefix: str, tmp_path: Path, harm: str
) -> None:
    first = Node(tmp_path / "first", objects.bucket(prefix))
    first.write_each(10, 20)
    whole = (first.store.folder / first.store.name_of(20)).read_bytes()
    first.bucket.create(f"{LINEAGE}/{30:020d}.ckpt", BytesIO(HARMS[harm](whole)))
    second = Node(tmp_path / "second", objects.bucket(prefix))
    damaged, *rest = second.found()
    assert str(30) in damaged and rest == ["content 20", "content 10"]
    assert second.store.positions() == [20, 10] and not list(second.store.folder.glob(".*")), "nothing half is here"


def test_one_that_was_sealed_with_another_key_never_gets_its_name_here(
    objects: ObjectStore, prefix: str, tmp_path: Path
) -> None:
    Node(tmp_path / "first", objects.bucket(prefix), key=b"x" * 20).write_each(10)
    second = Node(tmp_path / "second", objects.bucket(prefix))
    [words] = second.found()
    assert "another key" in words and second.store.positions() == []


def test_one_under_the_name_of_another_position_is_none(objects: ObjectStore, prefix: str, tmp_path: Path) -> None:
    first = Node(tmp_path / "first", objects.bucket(prefix))
    first.write_each(10)
    whole = (first.store.folder / first.store.name_of(10)).read_bytes()
    first.bucket.create(f"{LINEAGE}/{99:020d}.ckpt", BytesIO(whole))
    words, content = Node(tmp_path / "second", objects.bucket(prefix)).found()
    assert "belongs elsewhere" in words and content == "content 10"


def test_what_has_another_kind_of_name_is_passed_by(objects: ObjectStore, prefix: str, tmp_path: Path) -> None:
    first = Node(tmp_path / "first", objects.bucket(prefix))
    first.write_each(10)
    for name in ("readme.txt", "10.ckpt", f"{20:020d}.ckpt.tmp", f"deeper/{30:020d}.ckpt"):
        first.bucket.create(f"{LINEAGE}/{name}", BytesIO(b"?"))
    assert Node(tmp_path / "second", objects.bucket(prefix)).found() == ["content 10"]


# --- a bucket that is away, slow, closed ---


def test_a_bucket_that_is_away_costs_nothing_and_gets_the_newest_once_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    objects = ObjectStore(tmp_path / "objects")
    node = Node(tmp_path / "node", objects.bucket("away", timeout="1s"))
    with caplog.at_level(logging.INFO):
        began_s = time.monotonic()
        node.write(10, 20, 30)
        assert time.monotonic() - began_s < 1.0, "the loop never waits for it"
        assert until(lambda: "cannot be written" in node.mirror.problem, 20)
        assert node.store.positions() == [30, 20, 10]
        objects.start()
        try:
            assert until(lambda: not node.mirror.problem and 30 in node.there, 60), node.mirror.problem
        finally:
            objects.kill()
    said = [record.getMessage() for record in caplog.records]
    assert sum("cannot be written" in text for text in said) == 1, "said once, not with every try"
    assert any("reach s3://tests/away again" in text for text in said)


@pytest.mark.parametrize(
    ("status", "words"), [(403, "access is denied (403)"), (401, "not known (401)"), (507, "the store is full (507)")]
)
def test_a_bucket_that_refuses_is_told_in_words(tmp_path: Path, status: int, words: str) -> None:
    with silent_store(status=status) as endpoint:
        settings = BucketSettings(
            url="s3://tests/x", endpoint=endpoint, access_key_id="k", secret_access_key="s", timeout="1s"
        )
        node = Node(tmp_path, Bucket(settings))
        node.write(10)
        assert until(lambda: words in node.mirror.problem, 20), node.mirror.problem
        assert any(words in str(one) for one in node.found()) and "content 10" in node.found()
        node.mirror.close(0.1)


def test_one_that_never_answers_holds_up_a_start_for_so_long_and_nothing_else(tmp_path: Path) -> None:
    with silent_store() as endpoint:
        settings = BucketSettings(
            url="s3://tests/x", endpoint=endpoint, access_key_id="k", secret_access_key="s", timeout="1s"
        )
        node = Node(tmp_path, Bucket(settings))
        node.store.save(10, {}, "own", checkpoint_types=[])
        began_s = time.monotonic()
        told, own = node.found()
        assert "cannot be listed" in told and own == "own" and time.monotonic() - began_s < 10.0


def test_a_start_that_is_told_to_end_waits_no_longer(tmp_path: Path) -> None:
    with silent_store() as endpoint:
        settings = BucketSettings(
            url="s3://tests/x", endpoint=endpoint, access_key_id="k", secret_access_key="s", timeout="20s"
        )
        node, asked = Node(tmp_path, Bucket(settings)), list[int]()

        def waits() -> bool:
            asked.append(1)
            return len(asked) < 3

        began_s = time.monotonic()
        [words] = node.mirror.newest(node.store, None, waits)
        assert "is not waited for any longer" in str(words) and time.monotonic() - began_s < 5.0 and len(asked) == 3


def test_all_folders_together_are_waited_for_so_long_and_no_longer(tmp_path: Path) -> None:
    with silent_store() as endpoint:
        settings = BucketSettings(
            url="s3://tests/x", endpoint=endpoint, access_key_id="k", secret_access_key="s", timeout="20s"
        )
        bucket = Bucket(settings)
        mirror, began_s = Mirror(bucket, tmp_path, wait_s=1.0), time.monotonic()
        for lineage in ("a" * 16, "b" * 16, "c" * 16):
            store = CheckpointStore(tmp_path, lineage, keep=5, key=KEY)
            assert "any longer" in str(next(iter(mirror.newest(store, None))))
        assert time.monotonic() - began_s < 3.0


def test_an_endpoint_holds_no_password() -> None:
    with pytest.raises(ValueError, match="endpoint"):
        BucketSettings(url="s3://tests/x", endpoint="http://user:secret@127.0.0.1:9")


def test_a_wrong_key_is_told(objects: ObjectStore, prefix: str, tmp_path: Path) -> None:
    node = Node(tmp_path, objects.bucket(prefix, secret_access_key="wrong"))
    node.write(10)
    assert until(lambda: "is the key right, and the clock of this machine?" in node.mirror.problem, 20)


def test_what_did_not_get_there_before_the_end_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with silent_store() as endpoint:
        settings = BucketSettings(
            url="s3://tests/x", endpoint=endpoint, access_key_id="k", secret_access_key="s", timeout="5s"
        )
        node = Node(tmp_path, Bucket(settings))
        node.write(10)
        node.mirror.close(0.2)
    assert f"the last checkpoints of {LINEAGE} are not in the bucket" in caplog.text


def test_what_was_offered_last_is_there_when_it_has_ended(objects: ObjectStore, prefix: str, tmp_path: Path) -> None:
    node = Node(tmp_path, objects.bucket(prefix))
    node.write(10, 20)
    node.mirror.close(20.0)
    assert 20 in node.there

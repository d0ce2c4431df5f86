"""A journal is durable line by line: what a crash cut off is removed, what is no line of it is named."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ml.errors import ConfigError
from stream_ml.offline.journal import Journal, Taken, line_of, read_journal

BASE = "shop: an untrained model"
HEAD = b'[1, "begun with", "shop: an untrained model"]\n'
ONE, OTHER = Taken("events", 1, 2, "", b"k", b"\x00\xff"), Taken("feedback", 3, 4, "a:17", b"", b"v")


@given(
    st.lists(
        st.builds(
            Taken,
            st.sampled_from(["events", "feedback"]),
            st.integers(0, 2**62),
            st.integers(0, 2**62),
            st.text(max_size=5),
            st.binary(),
            st.binary(),
        ),
        max_size=5,
    ),
    st.integers(0, 400),
)
def test_any_cut_leaves_the_whole_lines(tmp_path_factory: pytest.TempPathFactory, taken: list[Taken], cut: int) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    whole = b"".join(map(line_of, taken))
    path.write_bytes(HEAD + whole[:cut])
    left = whole[:cut].count(b"\n")
    assert list(read_journal(path)) == taken[:left], "as somebody reads it while it is written"
    with contextlib.closing(Journal(path, BASE)) as journal:
        journal.append([ONE])
    assert list(read_journal(path)) == [*taken[:left], ONE]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        contextlib.closing(Journal(tmp_path / "j", BASE)),
        pytest.raises(ConfigError, match="another process's journal"),
    ):
        Journal(tmp_path / "j", BASE)
    Journal(tmp_path / "j", BASE).close()


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"x",
        b'[1, "events", 1, 2, "", "a", "!"]',
        b'[1, "other", 1, 2, "", "", ""]',
        b'[1, "events", 1, 2, 0, "", ""]',
        b'[1, "events", 1.5, 2, "", "", ""]',
        b'[1, "events", true, 2, "", "", ""]',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_is_no_line_of_a_journal_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(HEAD + line_of(ONE) + line + b"\n" + line_of(OTHER))
    with pytest.raises(ConfigError, match="j, line 3: this is no record of a journal"):
        list(read_journal(path))


def test_a_later_format_is_said(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(HEAD + line_of(ONE).replace(b"[1,", b"[2,", 1))
    with pytest.raises(ConfigError, match="format 2, and this version reads 1"):
        list(read_journal(tmp_path / "j"))


def test_a_disk_that_refuses_leaves_nothing_half(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with contextlib.closing(Journal(path, BASE)) as journal:
        journal.append([ONE])
        full = Taken("events", 1, 2, "", b"", bytes(2_000_000))
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        import signal

        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(ConfigError, match="cannot be written"):
                journal.append([OTHER, full])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)
        journal.append([OTHER])
    assert list(read_journal(path)) == [ONE, OTHER]


def test_a_journal_belongs_to_what_it_was_begun_with(tmp_path: Path) -> None:
    """Another export has learned what was merged: it would learn it twice."""
    with contextlib.closing(Journal(tmp_path / "j", BASE)):
        pass
    assert (tmp_path / "j").stat().st_mode & 0o077 == 0, "events are nobody else's"
    with pytest.raises(ConfigError, match="was begun with shop: an untrained model, and this is shop: a/7"):
        Journal(tmp_path / "j", "shop: a/7")
    Journal(tmp_path / "j", BASE).close()


@pytest.mark.parametrize("content", [b"{}\n", b"some file\n", b'[1, "events", 1, 2, "", "", ""]\n', b"\xff\n"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j").write_bytes(content)
    with pytest.raises(ConfigError, match="is no journal of stream-ml"):
        Journal(tmp_path / "j", BASE)
    assert (tmp_path / "j").read_bytes() == content

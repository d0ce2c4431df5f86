"""Headers that say what was answered, of those who have no right to say it, and of those who have the key and lie."""

import hashlib
import hmac
import math
import re
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stream_ml.app.assemble import assemble
from stream_ml.core.avro.record import encode_record
from stream_ml.core.partition.answered import FLAG, HEADER, Answer, AnswerSeal
from stream_ml.embedded.broker import free_port
from stream_ml.records import Served
from tests.support.service import T0, Service, service

pytestmark = pytest.mark.kafka

KEY, STRANGER = b"k" * 40, b"s" * 40
LINEAGE = "fedcba9876543210"  # of no model
Header = tuple[str, bytes | None]


class Forger:
    """Makes headers for one record of an app; `by` is what seals them."""

    def __init__(self, made: Service, name: str, by: AnswerSeal) -> None:
        self.made, self.name, self.by = made, name, by
        self.topic, self.key = made.config.events.topic, name.encode()
        self.value = self.value_of(name)

    def value_of(self, name: str) -> bytes:
        """All events are alike but for their ids: so is what the worker says of them."""
        event = {"id": name, "at": T0 + 400_000, "x": 37.5, "kind": "k1", "note": None}
        return encode_record(Service.VISIT_SCHEMA, event)

    def answer(self, **changes: Any) -> Answer:
        served = Served("true", 0.123456789, None, None, LINEAGE, 5, (), epoch=0)._replace(**changes)
        return Answer(self.name, served, 77, T0)

    def header(self, answer: Answer | None = None, by: AnswerSeal | None = None, **of: Any) -> bytes:
        """Right but for what is said."""
        record = {"topic": self.topic, "key": self.key, "value": self.value} | of
        return (by or self.by).header(record["topic"], record["key"], record["value"], answer or self.answer())[1]

    def by_hand(self, body: bytes) -> bytes:
        """A right seal over any body: as the format is written down, without the code that reads it."""

        def long(value: bytes) -> bytes:
            return len(value).to_bytes(4, "big") + value

        head = b"\x01" + hmac.digest(KEY, b"stream_ml.key-id", "sha256")[:4] + body
        app_id = self.made.config.app.id.encode()
        record = long(app_id) + long(self.topic.encode()) + long(self.key) + hashlib.sha256(self.value).digest()
        return head + hmac.digest(KEY, b"stream_ml.served.1\n" + record + head, "sha256")

    def flipped(self) -> bytes:
        """A score that was changed by who has no key."""
        found = bytearray(self.header())
        found[len(found) // 2] ^= 1
        return bytes(found)

    def others(self, app_id: str, key: bytes) -> AnswerSeal:
        return AnswerSeal(app_id, (key,), assemble(self.made.config).domain)


Forged = Callable[[Forger], list[bytes | None]]
NOT_BELIEVED: dict[str, tuple[str, Forged]] = {
    "nothing at all": ("version", lambda f: [b""]),
    "a null header": ("", lambda f: [None]),
    "cut before its seal": ("version", lambda f: [f.header()[:20]]),
    "a byte of its seal is cut": ("seal", lambda f: [f.header()[:-1]]),
    "a byte too much": ("seal", lambda f: [f.header() + b"\x00"]),
    "a bit of it is another": ("seal", lambda f: [f.flipped()]),
    "of a later version": ("version", lambda f: [b"\x02" + f.header()[1:]]),
    "of another event": ("seal", lambda f: [f.header(value=f.value_of("somebody else's"))]),
    "of another record key": ("seal", lambda f: [f.header(key=b"another")]),
    "of a record without a key": ("seal", lambda f: [f.header(key=None)]),
    "of a topic that is mirrored here": ("seal", lambda f: [f.header(topic=f"far.{f.topic}")]),
    "of another app with the same key": ("seal", lambda f: [f.header(by=f.others("other", KEY))]),
    "sealed with a stranger's key": (
        "unknown_key",
        lambda f: [f.header(by=f.others(f.made.config.app.id, STRANGER))],
    ),
    "a false one before a true one": ("seal", lambda f: [f.flipped(), f.header()]),
    "of another id": ("event_id", lambda f: [f.header(f.answer()._replace(event_id="another"))]),
    "no Avro, with a right seal": ("unreadable", lambda f: [f.by_hand(b"\xff" * 40)]),
    "more than the schema has, with a right seal": ("unreadable", lambda f: [f.by_hand(f.header()[5:-32] + b"\x00")]),
    "a class outside the labels": ("not_of_task", lambda f: [f.header(f.answer(class_name="perhaps"))]),
    "a score that is none": ("not_of_task", lambda f: [f.header(f.answer(score=math.nan))]),
    "a score of several classes": ("not_of_task", lambda f: [f.header(f.answer(scores='{"true": 0.5}'))]),
    "a lineage that can be none": ("not_of_task", lambda f: [f.header(f.answer(lineage="main"))]),
    "a word of the audit's": ("not_of_task", lambda f: [f.header(f.answer(flags=("unsound",)))]),
}


def with_key(folder: Path, servers: str, app_id: str) -> Any:
    """A service whose worker believes answers, and says what became of them."""
    (folder / "answers.key").write_bytes(KEY)
    serve = {"provenance_key_file": "answers.key"}
    return service(folder, servers, app_id, http={"port": free_port()}, serve=serve)


def learned(made: Service, count: int) -> AnswerSeal:
    """A worker that has learned; the seal of its app."""
    made.start()
    made.pairs(range(count))
    made.wait_until_done()
    return AnswerSeal(made.config.app.id, (KEY,), assemble(made.config).domain)


def ends(made: Service) -> Counter[str]:
    """What became of headers, as the worker's metrics say."""
    found = re.findall(
        r'^stream_ml_served_headers_total\{.*?outcome="(\w+)".*?\} (\S+)$', made.asked("/metrics")[1], re.M
    )
    return Counter({outcome: int(float(count)) for outcome, count in found})


def test_a_header_that_is_not_right_is_counted_by_why_and_the_worker_says_what_it_says_itself(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with with_key(tmp_path, kafka, app_id) as made:
        by = learned(made, 100)
        made.raw_visit(Forger(made, "plain", by).value, key=b"plain")
        for name, (_, forged) in NOT_BELIEVED.items():
            forger = Forger(made, name, by)
            headers = [(HEADER, given) for given in forged(forger)]
            made.raw_visit(forger.value, key=forger.key, headers=headers)
        right = Forger(made, "true, then a false one", by)
        made.raw_visit(right.value, key=right.key, headers=[(HEADER, right.header()), (HEADER, right.flipped())])
        made.raw_visit(Forger(made, "plain again", by).value, key=b"plain again")
        made.wait_until_done()
        published = {one["event_id"]: one for one in made.predictions()[100:]}
        assert published.keys() == {"plain", "plain again", right.name, *NOT_BELIEVED}
        said = ("class", "score", "lineage", "position", "epoch", "flags", "examples_learned")
        by_worker = [published["plain"][field] for field in said]
        for name in ("plain again", *NOT_BELIEVED):
            assert [published[name][field] for field in said] == by_worker, name
        honoured = published[right.name]
        assert (honoured["score"], honoured["lineage"], honoured["flags"]) == (0.123456789, LINEAGE, FLAG)
        wanted = Counter(outcome for outcome, _ in NOT_BELIEVED.values() if outcome) + Counter({"honoured": 1})
        assert +ends(made) == wanted
        assert made.dead_letters() == []


def test_a_record_that_is_written_again_with_its_header_counts_once(kafka: str, app_id: str, tmp_path: Path) -> None:
    """As a mirror back, or a producer that repeats itself, leaves it."""
    with with_key(tmp_path, kafka, app_id) as made:
        by = learned(made, 100)
        newest = made.predictions()[-1]
        forger = Forger(made, "v-replayed", by)
        header = forger.header(forger.answer(lineage=newest["lineage"], position=newest["position"]))
        for _ in range(3):
            made.raw_visit(forger.value, key=forger.key, headers=[(HEADER, header)])
        made.truth(0, id=forger.name, at=T0 + 401_000)
        made.raw_visit(forger.value, key=forger.key, headers=[(HEADER, header)])
        made.wait_until_done()
        found = [one for one in made.predictions() if one["event_id"] == forger.name]
        assert [one["flags"] for one in found] == [FLAG, *[f"duplicate_event,{FLAG}"] * 3]
        assert {one["score"] for one in found} == {0.123456789}
        assert made.audit().examples == 101 and +ends(made) == Counter({"honoured": 4})


LIES: dict[str, dict[str, Any]] = {
    "a score that no model says": {},
    "a version before any": {"position": 0, "flags": ("cold",)},
    "a position that the log has not reached": {"position": 10_000_000},
    "a lineage that the log does not know": {"lineage": LINEAGE},
    "a lineage that the log does not know, which says that it is superseded": {
        "lineage": LINEAGE,
        "flags": ("superseded",),
    },
    "an epoch that the log does not give": {"epoch": 7},
}


NOT_FOUND = "a lineage that the log does not know, which says that it is superseded"


@pytest.fixture(name="findings", scope="module")
def _findings(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What the audit has found of the prediction of each lie, or of its event, in one run for all."""
    app_id = f"t{uuid.uuid4().hex[:8]}"
    with with_key(tmp_path_factory.mktemp("lies"), kafka, app_id) as made:
        by = learned(made, 100)
        newest = made.predictions()[-1]
        truth = {"lineage": newest["lineage"], "position": newest["position"], "epoch": newest["epoch"]}
        for lie, changes in LIES.items():
            forger = Forger(made, lie, by)
            header = forger.header(forger.answer(**truth | changes))
            made.raw_visit(forger.value, key=forger.key, headers=[(HEADER, header)])
        made.wait_until_done()
        assert +ends(made) == Counter({"honoured": len(LIES)})
        assert made.workers[-1].stop() == 0
        found = made.audited(sample=1_000)["findings"]
        events, predictions = made.config.events.topic, made.config.predictions.topic
        records = zip(made.read(predictions), made.predictions(), strict=True)
        places = {
            one["event_id"]: (f"{predictions} [0] {record.offset}:", f"{events} [0] {one['event_offset']}:")
            for record, one in records
        }
        return {lie: [text for text in found if any(place in text for place in places[lie])] for lie in LIES}


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(
            lie, marks=pytest.mark.xfail(strict=True, reason="the audit leaves it unchecked and finds nothing")
        )
        if lie == NOT_FOUND
        else lie
        for lie in LIES
    ],
)
def test_who_has_the_key_and_lies_is_found_by_the_audit(findings: dict[str, list[str]], lie: str) -> None:
    """As the documents promise: no model of the log says so."""
    assert findings[lie] != []

"""What the scoring API answered, in a sealed header of its event: published, joined and rebuilt; or not believed."""

import io
import math
from typing import Any

import fastavro
import pytest

from stream_ml.core.log.entry import decode_entry
from stream_ml.core.partition.answered import FLAG, HEADER, REASONS, Answer, AnswerSeal
from stream_ml.core.partition.predictions import Published
from stream_ml.records import Record, Served
from tests.support.partition import (
    EVENTS,
    PREDICTIONS,
    ROOMY,
    T0,
    World,
    event_record,
    label_record,
    partition_settings,
    parts,
)

KEY, OTHER = b"k" * 32, b"o" * 32
LINEAGE = "fedcba9876543210"


def seal(*keys: bytes, app: str = "app", task: str = "binary") -> AnswerSeal:
    return AnswerSeal(app, keys or (KEY,), parts(task).domain)


def answer(event_id: str = "e0", **changes: Any) -> Answer:
    served = Served("true", 0.75, None, None, LINEAGE, 123, ("imputed",), epoch=4)._replace(**changes)
    return Answer(event_id, served, 77, T0 + 5)


def sealed(record: Record, said: Answer, by: AnswerSeal | None = None, **other: Any) -> Record:
    """The record with a header that says this of it, or of another one."""
    of = {"topic": record.topic, "key": record.key, "value": record.value or b""} | other
    return record._replace(headers=[(by or seal()).header(of["topic"], of["key"], of["value"], said)])


def believed(record: Record, by: AnswerSeal | None = None, event_id: str = "e0") -> Answer | str:
    given = dict(record.headers)[HEADER]
    assert given is not None
    return (by or seal()).read(given, record.topic, record.key, record.value or b"", event_id)


RECORD = event_record(0, "e0", T0, 1.0)


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("binary", {}),
        ("binary", {"class_name": None, "score": None, "flags": ("cold", "stale", "superseded")}),
        ("multiclass", {"class_name": "b", "score": 0.5, "scores": '{"a":0.25,"b":0.5,"c":0.25}'}),
        ("regression", {"class_name": None, "score": None, "value": -2.5e17}),
    ],
)
def test_what_was_answered_is_read_back_as_it_was(task: str, changes: dict[str, Any]) -> None:
    by = seal(task=task)
    assert believed(sealed(RECORD, answer(**changes), by), by) == answer(**changes)


@pytest.mark.parametrize(
    ("of", "reason"),
    [
        ({"topic": "others"}, "seal"),
        ({"key": b"e"}, "seal"),
        ({"key": None}, "seal"),
        ({"key": b""}, "seal"),
        ({"value": b"else"}, "seal"),
    ],
)
def test_a_header_holds_for_one_record_alone(of: dict[str, Any], reason: str) -> None:
    assert believed(sealed(RECORD, answer(), **of)) == reason


def test_bytes_do_not_wander_between_topic_and_key() -> None:
    by = seal()
    _, given = by.header("ab", b"c", b"v", answer())
    assert by.read(given, "a", b"bc", b"v", "e0") == "seal"


def test_every_flipped_bit_is_found() -> None:
    _, given = seal().header(EVENTS, b"e0", b"v", answer())
    for bit in range(8 * len(given)):
        broken = bytearray(given)
        broken[bit // 8] ^= 1 << bit % 8
        assert seal().read(bytes(broken), EVENTS, b"e0", b"v", "e0") in ("seal", "version", "unknown_key")
    for size in range(len(given)):
        assert isinstance(seal().read(given[:size], EVENTS, b"e0", b"v", "e0"), str)


def test_other_apps_other_keys_and_none_are_not_believed() -> None:
    record = sealed(RECORD, answer())
    assert believed(record, seal(app="other")) == "seal"
    assert believed(record, seal(OTHER)) == "unknown_key"
    assert believed(record, AnswerSeal("app", (), parts().domain)) == "no_key"
    assert believed(record, seal(OTHER, KEY)) == answer(), "an old key holds while it is replaced"
    assert believed(record, event_id="e1") == "event_id"


@pytest.mark.parametrize(
    "changes",
    [
        {"class_name": "maybe"},
        {"score": 1.5},
        {"score": math.nan},
        {"score": math.inf},
        {"value": 1.0},
        {"scores": '{"true": 0.5}'},
        {"lineage": "x"},
        {"lineage": "f" * 300},
        {"position": -1},
        {"epoch": -1},
        {"flags": ("unsound",)},
        {"flags": ("duplicate_event",)},
        {"flags": (FLAG,)},
        {"flags": ("a-word-of-somebody",)},
        {"class_name": "true" * 1_000_000},
    ],
)
def test_who_has_the_key_still_cannot_publish_what_is_no_prediction_of_the_app(changes: dict[str, Any]) -> None:
    """unsound would keep the audit from deriving it again."""
    assert believed(sealed(RECORD, answer(**changes))) == "not_of_task"


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_numbers_that_no_model_says_are_not_believed_of_a_regression(value: float) -> None:
    by = seal(task="regression")
    assert believed(sealed(RECORD, answer(class_name=None, score=None, value=value), by), by) == "not_of_task"


# --- in a partition ---


def world(events: list[Record], labels: list[Record], by: AnswerSeal | None) -> World:
    return World(ROOMY, partition_settings()._replace(answers=by), events, labels)


def published(made: World) -> list[Published]:
    return [parts().predictions.decode(record.value or b"") for record in made.topics[PREDICTIONS]]


@pytest.mark.parametrize("count", [1, 3, 300])
def test_an_answered_event_is_published_as_answered_among_others_that_are_scored(count: int) -> None:
    """Also in a batch that is large enough for columns."""
    events = [event_record(n, f"e{n}", T0 + n, float(n)) for n in range(count)]
    said = {n: answer(f"e{n}", position=100 + n, score=n / (2 * count)) for n in range(0, count, 2)}
    events = [sealed(event, said[n]) if n in said else event for n, event in enumerate(events)]
    made = world(events, [], seal())
    outputs = made.turn(count, 0)
    plain = world([event._replace(headers=()) for event in events], [], seal())
    plain.turn(count, 0)
    for n, (found, scored) in enumerate(zip(published(made), published(plain), strict=True)):
        if n in said:
            served = said[n].served
            assert found.served == served._replace(flags=(*served.flags, FLAG)), n
        else:
            assert found == scored, n
    assert outputs.counts["served_headers", "honoured"] == len(said)
    assert all(not record.headers for record in made.topics[PREDICTIONS]), "it is not forwarded"


def test_the_prediction_says_when_the_api_scored_and_how_much_its_model_had_learned() -> None:
    made = world([sealed(RECORD, answer())], [], seal())
    made.turn(1, 0)
    schema = fastavro.parse_schema(parts().predictions.schema)
    value = made.topics[PREDICTIONS][0].value or b""
    said: Any = fastavro.schemaless_reader(io.BytesIO(value[len(parts().predictions.header) :]), schema, None)
    assert (said["examples_learned"], said["scored_at"].timestamp() * 1000) == (77, T0 + 5)


def test_its_label_is_learned_with_what_was_answered_and_so_it_is_after_a_crash() -> None:
    events = [sealed(event_record(n, f"e{n}", T0 + n, 1.0), answer(f"e{n}", position=50 + n)) for n in range(3)]
    labels = [label_record(n, f"e{n}", T0 + 10 + n) for n in range(3)]
    whole, broken = world(events, labels, seal()), world(events, labels, seal())
    whole.turn(3, 0)
    whole.turn(0, 3)
    broken.turn(2, 1)
    broken.crash()
    broken.turn(1, 0)
    broken.crash()
    broken.turn(0, 2)
    for made in (whole, broken):
        log = made.settings.topics.training_log
        examples = [entry for r in made.topics[log] if (entry := decode_entry(r.value or b"")).kind == "example"]
        served = [entry.served for entry in examples]
        assert [(one.position, one.lineage, one.epoch) for one in served] == [(50 + n, LINEAGE, 4) for n in range(3)]
        assert all(FLAG in one.flags for one in served)


def test_the_same_id_again_is_published_as_answered_and_flagged_and_never_joined() -> None:
    events = [sealed(event_record(n, "e0", T0, 1.0), answer("e0", position=50 + n)) for n in range(2)]
    made = world(events, [label_record(0, "e0", T0 + 1)], seal())
    made.turn(2, 1)
    first, second = published(made)
    assert "duplicate_event" not in first.served.flags
    assert second.served.flags == ("imputed", "duplicate_event", FLAG)


@pytest.mark.parametrize(
    ("by", "reason"), [(None, "no_key"), (seal(OTHER), "unknown_key"), (seal(app="other"), "seal")]
)
def test_what_is_not_believed_is_scored_and_counted(by: AnswerSeal | None, reason: str) -> None:
    made = world([sealed(RECORD, answer())], [], by)
    outputs = made.turn(1, 0)
    (found,) = published(made)
    assert found.served.position == 0 and FLAG not in found.served.flags
    assert outputs.counts["served_headers", reason] == 1 and reason in REASONS


def test_an_event_that_cannot_be_used_is_a_dead_letter_whatever_its_header_says() -> None:
    broken = event_record(0, "e0", T0, math.inf)
    made = world([sealed(broken, answer())], [], seal())
    outputs = made.turn(1, 0)
    assert published(made) == [] and outputs.counts["dead_letters", "not_finite"] == 1

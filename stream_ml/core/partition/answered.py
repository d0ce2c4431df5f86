"""What the scoring API answered about an event, as a sealed header of it: the worker publishes exactly that.

Whoever has the key can have published what he likes; so the audit derives each of these predictions again from the log,
too, and finds what no model has said. The seal covers app, topic, key and value: a header holds for one record alone.
"""

import hashlib
import hmac
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import fastavro

from stream_ml import formats
from stream_ml.core.avro.fields import MAGNITUDE_MAX
from stream_ml.core.avro.record import Decoder, decode_own, encode_record
from stream_ml.core.avro.texts import joined, scores_of, words_of
from stream_ml.core.inputs.events import Events
from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.model.estimator import is_probability
from stream_ml.core.model.scoring import Scores
from stream_ml.core.partition.predictions import BYTES_MAX, Said
from stream_ml.records import Clock, Served, Version

HEADER = "stream_ml.served"
FLAG = "served_by_api"
VERSION = 1
BYTES_LEAST = 1 + 4 + 32
_DOMAIN, _NAME = b"stream_ml.served.1\n", b"stream_ml.key-id"
_SCHEMA = fastavro.parse_schema(formats.load("served"))
_DECODER = Decoder(_SCHEMA)
_LINEAGE_DIGITS = 16
_FLAGS = {"cold", "stale", "learning_halted", "imputed", "superseded", "clipped"}  # unsound: the API seals no such one

REASONS = ("honoured", "no_key", "version", "unknown_key", "seal", "unreadable", "event_id", "not_of_task")
"""What becomes of a header; all but the first: it is ignored, and the worker scores."""


class Answer(NamedTuple):
    """What was answered.

    Parameters
    ----------
    served
        Its flags are those of a prediction, without the one that says who answered.
    """

    event_id: str
    served: Served
    examples_learned: int
    scored_at_ms: int


class AnswerSeal:
    """Writes and reads the header, for one app.

    Parameters
    ----------
    keys
        The first seals; each of them is believed, so that a key can be replaced.
    """

    def __init__(self, app_id: str, keys: Sequence[bytes], domain: LabelDomain) -> None:
        self._app_id, self._domain = _long(app_id.encode()), domain
        self._keys = {hmac.digest(key, _NAME, "sha256")[:4]: key for key in keys}
        self.key_ids = [key_id.hex() for key_id in self._keys]

    def header(self, topic: str, key: bytes | None, value: bytes, answer: Answer) -> tuple[str, bytes]:
        """The header of a record. Source: HMAC-SHA256, RFC 2104."""
        key_id = next(iter(self._keys))
        served = answer.served
        body = encode_record(
            _SCHEMA,
            {
                "event_id": answer.event_id,
                "class": served.class_name,
                "score": served.score,
                "scores": served.scores,
                "value": served.value,
                "lineage": served.lineage,
                "log_partition": 0,
                "position": served.position,
                "epoch": served.epoch,
                "arm": "",
                "examples_learned": answer.examples_learned,
                "unit_examples": -1,
                "scored_at": answer.scored_at_ms,
                "flags": joined(served.flags),
                "derived_schema": 0,
                "derived": b"",
            },
        )
        head = bytes([VERSION]) + key_id + body
        return HEADER, head + self._mac(self._keys[key_id], topic, key, value, head)

    def read(self, given: bytes, topic: str, key: bytes | None, value: bytes, event_id: str) -> Answer | str:
        """What a header says of this record; one of REASONS where it is not to be believed."""
        if not self._keys:
            return "no_key"
        if len(given) < BYTES_LEAST or given[0] != VERSION:
            return "version"
        secret = self._keys.get(given[1:5])
        if secret is None:
            return "unknown_key"
        head, mac = given[:-32], given[-32:]
        if not hmac.compare_digest(mac, self._mac(secret, topic, key, value, head)):
            return "seal"
        try:
            raw = decode_own(head, _DECODER, 5, to_end=True)
            found = Answer(
                event_id=raw["event_id"],
                served=Served(
                    class_name=raw["class"],
                    score=raw["score"],
                    scores=raw["scores"],
                    value=raw["value"],
                    lineage=raw["lineage"],
                    position=raw["position"],
                    flags=words_of(raw["flags"]),
                    epoch=raw["epoch"],
                ),
                examples_learned=raw["examples_learned"],
                scored_at_ms=raw["scored_at"],
            )
        except ValueError:
            return "unreadable"
        if found.event_id != event_id:
            return "event_id"
        reserved = (raw["derived_schema"], raw["derived"], raw["arm"], raw["log_partition"])
        return found if self._fits(found, raw) and reserved == (0, b"", "", 0) else "not_of_task"

    def _fits(self, answer: Answer, raw: Mapping[str, Any]) -> bool:
        """Whether such a prediction could be one of this app's."""
        served, domain = answer.served, self._domain
        if any(len((raw.get(name) or "").encode()) > most for name, most in BYTES_MAX.items()):
            return False
        if len(served.lineage) != _LINEAGE_DIGITS or served.position < 0 or served.epoch < 0:
            return False
        if not _FLAGS.issuperset(served.flags):
            return False
        if domain.task == "regression":
            others = (served.class_name, served.score, served.scores)
            return others == (None, None, None) and (served.value is None or abs(served.value) <= MAGNITUDE_MAX)
        if served.value is not None or (served.score is not None and not is_probability(served.score)):
            return False
        if served.class_name is not None and served.class_name not in domain.classes:
            return False
        if domain.task == "binary":
            return served.scores is None
        try:
            return served.scores is None or all(map(is_probability, scores_of(served.scores).values()))
        except ValueError:
            return False

    def _mac(self, secret: bytes, topic: str, key: bytes | None, value: bytes, head: bytes) -> bytes:
        over = _DOMAIN + self._app_id + _long(topic.encode()) + _long(key) + hashlib.sha256(value).digest() + head
        return hmac.digest(secret, over, "sha256")


def _long(value: bytes | None) -> bytes:
    """A value with its length before it, so that no byte wanders from one to the next; of null a length of its own."""
    return b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value


def read_answers(
    seal: AnswerSeal | None, events: Events, dead: Collection[int]
) -> tuple[dict[int, Answer], Counter[str]]:
    """Answers by row of a batch, and how many headers came to what.

    Parameters
    ----------
    dead
        Rows that cannot be used: nobody was answered about them.
    """
    found, counts, records = dict[int, Answer](), Counter[str](), events.records
    for row, headers in records.headers.items():
        given = next((value for name, value in headers if name == HEADER), None)
        if given is None or row in dead:
            continue
        topic, key, value = records.topic, records.keys[row], records.values[row] or b""
        answer = "no_key" if seal is None else seal.read(given, topic, key, value, events.ids[row])
        if isinstance(answer, Answer):
            found[row], answer = answer, "honoured"
        counts[answer] += 1
    return found, counts


def with_answers(scores: Scores, answers: Mapping[int, Answer]) -> Scores:
    """The scores of a batch, those of some rows as they were answered."""
    if not answers:
        return scores
    count = len(scores.class_names)
    names, numbers = [*scores.class_names], [*scores.scores]
    texts = [*scores.texts] if scores.texts is not None else None
    values = [*scores.values] if scores.values is not None else None
    for row, answer in answers.items():
        served = answer.served
        names[row], numbers[row] = served.class_name, served.score
        if served.scores is not None or texts is not None:
            texts = texts if texts is not None else [None] * count
            texts[row] = served.scores
        if served.value is not None or values is not None:
            values = values if values is not None else [None] * count
            values[row] = served.value
    failed = {row: said for row, said in scores.failed.items() if row not in answers}
    return Scores(names, numbers, texts, values, failed, scores.clipped - answers.keys())


def said_of(answer: Answer) -> Said:
    """What its prediction says of who made it."""
    served = answer.served
    clock = Clock(answer.scored_at_ms, 0)
    return Said(Version(served.lineage, served.position), answer.examples_learned, clock, served.epoch)

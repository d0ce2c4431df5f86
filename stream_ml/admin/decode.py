"""Records of any of the app's topics as plain values, for people: what stands there, decoded."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import fastavro

from stream_ml.app.parts import Parts
from stream_ml.core.avro.framing import Payloads, Rejected
from stream_ml.core.avro.record import Decoder, LaterFormat, check_format, decode_own
from stream_ml.core.avro.to_json import jsonable, to_json
from stream_ml.core.drift.signals import decode_signal
from stream_ml.core.log.entry import decode_entry
from stream_ml.core.log.identity import without_secrets
from stream_ml.core.partition.outputs import dead_letter_origin, dead_letter_words, decode_outcome
from stream_ml.core.partition.predictions import FORMAT as PREDICTION_FORMAT
from stream_ml.core.partition.predictions import head_of
from stream_ml.errors import ConfigError
from stream_ml.records import Record

SHOWN_BYTES = 120  # of a key or value that is no Avro of ours

Plain = dict[str, Any]


def topics_of(parts: Parts) -> dict[str, tuple[str, Callable[[Record], Plain]]]:
    """What there is to look at, by a short name: the topic, and what makes values of a record of it."""
    config = parts.config
    return {
        "events": (config.events.topic, lambda record: _payload(parts.reader.payloads, record)),
        "feedback": (config.feedback.topic, lambda record: _payload(parts.feedback.payloads, record)),
        "predictions": (config.predictions.topic, _prediction(parts)),
        "outcomes": (config.outcomes, lambda record: _plain(decode_outcome(record.value or b""))),
        "dead-letters": (config.dead_letters, dead_letter),
        "signals": (config.signals, lambda record: decode_signal(record.value or b"").plain()),
        "training-log": (config.training_log_topic, _entry),
    }


def short_name(parts: Parts, what: str) -> str:
    """The short name of a topic that is given by its whole name, or by that."""
    return next((name for name, (topic, _) in topics_of(parts).items() if topic == what), what)


def look_at(parts: Parts, what: str, *, whole: bool = False) -> tuple[str, Callable[[Record], Plain]]:
    """Topic and decoder of one of them; ConfigError names them all where there is no such.

    Parameters
    ----------
    whole
        Of a log entry also its event, decoded, and the features that the model is given.
    """
    found = topics_of(parts)
    if what not in found:
        raise ConfigError(f"{what!r} is none of {', '.join(found)}")
    topic, decode = found[what]
    if whole and what == "training-log":
        decode = partial(_whole_entry, parts)

    def values(record: Record) -> Plain:
        try:
            return decode(record)
        except LaterFormat as error:
            return {"unreadable": str(error)}  # what a later version keeps secret is not known here
        except ValueError as error:
            return {"unreadable": str(error), "value_hex": (record.value or b"")[:SHOWN_BYTES].hex()}

    return topic, values


def dead_letter(record: Record) -> Plain:
    """A dead letter: which record it was, why, its key and the start of its value."""
    origin, (reason, message) = dead_letter_origin(record) or ("", "", ""), dead_letter_words(record)
    return {
        **dict(zip(("topic", "partition", "offset"), map(str, origin), strict=True)),
        "reason": reason,
        "message": message,
        "key": None if record.key is None else record.key[:SHOWN_BYTES].decode("utf-8", "replace"),
        "value_bytes": len(record.value or b""),
        "value_hex": (record.value or b"")[:SHOWN_BYTES].hex(),
    }


def _payload(payloads: Payloads, record: Record) -> Plain:
    named = payloads.named(record.value)
    if isinstance(named, Rejected):
        raise ValueError(f"{named.reason}: {named.message}")
    return to_json(payloads.reader, named)


def _prediction(parts: Parts) -> Callable[[Record], Plain]:
    header, schema = parts.predictions.header, parts.predictions.schema
    whole = Decoder(fastavro.parse_schema(schema))
    head = Decoder(fastavro.parse_schema(head_of(schema)))

    def decode(record: Record) -> Plain:
        value = record.value or b""
        if not parts.predictions.framed(value):
            raise ValueError("no prediction of this app: other framing")
        check_format(value, len(header), PREDICTION_FORMAT, "a prediction")
        if value.startswith(header):
            with contextlib.suppress(ValueError):
                return _plain(decode_own(value, whole, len(header), to_end=True))
        return _plain(decode_own(value, head, len(header))) | {"carried": _other_schema(value, header)}

    return decode


def _other_schema(value: bytes, header: bytes) -> str:
    """What is said in place of what a prediction of before carries: all before it is the same in every schema."""
    if header[:1] == b"\xc3":
        return f"by another schema: stream-ml schema show CONFIG {value[2:10].hex()}"
    return f"by another schema, of id {int.from_bytes(value[1:5], 'big')}" if header else "by another schema"


def _entry(record: Record) -> Plain:
    entry = decode_entry(record.value or b"")
    found = entry._asdict() | {"target": entry.target._asdict(), "served": entry.served._asdict()}
    found |= {"event": f"{len(entry.event)} bytes", "derived": f"{len(entry.derived)} bytes"}
    found["arguments"] = without_secrets(entry.arguments) if entry.kind == "genesis" else entry.arguments
    return _plain(found)


def _whole_entry(parts: Parts, record: Record) -> Plain:
    """An entry with its event. A writer schema of the log that no configuration names is not known here."""
    entry, found = decode_entry(record.value or b""), _entry(record)
    if entry.kind != "example":
        return found
    payloads = parts.reader.payloads
    decoded = payloads.decode_logged_one(entry.event_schema, entry.event_framing, entry.event)
    if isinstance(decoded, Rejected):
        return found | {"event": {"unreadable": f"{decoded.reason}: {decoded.message}"}}
    extracted = parts.plan.extract_one(decoded)
    features = extracted.message if isinstance(extracted, Rejected) else _plain(extracted[0])
    return found | {"event": to_json(payloads.reader, decoded), "features": features}


def _plain(found: dict[str, Any]) -> Plain:
    return {name: jsonable(value) for name, value in found.items()}

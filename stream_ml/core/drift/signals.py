"""Signals: what operators and automation are told once, as records of ``<app>.signals``.

Those that the fold finds (drift of the loss, quality below its baseline, halts, commands) are the same in every replica
and carry the training log's position; the owner of partition 0 writes them. What one worker alone can see (drift of its
inputs and scores, labels that stay away) it writes itself, under its own name and the start of the window.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import fastavro
from fastavro.schema import to_parsing_canonical_form

from stream_ml import formats
from stream_ml.core.avro.record import Decoder, decode_own, encode_record
from stream_ml.core.avro.schema import fingerprint, single_object_header
from stream_ml.records import Clock

FORMAT = 1
OF_THE_FOLD = frozenset({"loss", "quality", "learning"})  # subjects; all others are of one worker alone
MESSAGE_MAX = 1_000  # characters: an error's words may hold a whole record
KEPT_MAX = 1_000  # of the fold's signals in memory: a new owner of partition 0 writes those that are not written yet

Kind = Literal[
    "drift",
    "recovered",
    "halted",
    "resumed",
    "frozen",
    "rebaselined",
    "below_baseline",
    "label_starvation",
    "far_example",
]
Severity = Literal["info", "warning", "critical"]

_RAW = formats.load("signal")
_SCHEMA = fastavro.parse_schema(_RAW)
_HEADER = single_object_header(fingerprint(to_parsing_canonical_form(_RAW)))


class Signal(NamedTuple):
    """One signal. `origin` is the lineage, or the instance that saw it; `position` as in the schema."""

    origin: str
    kind: Kind
    subject: str
    position: int
    severity: Severity
    since_ms: int
    evidence: Mapping[str, float]
    message: str
    suggestion: str

    @property
    def key(self) -> str:
        """Its identity as text."""
        return f"{self.origin}/{self.kind}/{self.subject}/{self.position}"

    def plain(self) -> dict[str, Any]:
        """As JSON values, for a status."""
        return {**self._asdict(), "evidence": dict(self.evidence)}


def encode_signal(signal: Signal, clock: Clock) -> bytes:
    """The value of a signal's record."""
    origin, kind, subject, position = signal[:4]
    return encode_record(
        _SCHEMA,
        {
            "format": FORMAT,
            "id": {"lineage": origin, "kind": kind, "subject": subject, "position": position},
            "kind": kind,
            "severity": signal.severity,
            "since": min(signal.since_ms, clock.now_ms) if signal.since_ms > 0 else clock.now_ms,
            "evidence": {name: float(value) for name, value in signal.evidence.items()},
            "message": signal.message[:MESSAGE_MAX].encode("utf-8", "replace").decode(),
            "suggestion": signal.suggestion,
        },
        _HEADER,
    )


def decode_signal(value: bytes) -> Signal:
    """A signal out of its record; ValueError where it is none."""
    if value[: len(_HEADER)] != _HEADER:
        raise ValueError("not a signal: other framing or schema")
    raw = decode_own(value, _PLAIN, len(_HEADER))
    of = raw["id"]
    return Signal(
        origin=of["lineage"],
        kind=raw["kind"],
        subject=of["subject"],
        position=of["position"],
        severity=raw["severity"],
        since_ms=raw["since"],
        evidence=raw["evidence"],
        message=raw["message"],
        suggestion=raw["suggestion"],
    )


_PLAIN = Decoder(
    fastavro.parse_schema(
        {
            **_RAW,
            "name": "SignalRead",
            "fields": [{**f, "type": "long"} if f["name"] == "since" else f for f in _RAW["fields"]],
        }
    )
)

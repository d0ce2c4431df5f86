"""Signals: what operators and automation are told once, as records of ``<app>.signals``.

Those that the fold finds (drift of the loss, quality below its baseline, halts, commands) are the same in every replica
and carry the training log's position; the owner of partition 0 writes them. What one worker alone can see (drift of its
inputs and scores, labels that stay away) it writes itself, under its own name and the start of the window.
"""

import json
import math
from collections.abc import Mapping
from types import NoneType
from typing import Any, Literal, NamedTuple

import fastavro
from fastavro.schema import to_parsing_canonical_form

from stream_ml import formats
from stream_ml.core.avro.json_text import read_json
from stream_ml.core.avro.record import Decoder, check_format, decode_own, encode_record
from stream_ml.core.avro.schema import fingerprint, single_object_header
from stream_ml.records import Clock

FORMAT = 2
OF_THE_FOLD = frozenset({"loss", "quality", "learning", "models"})  # subjects; all others are of one worker alone
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
    "declared",
    "serving",
    "retired",
    "refused",
]
Severity = Literal["info", "warning", "critical"]

_RAW = formats.load("signal")
_SCHEMA = fastavro.parse_schema(_RAW)
_HEADER = single_object_header(fingerprint(to_parsing_canonical_form(_RAW)))


class Signal(NamedTuple):
    """One signal. `origin` is the lineage, or the instance that saw it; `position` as in the schema.

    Of one that a later version wrote kind and severity may be words that this one does not know.
    """

    origin: str
    kind: Kind
    subject: str
    position: int
    severity: Severity
    since_ms: int
    evidence: Mapping[str, float]
    message: str
    suggestion: str
    log_partition: int = 0
    lineage: str = ""
    epoch: int = 0

    @property
    def key(self) -> str:
        """Its identity as text."""
        return f"{self.origin}/{self.kind}/{self.subject}/{self.log_partition}/{self.position}"

    def plain(self) -> dict[str, Any]:
        """As JSON values, for a status."""
        return {**self._asdict(), "evidence": dict(self.evidence)}


def encode_signal(signal: Signal, clock: Clock) -> bytes:
    """The value of a signal's record."""
    return encode_record(
        _SCHEMA,
        {
            "format": FORMAT,
            "id": signal.key,
            "origin": signal.origin,
            "kind": signal.kind,
            "subject": signal.subject,
            "log_partition": signal.log_partition,
            "position": signal.position,
            "lineage": signal.lineage,
            "epoch": signal.epoch,
            "severity": signal.severity,
            "since": min(signal.since_ms, clock.now_ms) if signal.since_ms > 0 else clock.now_ms,
            "evidence": _ENCODE({name: _finite(value) for name, value in signal.evidence.items()}),
            "message": signal.message[:MESSAGE_MAX].encode("utf-8", "replace").decode(),
            "suggestion": signal.suggestion,
        },
        _HEADER,
    )


def _finite(value: float) -> float | None:
    """JSON has no other numbers."""
    return float(value) if math.isfinite(value) else None


def decode_signal(value: bytes) -> Signal:
    """A signal out of its record; ValueError where it is none, or of a format that this version does not read."""
    if value[:2] != _HEADER[:2]:
        raise ValueError("not a signal: other framing")
    check_format(value, len(_HEADER), FORMAT, "a signal")
    raw = decode_own(value, _PLAIN, len(_HEADER))
    evidence = read_json(raw["evidence"], 2)
    if not isinstance(evidence, dict) or not all(type(one) in (int, float, NoneType) for one in evidence.values()):
        raise ValueError("its evidence is no JSON object of numbers")
    return Signal(
        origin=raw["origin"],
        kind=raw["kind"],
        subject=raw["subject"],
        position=raw["position"],
        severity=raw["severity"],
        since_ms=raw["since"],
        evidence={name: math.nan if number is None else number for name, number in evidence.items()},
        message=raw["message"],
        suggestion=raw["suggestion"],
        log_partition=raw["log_partition"],
        lineage=raw["lineage"],
        epoch=raw["epoch"],
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
_ENCODE = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode

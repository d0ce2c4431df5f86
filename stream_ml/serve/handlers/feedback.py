"""Labels over HTTP: checked as the worker would, written to the feedback topic, answered with receipts."""

import time
from typing import Any

from stream_ml.app.parts import Parts
from stream_ml.core.api.bodies import document
from stream_ml.core.api.problems import Fault, Problem, pointer_to
from stream_ml.core.avro.fields import find_field, time_scale
from stream_ml.core.avro.from_json import SchemaMismatch, mismatches
from stream_ml.core.inputs.rows import RowEncoder
from stream_ml.records import DeadLetter, Headers, Record
from stream_ml.serve.http.messages import Answer, Request, json_answer
from stream_ml.serve.live import Live
from stream_ml.serve.producer import Writer


class Feedback:
    """The handlers that take labels."""

    def __init__(self, parts: Parts, live: Live, writer: Writer | None) -> None:
        self._config, self._parts, self._live, self._writer = parts.config, parts, live, writer
        self._schema, self._max = parts.feedback.payloads.reader, parts.config.serve.instances_max
        self._rows = RowEncoder(parts.config.feedback, parts.feedback.payloads, "feedback")
        self._has_record = any(field["name"] == "record" for field in self._schema.fields)
        named = parts.config.feedback.time
        self._time = None if named == "record" else find_field(self._schema, named, where="feedback.time")

    async def take(self, request: Request) -> Answer:
        """``{"labels": [{...}]}`` to receipts; with ``?dry_run=true`` nothing is written."""
        assert self._writer is not None  # noqa: S101 - there is no such route without
        pairs = [part.partition(b"=") for part in request.query.split(b"&")]
        dry_run = [value for name, _, value in pairs if name == b"dry_run"]
        if dry_run not in ([], [b"true"], [b"false"]):
            raise Problem("not-readable", "dry_run is true or false")
        labels, now_ms = self._labels(request.body), time.time_ns() // 1_000_000
        records, faults = list[tuple[bytes, bytes, Headers]](), list[Fault]()
        for row, given in enumerate(labels):
            found = self._record(row, given, now_ms)
            if isinstance(found, list):
                faults += found
            else:
                records.append(found)
        if faults:
            first = f"{faults[0].pointer}: {faults[0].detail}"[:300]
            raise Problem("not-of-schema", first, faults=faults, labels=len(labels))
        if dry_run == [b"true"]:
            return json_answer({"accepted": 0, "would_accept": len(records)})
        confirmed = await self._writer.write(self._config.feedback.topic, records)
        receipts = [f"f:{where.partition}:{where.offset}" for where in confirmed]
        latest = {where.partition: where.offset for where in sorted(confirmed)}
        after = ",".join(f"f:{partition}:{offset}" for partition, offset in latest.items())
        told = {"accepted": len(receipts), "receipts": receipts, "after": after}
        return json_answer(told, 202)

    def _labels(self, body: bytes) -> list[Any]:
        said = document(body)
        if not isinstance(said, dict) or not isinstance(said.get("labels"), list) or len(said) > 1:
            fault = Fault("/labels", "schema_mismatch", 'the body is {"labels": [{...}]}')
            raise Problem("not-of-schema", fault.detail, faults=[fault])
        labels: list[Any] = said["labels"]
        if not labels:
            raise Problem("not-of-schema", "there is no label", faults=[Fault("/labels", "schema_mismatch", "none")])
        if len(labels) > self._max:
            raise Problem("too-large", f"{len(labels):,} labels; at most {self._max:,} in one request: send several")
        return labels

    def _record(self, row: int, given: Any, now_ms: int) -> tuple[bytes, bytes, Headers] | list[Fault]:
        """Key and value of a label, or what is wrong with it, as the worker would find it."""
        at = f"/labels/{row}"
        if isinstance(given, dict) and "record" in given and not self._has_record:
            return [Fault(f"{at}/record", "schema_mismatch", "record is no field: a label's place follows from its id")]
        if isinstance(given, dict) and self._time is not None and len(self._time.path) == 1:
            factor, divisor = time_scale(self._time, where="feedback.time")
            given = {self._time.name: now_ms * divisor // factor} | given
        try:
            key, value = self._rows.encode(given)
        except SchemaMismatch as error:
            wrong = mismatches(self._schema, given) or [error]
            return [Fault(pointer_to(each, at), "schema_mismatch", str(each)) for each in wrong]
        except (ValueError, OverflowError, TypeError) as error:
            return [Fault(at, "schema_mismatch", f"it cannot be written as Avro: {error}")]
        judged = self._parts.feedback.decode_one(Record(self._config.feedback.topic, 0, 0, now_ms, key, value), now_ms)
        if isinstance(judged, DeadLetter):
            return [Fault(at, judged.reason, judged.message)]
        return key, value, ()

"""Instances of a request to what a model is asked with, in two lanes.

1. The reference (`one`) judges an instance as the worker would judge the event: `from_json`, Avro, `decode_one`.
2. The fast lane (`typed`) takes a request whose instances are all plain; what it does not take goes to the reference,
   which alone words refusals. tests/equivalence/test_lanes_of_a_request.py holds them equal.
"""

import contextlib
from collections.abc import Sequence
from types import GenericAlias
from typing import Any, NamedTuple

import msgspec

from stream_ml.core.api.bodies import document, envelope, is_partial, not_json, too_many, unusable
from stream_ml.core.api.places import Places, is_by_place
from stream_ml.core.api.problems import Fault, Problem, pointer_of, pointer_to
from stream_ml.core.api.rows import ROWS_MIN, Instance, RowPlan, Rows
from stream_ml.core.api.typed import NotPlain, TypedRecord
from stream_ml.core.avro.fields import find_field, time_scale
from stream_ml.core.avro.framing import Rejected
from stream_ml.core.avro.from_json import SchemaMismatch, from_json, mismatches
from stream_ml.core.avro.to_json import to_json
from stream_ml.core.inputs import made_up
from stream_ml.core.inputs.readers import EventReader
from stream_ml.core.inputs.rows import RowEncoder
from stream_ml.core.inputs.settings import Source
from stream_ml.records import DeadLetter, Record

FILLERS = 8  # made-up events, of which one has an id and a time
KEY = "key"  # beside the fields, where the id of an event is the key of its record


class Recorded(NamedTuple):
    """A usable instance, and the record that it is as an event."""

    instance: Instance
    key: bytes
    value: bytes


class Asked(NamedTuple):
    """What a request asks for.

    Parameters
    ----------
    instances
        n of them; an unusable one as its faults, which only a partial request has.
    partial
        Whether what is wrong with one instance leaves the others alone.
    record
        What the caller says of recording; None: nothing.
    by_place
        Whether they were given without names.
    """

    instances: Sequence[Instance | list[Fault]]
    partial: bool = False
    record: bool | None = None
    by_place: bool = False


class Door:
    """Reads instances for one model.

    So many attributes: what may be left out is known once, for both lanes.
    """

    def __init__(self, reader: EventReader, source: Source, instances_max: int, rows_min: int = ROWS_MIN) -> None:
        self._rows_min = rows_min
        self._reader, self._schema, self._max = reader, reader.payloads.reader, instances_max
        self._topic = source.topic
        self._id = None if source.id == "key" else find_field(self._schema, source.id, where="events.id")
        self._time = None if source.time == "record" else find_field(self._schema, source.time, where="events.time")
        self._scale = (1, 1) if self._time is None else time_scale(self._time, where="events.time")
        self._takes_key = self._id is None and all(field["name"] != KEY for field in self._schema.fields)
        self._rows = RowEncoder(source, reader.payloads, "events")
        self._roles = {field.path[0] for field in (self._id, self._time) if field is not None}
        some = list(made_up.payloads(self._schema, reader.plan, FILLERS))
        filler = next((one for one in some if all(one[name] is not None for name in self._roles)), some[0])
        self.may_miss = self._may_miss()
        self._filler_json = to_json(self._schema, filler)
        decoded = reader.payloads.decode_one(reader.payloads.encode(filler))
        assert not isinstance(decoded, Rejected)  # noqa: S101 - it was made of the schema
        self._missing = {name: decoded[1][name] for name in self.may_miss}
        self._typed = self._types()
        self.places = Places(reader.plan.names, instances_max)
        self._columns: RowPlan | None = None
        with contextlib.suppress(NotPlain):
            self._columns = RowPlan(reader.plan)

    def _may_miss(self) -> frozenset[str]:
        """Fields that say nothing to the model and may be left out, though the schema has no default for them."""
        needed = {name.partition(".")[0] for name in self._reader.plan.names}
        must = {field["name"] for field in self._schema.fields if "default" not in field}
        return frozenset(must - needed)

    def _types(self) -> tuple[TypedRecord, msgspec.json.Decoder[Any], Any] | None:
        """The types of the fast lane; None where the schema has a field that only the reference can judge."""
        fields: list[dict[str, Any]] = list(self._schema.fields)
        if any("default" in field for field in fields if field["name"] in self._roles):
            return None  # whether it was given is asked of the JSON
        if self._takes_key:
            fields.append({"name": KEY, "type": "string"})
        try:
            record = TypedRecord(self._schema, fields, {*self.may_miss, KEY})
        except NotPlain:
            return None
        many = GenericAlias(list, (record.type,))
        members: list[Any] = [("instances", many), ("on_error", str, "fail"), ("record", bool | None, None)]
        body = msgspec.defstruct("Body", members, forbid_unknown_fields=True)
        return record, msgspec.json.Decoder(body), many

    @property
    def example(self) -> dict[str, Any]:
        """An instance that can be used."""
        return {name: value for name, value in self._filler_json.items() if name not in self.may_miss}

    @property
    def has_fast_lane(self) -> bool:
        """Whether plain instances are read without the reference."""
        return self._typed is not None

    # --- the form with names ---

    def read(self, body: bytes, now_ms: int) -> Asked:
        """What ``{"instances": [{...}, ...]}`` asks for, or ``{"features": [...]}``: the model's, in their order.

        Raises
        ------
        Problem
            It cannot be read, or an instance is wrong and the caller wants all.
        """
        if self._typed is not None:
            try:
                given = self._typed[1].decode(body)
                partial = is_partial(given.on_error)
                self._check_count(len(given.instances))
                return Asked(self._plain(given.instances, now_ms), partial, given.record)
            except (msgspec.ValidationError, NotPlain):
                pass
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                raise not_json(error) from None
        return self.judge(document(body), now_ms)

    def judge(self, said: Any, now_ms: int) -> Asked:
        """The reference: what a document of either form asks for."""
        if is_by_place(said):
            return self._by_place(said, now_ms)
        instances, partial, record = envelope(said, "instances", self._max)
        return self.asked(instances, now_ms, partial=partial, record=record)

    def asked(
        self, instances: Sequence[Any], now_ms: int, *, partial: bool = False, record: bool | None = None
    ) -> Asked:
        """What these instances come to, each judged by the reference; Problem where one is wrong and all are wanted."""
        found = [self.one(row, value, now_ms) for row, value in enumerate(instances)]
        faults = [fault for item in found if isinstance(item, list) for fault in item]
        if faults and not partial:
            raise unusable(faults, len(found))
        return Asked(found, partial, record)

    def of_values(
        self, instances: Sequence[Any], now_ms: int, *, partial: bool = False, record: bool | None = None
    ) -> Asked:
        """The same, of JSON values: the fast lane where all of them are plain.

        Fast path of `asked`, equal to it: tests/equivalence/test_lanes_of_a_request.py.
        """
        if self._typed is not None:
            with contextlib.suppress(msgspec.ValidationError, NotPlain, UnicodeEncodeError):
                return Asked(self._plain(msgspec.convert(instances, self._typed[2]), now_ms), partial, record)
        return self.asked(instances, now_ms, partial=partial, record=record)

    def _check_count(self, count: int) -> None:
        if not 0 < count <= self._max:
            raise too_many(count, self._max)

    def _as_rows(self, given: Sequence[Any], now_ms: int) -> Rows | None:
        """Many instances as columns; None where they are to be looked at one by one."""
        if len(given) < self._rows_min or self._columns is None:
            return None
        assert self._typed is not None  # noqa: S101 - callers have looked
        try:
            columns = self._typed[0].columns(given)
            if not self._roles.isdisjoint(columns) or (self._takes_key and KEY in columns):
                return None
            return self._columns.rows(columns, self._as_told(now_ms))
        except NotPlain:
            return None

    def _plain(self, given: Sequence[Any], now_ms: int) -> Sequence[Instance]:
        """Instances out of typed records; NotPlain where one of them is to be judged by the reference."""
        assert self._typed is not None  # noqa: S101 - callers have looked
        record, plan = self._typed[0], self._reader.plan
        rows = self._as_rows(given, now_ms)
        if rows is not None:
            return rows
        found = []
        for one in given:
            payload = record.payload(one)
            key = payload.pop(KEY, None) if self._takes_key else None
            event_id, time_ms = self._placed(payload, key, now_ms)
            extracted = plan.extract_one(payload)
            if isinstance(extracted, Rejected):
                raise NotPlain
            found.append(Instance(extracted[0], extracted[1], event_id, time_ms))
        return found

    def _placed(self, payload: dict[str, Any], key: str | None, now_ms: int) -> tuple[str | None, int]:
        """Id and time; what may be left out is filled in first."""
        own_id = key is not None if self._id is None else self._id.path[0] in payload
        own_time = self._time is not None and self._time.path[0] in payload
        if not own_id and not own_time:
            return None, self._as_told(now_ms)
        if len(payload) < len(self._schema.fields):
            payload.update({name: value for name, value in self._missing.items() if name not in payload})
        if not own_time and self._time is not None:
            self._set_now(payload, now_ms)
        placed = self._reader.placed(payload, b"-" if key is None else key.encode(), now_ms, now_ms)
        if isinstance(placed, Rejected):
            raise NotPlain
        return (placed[0] if own_id else None), placed[1]

    def _as_told(self, now_ms: int) -> int:
        """A moment as the time of an event says it: of a date the day is left."""
        if self._time is None or len(self._time.path) > 1:
            return now_ms
        factor, divisor = self._scale
        return self._raw(now_ms) * factor // divisor

    def _raw(self, ms: int) -> int:
        """Milliseconds in the unit of the event's time."""
        factor, divisor = self._scale
        return ms * divisor // factor

    def _set_now(self, payload: dict[str, Any], now_ms: int) -> None:
        """The time of an event that says none."""
        assert self._time is not None  # noqa: S101
        inner: Any = payload
        for part in self._time.path[:-1]:
            if inner[part] is None:  # by its default: then its time is null, which is judged
                return
            inner[part] = dict(inner[part])
            inner = inner[part]
        inner[self._time.path[-1]] = self._raw(now_ms)

    # --- the reference ---

    def one(self, row: int, value: Any, now_ms: int) -> Instance | list[Fault]:
        """One instance as the worker would judge the event; a list of what is wrong with it."""
        at, key = f"/instances/{row}", None
        given = value
        if isinstance(value, dict):
            given = dict(value)
            if self._takes_key:
                key = given.pop(KEY, None)
                if key is not None and not _is_text(key):
                    return [Fault(f"{at}/{KEY}", "missing_id", "the key is no text")]
            given |= {name: self._filler_json[name] for name in self.may_miss if name not in given}
        try:
            payload = from_json(self._schema, given)
        except SchemaMismatch:
            return _mismatched(at, mismatches(self._schema, given))
        if self._time is not None and self._time.path[0] not in value:
            self._set_now(payload, now_ms)
        try:
            encoded = self._reader.payloads.encode(payload)
        except _NOT_AVRO as error:
            return _not_avro(at, error)
        found = self._judged(at, b"-" if key is None else key.encode(), encoded, now_ms)
        given_id = key is not None if self._id is None else self._id.path[0] in value
        return found if given_id or isinstance(found, list) else found._replace(event_id=None)

    def _judged(self, at: str, key: bytes, value: bytes, now_ms: int) -> Instance | list[Fault]:
        """A record as the worker judges it."""
        event = self._reader.decode_one(Record(self._topic, 0, 0, now_ms, key, value), now_ms)
        if isinstance(event, DeadLetter):
            return [Fault(self._pointer(event, at), event.reason, event.message)]
        return Instance(event.features, event.imputed, event.event_id, event.time_ms)

    def whole(self, row: int, value: Any, now_ms: int, own_id: str) -> Recorded | list[Fault]:
        """One instance that is to become an event, so all of it has to be there but for its id and its time.

        Parameters
        ----------
        own_id
            Of an event that has none of its own, where ids are texts.
        """
        at = f"/instances/{row}"
        if isinstance(value, dict):
            if "record" in value and all(field["name"] != "record" for field in self._schema.fields):
                words = "record is no field: an event's place follows from its id"
                return [Fault(f"{at}/record", "schema_mismatch", words)]
            value = self._filled(value, now_ms, own_id)
        try:
            key, encoded = self._rows.encode(value)
        except SchemaMismatch as error:
            given = value
            if isinstance(value, dict) and self._takes_key:
                given = {name: one for name, one in value.items() if name != KEY}
            return _mismatched(at, mismatches(self._schema, given) or [error])
        except _NOT_AVRO as error:
            return _not_avro(at, error)
        found = self._judged(at, key, encoded, now_ms)
        return found if isinstance(found, list) else Recorded(found, key, encoded)

    def _filled(self, value: dict[str, Any], now_ms: int, own_id: str) -> dict[str, Any]:
        """With an id and a time, where it has none and they stand at the top."""
        filled = dict(value)
        if self._id is None:
            if self._takes_key:
                filled.setdefault(KEY, own_id)
        elif self._id.base == "string" and len(self._id.path) == 1:
            filled.setdefault(self._id.name, own_id)
        if self._time is not None and len(self._time.path) == 1:
            filled.setdefault(self._time.name, self._raw(now_ms))
        return filled

    def _pointer(self, dead: DeadLetter, at: str) -> str:
        """To the feature that a dead letter's message names first, or the id or the time that it is about."""
        names = [name for name in self._reader.plan.names if dead.message.startswith(f"feature {name}")]
        if names:
            return pointer_of(max(names, key=len), at)
        field = {"missing_id": self._id, "out_of_range_time": self._time}.get(dead.reason)
        return pointer_of(field.name, at) if field is not None else at

    # --- the form without names ---

    def _by_place(self, said: Any, now_ms: int) -> Asked:
        """One event or a list of them, each a list of values in the order of the model's features."""
        placed = self.places.named(said)

        def at_place(faults: Sequence[Fault]) -> list[Fault]:
            return [self.places.fault(fault, is_one=placed.is_one) for fault in faults]

        try:
            asked = self.of_values(placed.instances, now_ms, partial=placed.partial, record=placed.record)
        except Problem as problem:
            raise unusable(at_place(problem.faults), len(placed.instances)) from None
        found = asked.instances
        if placed.partial and not isinstance(found, Rows):
            found = [at_place(one) if isinstance(one, list) else one for one in found]
        return asked._replace(instances=found, by_place=True)


_NOT_AVRO = (ValueError, OverflowError, TypeError)


def _not_avro(at: str, error: Exception) -> list[Fault]:
    return [Fault(at, "schema_mismatch", f"it cannot be written as Avro: {error}")]


def _mismatched(at: str, wrong: Sequence[SchemaMismatch]) -> list[Fault]:
    return [Fault(pointer_to(each, at), "schema_mismatch", str(each)) for each in wrong]


def _is_text(value: Any) -> bool:
    """Whether a value is a text that UTF-8 can hold."""
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False

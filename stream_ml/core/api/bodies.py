"""Bodies of requests: read as JSON, their envelopes, and the problems of those that have another form."""

import itertools
import uuid
from collections.abc import Sequence
from typing import Any

from stream_ml.core.api.problems import FAULTS_MAX, MEMBER_CHARS, Fault, Problem, step_of
from stream_ml.core.api.typed import NotPlain
from stream_ml.core.avro.json_text import read_json

NESTING_MAX = 64


def document(body: bytes) -> Any:
    """A body as JSON values; Problem where it is none."""
    try:
        return read_json(body, NESTING_MAX, is_strict=True)
    except (ValueError, RecursionError) as error:
        raise not_json(error) from None


def not_json(error: Exception) -> Problem:
    """The problem of a body that cannot be read."""
    what = f"it nests more than {NESTING_MAX} brackets" if isinstance(error, RecursionError) else str(error)
    return Problem("not-json", f"the body cannot be read: {what[:200]}")


def envelope(said: Any, name: str, most: int) -> tuple[list[Any], bool, bool | None]:
    """The instances of a body, and what stands beside them; Problem where it has another form."""
    if not isinstance(said, dict):
        raise unusable([Fault("", "schema_mismatch", f'the body is an object: {{"{name}": [...]}}')], 0)
    strange = (key[:MEMBER_CHARS] for key in said if key not in (name, "on_error", "record"))
    faults = [
        Fault(step_of(key), "schema_mismatch", f"{key!r} is no member; there are {name}, on_error, record")
        for key in itertools.islice(strange, FAULTS_MAX)
    ]
    rows: Any = said.get(name)
    on_error, record = said.get("on_error", "fail"), said.get("record")
    if not isinstance(rows, list):
        faults.append(Fault(f"/{name}", "schema_mismatch", f"{name} is a list"))
    if on_error not in ("fail", "partial"):
        faults.append(Fault("/on_error", "schema_mismatch", "on_error is fail or partial"))
    if record is not None and not isinstance(record, bool):
        faults.append(Fault("/record", "schema_mismatch", "record is true or false"))
    if faults:
        raise unusable(faults, 0)
    if not 0 < len(rows) <= most and (name != "features" or isinstance((rows or [[]])[0], list)):
        raise too_many(len(rows), most, name)
    return rows, on_error == "partial", record


def is_partial(on_error: str) -> bool:
    """Whether what is wrong with one instance leaves the others alone; NotPlain where the word is none of the two."""
    if on_error not in ("fail", "partial"):
        raise NotPlain
    return on_error == "partial"


def too_many(count: int, most: int, name: str = "instances") -> Problem:
    """The problem of a request without instances, or with more than are taken."""
    if not count:
        return unusable([Fault(f"/{name}", "schema_mismatch", "there is none")], 0)
    return Problem("too-large", f"{count:,} instances; at most {most:,} in one request: send several, or a job")


def unusable(faults: Sequence[Fault], count: int) -> Problem:
    """The problem of instances that cannot be used."""
    first = f"{faults[0].pointer}: {faults[0].detail}"[:300]
    rest = f" ({len(faults)} errors)" if len(faults) > 1 else ""
    return Problem("not-of-schema", f"{first}{rest}", faults=faults, instances=count)


def new_id(now_ms: int, random: bytes) -> str:
    """An id that no other event has: a UUID of version 7 (RFC 9562), of a time and ten random bytes."""
    bits = (now_ms & (2**48 - 1)) << 80 | 7 << 76 | (int.from_bytes(random[:2], "big") & 0xFFF) << 64
    bits |= 2 << 62 | int.from_bytes(random[2:10], "big") & (2**62 - 1)
    return str(uuid.UUID(int=bits))

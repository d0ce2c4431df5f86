"""Jobs: many instances that are scored aside. What is known of one is a fold of two topics, so any process can say it.

::

    submitted (jobs) ──► queued ──► running (results of chunks) ──► done
                            └───────────┴──► cancelled (jobs), expired (its time is over)

1. A job is cut into chunks, each a record of the requests. A chunk is scored by one version, and its result is one
   record, written in the transaction that commits the request. So a chunk is scored once.
2. `submitted` is written once all chunks are there: a job whose caller was told nothing is none.
3. A key that is sent again may have left chunks of an earlier body under the same id. So the moment at which a job was
   submitted belongs to its name: only results of chunks of that moment are the job's, of two of a chunk the first.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec

from stream_ml.core.api.bodies import unusable
from stream_ml.core.api.problems import Fault, Problem
from stream_ml.core.avro.json_text import read_json
from stream_ml.core.avro.record import LaterFormat

FORMAT = 1
JOBS_MAX = 10_000  # that are remembered; the oldest go first
STRAYS_MAX = 10_000  # results that came before their job
CHUNK_BYTES = 400_000  # of the instances of one chunk, so that a record of Kafka's usual size holds them
CHUNK_ROWS = 1_000
SCORES_BYTES = 400_000  # of the scores in one result, which has ids and flags as well
SCORE_BYTES = 30  # of the number of one class, with its marks
RECORD_BYTES = 256  # of a record beside its key and its value
NESTING_MAX = 70

_Text = Annotated[str, msgspec.Meta(max_length=1_000)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Status = Literal["queued", "running", "done", "cancelled", "expired"]
ON_ITS_WAY: Sequence[Status] = ("queued", "running")  # whose results are still to come
Kind = TypeVar("Kind", bound=msgspec.Struct)


class _Format(msgspec.Struct):
    format: int


_FORMAT = msgspec.json.Decoder(_Format)


class Chunk(msgspec.Struct, frozen=True):
    """A part of a job, as it waits to be scored.

    Parameters
    ----------
    first
        Row of its first instance.
    at_ms
        When the job was submitted: the time of instances that have none.
    instances
        A list as JSON: numbers of any size stay what they are.
    """

    job: _Text
    number: _Count
    first: _Count
    at_ms: _Count
    expires_ms: _Count
    instances: msgspec.Raw
    format: int = FORMAT

    def rows(self) -> list[Any]:
        """The instances; ValueError where they are none."""
        found = read_json(bytes(self.instances), NESTING_MAX, is_strict=True)
        if not isinstance(found, list) or not 0 < len(found) <= CHUNK_ROWS:
            raise ValueError("instances: a list is wanted")
        return found


class Result(msgspec.Struct, frozen=True):
    """What became of a chunk, by which version; `at_ms` is the chunk's."""

    job: _Text
    number: _Count
    first: _Count
    at_ms: _Count
    rows: _Count
    failed: _Count
    lineage: _Text
    position: _Count
    epoch: _Count
    predictions: list[dict[str, Any]]
    format: int = FORMAT


class Submitted(msgspec.Struct, frozen=True):
    """A job as its record says it.

    Parameters
    ----------
    digest
        Of the body, so that a key which comes with another one is noticed.
    """

    id: _Text
    principal: _Text
    rows: _Count
    chunks: _Count
    created_ms: _Count
    expires_ms: _Count
    digest: _Text
    format: int = FORMAT


class Cancelled(msgspec.Struct, frozen=True):
    """A job that its caller ended before its time; `at_ms`: when it was submitted."""

    cancelled: _Text
    at_ms: _Count
    format: int = FORMAT


class Done(NamedTuple):
    """Where a chunk's result stands, and what its record says in short."""

    partition: int
    offset: int
    at_ms: int
    rows: int
    failed: int
    lineage: str
    position: int


def rows_of(classes: Sequence[str]) -> int:
    """How many rows a chunk has at most, where each is answered with a score for each of these classes."""
    return max(1, min(CHUNK_ROWS, SCORES_BYTES // sum((SCORE_BYTES + len(_text(name)) for name in classes), start=1)))


def chunks_of(
    job: str, instances: Sequence[Any], at_ms: int, expires_ms: int, rows_max: int = CHUNK_ROWS
) -> Iterator[Chunk]:
    """A job's chunks: of so many rows and bytes at most.

    Raises
    ------
    Problem
        An instance is larger than a chunk, or has a number that is larger than all of JSON's.
    """
    first, size = 0, 0
    held: list[Any] = []
    number = 0
    for row, one in enumerate(instances):
        try:
            length = len(_text(one))
        except ValueError:
            fault = Fault(f"/instances/{row}", "not_finite", "a number in it is larger than any that JSON can say")
            raise unusable([fault], len(instances)) from None
        if length > CHUNK_BYTES:
            words = f"instance {row}: {length:,} bytes of JSON; at most {CHUNK_BYTES:,} in a job"
            raise Problem("too-large", words)
        if held and (len(held) >= rows_max or size + length > CHUNK_BYTES):
            yield Chunk(job, number, first, at_ms, expires_ms, _raw(held))
            held, size, first, number = [], 0, row, number + 1
        held.append(one)
        size += length
    if held:
        yield Chunk(job, number, first, at_ms, expires_ms, _raw(held))


def _raw(instances: list[Any]) -> msgspec.Raw:
    return msgspec.Raw(_text(instances))


def _text(value: Any) -> bytes:
    """A value as JSON; ValueError where a number is beyond all that JSON can say."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def chunk_key(job: str, number: int) -> bytes:
    """Key of a chunk's request and of its result."""
    return f"{job}/{number}".encode()


def encode(record: Chunk | Result | Submitted | Cancelled) -> bytes:
    """A record's value."""
    return msgspec.json.encode(record)


def encode_within(result: Result, record_bytes_max: int) -> bytes:
    """A result's value; where no record could hold it each row says so, for else its chunk would be scored for ever."""
    value = encode(result)
    if len(value) + len(chunk_key(result.job, result.number)) + RECORD_BYTES <= record_bytes_max:
        return value
    words = f"the answers of these {result.rows} rows are larger than a record of Kafka's ({record_bytes_max:,} bytes)"
    told = {"error": {"code": "too_large", "detail": words}}
    return encode(msgspec.structs.replace(result, failed=result.rows, predictions=[told] * result.rows))


def decode(value: bytes | None, kind: type[Kind]) -> Kind:
    """A record of this kind.

    Raises
    ------
    LaterFormat
        A later version wrote it.
    ValueError
        It is none.
    """
    try:
        said = _FORMAT.decode(value or b"")
        if said.format > FORMAT:
            words = f"a {kind.__name__.lower()} of a job has format {said.format}, and this version reads {FORMAT}"
            raise LaterFormat(words)
        return msgspec.json.decode(value or b"", type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(str(error)[:200]) from None


def decode_state(value: bytes | None) -> Submitted | Cancelled:
    """A record of the jobs: one that is submitted, or one that is cancelled; errors as of `decode`."""
    try:
        return decode(value, Cancelled)
    except LaterFormat:
        raise
    except ValueError:
        return decode(value, Submitted)


class Job:
    """What is known of one."""

    def __init__(self, submitted: Submitted) -> None:
        self.submitted = submitted
        self.done: dict[int, Done] = {}
        self.is_cancelled = False

    @property
    def is_done(self) -> bool:
        """Whether all of it is scored."""
        return len(self.done) >= self.submitted.chunks

    def status(self, now_ms: int) -> Status:
        """How far it is."""
        if self.is_done:
            return "done"
        if self.is_cancelled:
            return "cancelled"
        if now_ms >= self.submitted.expires_ms:
            return "expired"
        return "running" if self.done else "queued"

    def told(self, now_ms: int) -> dict[str, Any]:
        """The job as its caller sees it."""
        done = [self.done[number] for number in sorted(self.done)]
        versions = sorted({(one.lineage, one.position) for one in done}, key=lambda one: one[1])
        return {
            "id": self.submitted.id,
            "status": self.status(now_ms),
            "rows": self.submitted.rows,
            "done": sum(one.rows for one in done),
            "failed": sum(one.failed for one in done),
            "created_ms": self.submitted.created_ms,
            "expires_ms": self.submitted.expires_ms,
            "versions": [f"{lineage}/{position}" for lineage, position in (versions[:1] + versions[-1:])],
        }

    def ready_from(self, number: int) -> list[Done]:
        """Chunks from this one on that are scored, without a gap."""
        found = []
        while number in self.done:
            found.append(self.done[number])
            number += 1
        return found


class JobBook:
    """All jobs, by their records in any order; one thread only."""

    def __init__(self) -> None:
        self.jobs: OrderedDict[str, Job] = OrderedDict()
        self._strays: OrderedDict[tuple[str, int], dict[int, Done]] = OrderedDict()  # by id and moment, as the others
        self._cancelled: OrderedDict[tuple[str, int], None] = OrderedDict()

    def state(self, said: Submitted | Cancelled) -> None:
        """Take a record of the jobs."""
        if isinstance(said, Cancelled):
            self._cancelled[said.cancelled, said.at_ms] = None
            while len(self._cancelled) > JOBS_MAX:
                self._cancelled.popitem(last=False)
            job = self.jobs.get(said.cancelled)
            if job is not None and job.submitted.created_ms == said.at_ms:
                job.is_cancelled = True
            return
        before = self.jobs.get(said.id)
        if before is not None and said.created_ms < before.submitted.expires_ms:  # the same request again
            return
        self.jobs.pop(said.id, None)
        name = said.id, said.created_ms
        job = self.jobs[said.id] = Job(said)
        job.is_cancelled = name in self._cancelled
        job.done.update(self._strays.pop(name, {}))
        while len(self.jobs) > JOBS_MAX or next(iter(self.jobs.values())).submitted.expires_ms <= said.created_ms:
            self.jobs.popitem(last=False)

    def result(self, job_id: str, number: int, done: Done) -> None:
        """Take a result; of a chunk that has one already it is nothing new."""
        job = self.jobs.get(job_id)
        if job is not None and job.submitted.created_ms == done.at_ms:
            if number < job.submitted.chunks:
                job.done.setdefault(number, done)
            return
        self._strays.setdefault((job_id, done.at_ms), {}).setdefault(number, done)
        while len(self._strays) > STRAYS_MAX:
            self._strays.popitem(last=False)

    def is_over(self, job_id: str, at_ms: int) -> bool:
        """Whether nobody waits any more for the job that was submitted then."""
        return (job_id, at_ms) in self._cancelled

    def active(self, principal: str, now_ms: int) -> int:
        """How many jobs of a caller are on their way."""
        return sum(
            job.submitted.principal == principal and job.status(now_ms) in ON_ITS_WAY for job in self.jobs.values()
        )

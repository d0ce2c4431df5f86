"""Jobs over HTTP: many instances are left here, scored aside by runners, and their predictions fetched in pages."""

import asyncio
import contextlib
import hashlib
import secrets
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

from stream_ml.config import Config
from stream_ml.core.api.bodies import document, new_id, not_json, unusable
from stream_ml.core.api.jobs import (
    ON_ITS_WAY,
    Cancelled,
    Chunk,
    Done,
    Job,
    JobBook,
    Result,
    Submitted,
    chunk_key,
    chunks_of,
    decode,
    encode,
    rows_of,
)
from stream_ml.core.api.problems import FAULTS_MAX, Fault, Problem
from stream_ml.serve.handlers.aside import Aside
from stream_ml.serve.handlers.repeats import HEADER, checked_key
from stream_ml.serve.http.messages import NDJSON, Answer, Request, json_answer
from stream_ml.serve.live import Live
from stream_ml.serve.producer import Writer

SLICE = 250  # rows that are judged between two looks at other requests
PAGE_CHUNKS, PAGE_BYTES = 20, 4 * 2**20  # of one page of results
AT_ONCE = 2  # pages that are read at once
SUBMITTED_AT_ONCE = 4  # bodies that are read and written at once: a row takes ten times its text
LISTED_MAX = 100
ROW_BYTES_MAX = 2**21  # of the text of one instance, before it is read: it may have escapes
_ROOM = uuid.UUID("b6f6f5a2-6d0b-4a52-9c1e-0f5f6f7e3a11")  # of ids that are made of a caller's key


class Jobs(Protocol):
    """What is known of all jobs, and what they were answered."""

    book: JobBook
    lock: Any
    problem: str
    caught_up: threading.Event

    def results(self, where: Sequence[Done]) -> list[bytes]:
        """Values of results, in their order; it blocks."""


class JobHandlers:
    """The handlers."""

    def __init__(self, config: Config, live: Live, writer: Writer | None, jobs: Jobs | None) -> None:
        self._config, self._settings = config, config.serve.jobs
        self._live, self._writer, self._jobs = live, writer, jobs
        self._wait_s = config.serve.wait / 1000
        self._aside = Aside(AT_ONCE, f"{AT_ONCE} pages of results are being read; come again")
        self._submitting = Counter[str]()

    # --- submitting one ---

    async def submit(self, request: Request) -> Answer:
        """``{"instances": [...]}``, or an instance a line (application/x-ndjson), to the id of a job."""
        settings, writer, jobs = self._parts()
        self._live.answering()
        now_ms, digest = time.time_ns() // 1_000_000, hashlib.sha256(request.body).hexdigest()
        job_id = self._id(request, now_ms)
        known = self._known(job_id)
        if known is None or now_ms >= known.submitted.expires_ms:  # its key may be taken again
            known = None
            with self._one_more(request.principal, settings.active_max, jobs, now_ms):
                submitted = await self._written(request, job_id, now_ms, digest, writer)
        elif known.submitted.principal != request.principal or known.submitted.digest != digest:
            raise Problem("key-reused", "this Idempotency-Key came with another body before")
        else:
            submitted = known.submitted
        told = (known or Job(submitted)).told(now_ms)
        return json_answer(told, 202, [(b"location", f"/v1/jobs/{job_id}".encode())])

    @contextlib.contextmanager
    def _one_more(self, principal: str, most: int, jobs: Jobs, now_ms: int) -> Iterator[None]:
        """Count a job as long as it is taken; Problem where its caller, or this process, has too many."""
        with jobs.lock:
            active = jobs.book.active(principal, now_ms) + self._submitting[principal]
        if active >= most:
            words = f"{active} jobs of this caller are on their way; at most {most}"
            raise Problem("rate-limited", words, headers={"Retry-After": "10"})
        if self._submitting.total() >= SUBMITTED_AT_ONCE:
            words = f"{SUBMITTED_AT_ONCE} jobs are being taken, each with all of its rows; come again"
            raise Problem("overloaded", words, headers={"Retry-After": "2"})
        self._submitting[principal] += 1
        try:
            yield
        finally:
            self._submitting[principal] -= 1
            self._submitting += Counter()  # keeps those that are more than none

    def _id(self, request: Request, now_ms: int) -> str:
        """Of the caller's key where there is one, so that any process knows the job again."""
        key = request.headers.get(HEADER)
        if key is None:
            return new_id(now_ms, secrets.token_bytes(10))
        return str(uuid.uuid5(_ROOM, f"{request.principal}\n{checked_key(key)}"))

    async def _written(self, request: Request, job_id: str, now_ms: int, digest: str, writer: Writer) -> Submitted:
        settings, _, _ = self._parts()
        instances = await self._instances(request)
        await self._judge(instances, now_ms)
        expires_ms, config = now_ms + settings.keep, self._config
        chunks, domain = list[Chunk](), self._live.answering().model.settings.domain
        rows_max = rows_of(domain.classes if domain.task == "multiclass" else ())
        for chunk in chunks_of(job_id, instances, now_ms, expires_ms, rows_max):
            chunks.append(chunk)
            await asyncio.sleep(0)
        for chunk in chunks:
            await writer.write(config.job_requests, [(chunk_key(job_id, chunk.number), encode(chunk), ())])
        submitted = Submitted(job_id, request.principal, len(instances), len(chunks), now_ms, expires_ms, digest)
        await writer.write(config.jobs, [(job_id.encode(), encode(submitted), ())])
        return submitted

    async def _instances(self, request: Request) -> list[Any]:
        settings, _, _ = self._parts()
        is_lines = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == NDJSON.encode()
        texts = _lines_of(request.body, 2 * settings.rows_max) if is_lines else _rows_of(request.body)
        self._check_count(len(texts), settings.rows_max)
        found, name = [], "line " if is_lines else "/instances/"
        for number, text in enumerate(texts):
            if number % SLICE == 0:
                await asyncio.sleep(0)
            where = f"{name}{number + is_lines}"
            try:
                if len(raw := bytes(text)) > ROW_BYTES_MAX:
                    raise Problem("too-large", f"{len(raw):,} bytes; at most {ROW_BYTES_MAX:,} of one instance")
                found.append(document(raw))
            except Problem as problem:
                raise Problem(problem.kind, f"{where}: {problem.detail}") from None
        return found

    def _check_count(self, count: int, most: int) -> None:
        if not count:
            raise unusable([Fault("/instances", "schema_mismatch", "there is none")], 0)
        if count > most:
            raise Problem("too-large", f"{count:,} instances; at most {most:,} in one job (serve.jobs.rows_max)")

    async def _judge(self, instances: Sequence[Any], now_ms: int) -> None:
        """Problem where one of them cannot be used; other requests go between."""
        faults = list[Fault]()
        for first in range(0, len(instances), SLICE):
            door = self._live.answering().door
            asked = door.of_values(list(instances[first : first + SLICE]), now_ms, partial=True)
            for one in asked.instances if any(isinstance(one, list) for one in asked.instances) else ():
                faults += [_moved(fault, first) for fault in one] if isinstance(one, list) else []
            if len(faults) >= FAULTS_MAX:
                break
            await asyncio.sleep(0)
        if faults:
            raise unusable(faults, len(instances))

    # --- asking for one ---

    async def status(self, request: Request) -> Answer:
        """How far a job is."""
        job = await self._own(request)
        return json_answer(job.told(time.time_ns() // 1_000_000))

    async def listed(self, request: Request) -> Answer:
        """The caller's jobs, the newest first."""
        _, _, jobs = self._parts()
        now_ms = time.time_ns() // 1_000_000
        with jobs.lock:
            own = [job for job in jobs.book.jobs.values() if job.submitted.principal == request.principal]
            told = [job.told(now_ms) for job in own[: -LISTED_MAX - 1 : -1]]
        return json_answer({"jobs": told})

    async def cancel(self, request: Request) -> Answer:
        """End a job before its time; what is scored by then stays."""
        _, writer, jobs = self._parts()
        job = await self._own(request)
        now_ms = time.time_ns() // 1_000_000
        if job.status(now_ms) in ON_ITS_WAY:
            cancelled = Cancelled(job.submitted.id, job.submitted.created_ms)
            await writer.write(self._config.jobs, [(f"{job.submitted.id}/cancel".encode(), encode(cancelled), ())])
            with jobs.lock:
                jobs.book.state(cancelled)
        return json_answer(job.told(now_ms))

    async def results(self, request: Request) -> Answer:
        """A page of predictions, one a line; the header Link names the next one, while there is or will be one."""
        _, _, jobs = self._parts()
        job = await self._own(request)
        after = _cursor(request.query, job.submitted.chunks)
        with jobs.lock:
            ready, status = job.ready_from(after)[:PAGE_CHUNKS], job.status(time.time_ns() // 1_000_000)
        values = await self._aside.ask(jobs.results, ready) if ready else []
        lines, taken = bytearray(), 0
        for value in values:
            if taken and len(lines) > PAGE_BYTES:
                break
            lines += _lines(value)
            taken += 1
        headers = [(b"stream-ml-job-status", status.encode())]
        following = after + taken
        if following < job.submitted.chunks and (status in ON_ITS_WAY or following in job.done):
            link = f'</v1/jobs/{job.submitted.id}/results?after={following}>; rel="next"'
            headers.append((b"link", link.encode()))
        return Answer(200, bytes(lines), headers, NDJSON.encode())

    # --- whose it is ---

    def _parts(self) -> tuple[Any, Writer, Jobs]:
        assert self._settings is not None and self._writer is not None and self._jobs is not None  # noqa: S101
        if self._jobs.problem:
            raise Problem("not-looked-up", self._jobs.problem, headers={"Retry-After": "60"})
        if not self._jobs.caught_up.is_set():
            words = "the topics of jobs are still being read: nobody knows yet which jobs there are"
            raise Problem("not-looked-up", words, headers={"Retry-After": "2"})
        return self._settings, self._writer, self._jobs

    def _known(self, job_id: str) -> Job | None:
        _, _, jobs = self._parts()
        with jobs.lock:
            return jobs.book.jobs.get(job_id)

    async def _own(self, request: Request) -> Job:
        """The caller's job; waited for a moment, because another process may have taken it just now."""
        job_id = request.params["job"]
        found = self._known(job_id)
        if found is None:
            await self._live.wait(lambda: self._known(job_id) is not None, self._wait_s)
            found = self._known(job_id)
        if found is None or found.submitted.principal != request.principal:
            raise Problem("not-found", "there is no such job of yours, or its time is over")
        return found


def _moved(fault: Fault, first: int) -> Fault:
    _, name, row, *rest = fault.pointer.split("/")
    return fault._replace(pointer="/".join(("", name, str(int(row) + first), *rest)))


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    instances: list[msgspec.Raw]


_ASKED = msgspec.json.Decoder(_Asked)


def _rows_of(body: bytes) -> list[msgspec.Raw]:
    """The texts of instances, each to be read by itself: all at once would hold the loop for seconds."""
    try:
        return _ASKED.decode(body).instances
    except msgspec.ValidationError:
        words = 'the body is {"instances": [...]}, or an instance a line (application/x-ndjson)'
        raise unusable([Fault("/instances", "schema_mismatch", words)], 0) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise not_json(error) from None


def _lines_of(body: bytes, most: int) -> list[bytes]:
    """Lines that are not empty; Problem where there are more than `most` of any kind."""
    if body.count(b"\n") > most:
        raise Problem("too-large", f"the body has more than {most:,} lines")
    return [line for line in body.split(b"\n") if line.strip()]


def _cursor(query: bytes, chunks: int) -> int:
    pairs = [part.partition(b"=") for part in query.split(b"&") if part]
    found = [value for name, _, value in pairs if name == b"after"]
    if not found:
        return 0
    if len(found) > 1 or not found[0].isdigit() or len(found[0]) > 9 or int(found[0]) > chunks:
        raise Problem("not-readable", "after is what the header Link of the page before has")
    return int(found[0])


def _lines(value: bytes) -> bytes:
    result = decode(value, Result)
    version = f"{result.lineage}/{result.position}"
    rows = enumerate(result.predictions, result.first)
    return b"".join(msgspec.json.encode({"row": row, **one, "version": version}) + b"\n" for row, one in rows)

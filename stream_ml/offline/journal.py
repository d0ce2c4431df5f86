"""What an app without Kafka has taken, in the order in which it did: durable before it is answered or learned.

A line for each record, JSON, behind one that names what it was begun with. After a crash the app takes all of it once
more; later it is merged into the topics of its service. A last line that was cut off by a crash was answered to nobody:
it is removed.
"""

import base64
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from stream_ml.errors import ConfigError

FORMAT = 1
LINE_BYTES_MAX = 32_000_000
RECORD_BYTES_MAX = 1_000_000  # of key and value: what a producer takes, once it is merged
BASE = "begun with"
Kind = Literal["events", "feedback"]


class Taken(NamedTuple):
    """A record as it was taken.

    Parameters
    ----------
    now_ms
        What the clock said then; `timestamp_ms` is the record's own.
    mark
        How far its source was read then, as whoever gave it says; empty: nobody does.
    """

    kind: Kind
    now_ms: int
    timestamp_ms: int
    mark: str
    key: bytes
    value: bytes


class Journal:
    """One file, for one process at a time.

    Parameters
    ----------
    base
        What it is begun with; one that was begun with another is refused, because the model has learned it already, or
        never can.
    """

    def __init__(self, path: Path, base: str) -> None:
        self.path = path
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self._file: IO[bytes] = os.fdopen(descriptor, "a+b", buffering=0)
        except OSError as error:
            raise ConfigError(f"the journal {path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ConfigError(f"{path} is another process's journal", "give each process one of its own") from None
        try:
            self._begin(base)
        except BaseException:
            self._file.close()
            raise

    def _begin(self, base: str) -> None:
        self._cut_what_was_torn()
        if self._file.seek(0, os.SEEK_END) == 0:
            self._append(json.dumps([FORMAT, BASE, base]).encode() + b"\n")
            folder = os.open(self.path.absolute().parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # else its name may go with the power
            finally:
                os.close(folder)
            return
        begun = base_of(self.path)
        if begun != base:
            raise ConfigError(
                f"the journal {self.path} was begun with {begun}, and this is {base}",
                f"stream-ml merge CONFIG {self.path}, then name a new journal",
            )

    def _cut_what_was_torn(self) -> None:
        end = self._file.seek(0, os.SEEK_END)
        at = end
        while at > 0:
            size = min(at, 1 << 16)
            self._file.seek(at - size)
            newline = self._file.read(size).rfind(b"\n")
            if newline >= 0:
                at += newline + 1 - size
                break
            at -= size
        if at != end:
            self._file.truncate(at)

    def append(self, taken: Sequence[Taken]) -> None:
        """Write records and see that the disk has them.

        Raises
        ------
        ConfigError
            The disk refuses; nothing of it is there afterwards.
        """
        self._append(b"".join(map(line_of, taken)))

    def _append(self, lines: bytes) -> None:
        before, left = self._file.seek(0, os.SEEK_END), memoryview(lines)
        try:
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(before)
            raise ConfigError(
                f"the journal {self.path} cannot be written: {error.strerror}", "free some room"
            ) from error

    def close(self) -> None:
        """Let another process have it."""
        self._file.close()


def line_of(taken: Taken) -> bytes:
    """A record as a line."""
    texts = (base64.b64encode(part).decode() for part in (taken.key, taken.value))
    return json.dumps([FORMAT, *taken[:4], *texts]).encode() + b"\n"


def base_of(path: Path) -> str:
    """What a journal was begun with; ConfigError where it is none."""
    try:
        with path.open("rb") as file:
            version, word, base = json.loads(file.readline(LINE_BYTES_MAX))
    except (OSError, ValueError, TypeError, RecursionError):
        raise ConfigError(f"{path} is no journal of stream-ml") from None
    if word != BASE or not isinstance(base, str):
        raise ConfigError(f"{path} is no journal of stream-ml")
    if version != FORMAT:
        raise ConfigError(f"{path}: format {version}, and this version reads {FORMAT}", "update stream-ml")
    return base


def read_journal(path: Path) -> Iterator[Taken]:
    """The records of a file, in their order; one that is being written may lack its last one.

    Raises
    ------
    ConfigError
        It cannot be read, or a line is none of this version's; it names the line.
    """
    base_of(path)
    try:
        with path.open("rb") as file:
            file.readline(LINE_BYTES_MAX)
            for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES_MAX), b""), 2):
                if not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
                    return
                yield _taken(line, f"{path}, line {number}")
    except OSError as error:
        raise ConfigError(f"the journal {path} cannot be read: {error.strerror}") from error


def _taken(line: bytes, where: str) -> Taken:
    try:
        found: Any = json.loads(line)
        version, kind, now_ms, timestamp_ms, mark, key, value = found
        if version != FORMAT:
            raise ConfigError(f"{where}: format {version}, and this version reads {FORMAT}", "update stream-ml")
        are_numbers = all(type(number) is int for number in (now_ms, timestamp_ms))
        if kind not in ("events", "feedback") or not are_numbers or not isinstance(mark, str):
            raise ValueError(kind)
        key, value = (base64.b64decode(part, validate=True) for part in (key, value))
        return Taken(kind, now_ms, timestamp_ms, mark, key, value)
    except (ValueError, TypeError, RecursionError):
        raise ConfigError(f"{where}: this is no record of a journal") from None

"""Checkpoints in a directory: caches of the fold, each named by lineage and position.

One file is a JSON header line and a zstd payload. Written to a temporary name, flushed to disk, given its name only if
it is free (finding it taken is success: an equal fold was there first), and the folder flushed. The payload is
unpickled only after its digest, and its HMAC where a key is set, were found right.

Neither way holds a second model, or all of its bytes: what is pickled goes to the disk piece by piece, and the line
before it, for which room was left, is written last; what is read is digested into a file without a name, which nobody
else can change by the time that it is unpickled.
"""

import contextlib
import errno
import hashlib
import hmac
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

from stream_ml.errors import CheckpointError, ConfigError, OldFormat
from stream_ml.runtime.failpoints import passes
from stream_ml.storage.files import created, draft_of, opened
from stream_ml.storage.packing import PAYLOAD_BYTES_MAX, Packing, Unpacked
from stream_ml.storage.pickling import dump
from stream_ml.storage.retention import DIGITS, kept_of, pinned, position_of
from stream_ml.storage.unpickle import load

FORMAT = 2  # 1: the state of a replica as one level of names
HEADER_BYTES_MAX = 1_048_576
IN_MEMORY_MAX = 16 * 2**20  # of a payload that is read; of a larger one the copy is on the disk
TRIED_MAX = 2 * 2**20  # of a pickle that is loaded at once to see that it can be: 20 ms
PIECE = 2**20


class Checkpoint(NamedTuple):
    """A checkpoint as it stood in its file; `payload`, a copy that nobody else can change, is loaded by `content`."""

    header: dict[str, Any]
    payload: IO[bytes]

    @property
    def position(self) -> int:
        """Offset of the next log entry to fold."""
        return int(self.header["position"])


_FULL = (errno.ENOSPC, errno.EDQUOT)  # that passes: scoring does not wait for it


class CheckpointStore:
    """Checkpoints of one lineage in ``<directory>/<lineage>``.

    Safe for several writers: names are taken exclusively, and nothing that is there is changed.

    Parameters
    ----------
    directory
        Made with mode 0700 where it is missing: whoever may write there can run code here, unless a key is set.
    keep
        So many newest ones stay.
    spaced
        Whether older ones stay as well, ever fewer.
    key
        Authenticates every file; one without a right HMAC is passed over.
    """

    def __init__(
        self, directory: Path, lineage: str, *, keep: int, key: bytes | None = None, spaced: bool = False
    ) -> None:
        self.folder = directory / lineage
        self._lineage = lineage
        self.keep, self.spaced = keep, spaced
        self._key = key
        self.pickled_bytes = 0  # of the last one that was written

    def prepare(self) -> str:
        """Make the folder; why no checkpoint can be written for now, as on a disk that is full, else nothing.

        Raises
        ------
        ConfigError
            It is no folder, or may not be written to.
        """
        problem, probe = "", draft_of(self.folder / "probe")
        try:
            self._make_folder()
            with created(probe):
                passes("checkpoint-probed")
        except OSError as error:
            problem = f"checkpoints cannot be written to {self.folder}: {error.strerror}"
            if error.errno not in _FULL:
                raise ConfigError(problem, "set checkpoints.directory") from error
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)
        for left in self.folder.glob(".*.ckpt.tmp.*"):
            with contextlib.suppress(OSError):  # another worker was first, or it is no file
                if time.time() - left.lstat().st_mtime > 3600:
                    left.unlink(missing_ok=True)
        return problem

    def name_of(self, position: int) -> str:
        """Of the file of a position."""
        return f"{position:0{DIGITS}d}.ckpt"

    def size(self, position: int) -> int:
        """Bytes of the checkpoint of this position; 0 where it is gone by now."""
        try:
            return (self.folder / self.name_of(position)).stat().st_size
        except OSError:
            return 0

    def positions(self) -> list[int]:
        """Of all files that are named like checkpoints, newest first."""
        return [int(path.stem) for path in self._files()]

    def read(self, position: int) -> Checkpoint:
        """The checkpoint of a position; CheckpointError where it is damaged, not authentic, or gone."""
        return self._read(self.folder / self.name_of(position))

    def pins(self) -> list[str]:
        """Names of the files that pin checkpoints (``<position>.<name>.json``)."""
        return pinned(self.folder)

    def raw(self, position: int) -> IO[bytes]:
        """The file of a position as it is; OSError where it is gone."""
        return opened(self.folder / self.name_of(position))

    @contextlib.contextmanager
    def adopting(self, position: int) -> Iterator[IO[bytes]]:
        """A file to write a checkpoint into that comes from elsewhere: it gets its name once all its checks are passed.

        Raises
        ------
        CheckpointError
            It is none of this lineage and position, is damaged or not authentic, or the disk refuses.
        """
        path = self.folder / self.name_of(position)
        temporary = draft_of(path)
        try:
            self._make_folder()
            with created(temporary) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            self._read(temporary, named=path)
            self._name(temporary, path)
            self._flush_folder()
        except OSError as error:
            raise CheckpointError(f"{path} cannot be written: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def save(
        self,
        position: int,
        header: dict[str, Any],
        content: Any,
        *,
        checkpoint_types: list[str],
        passing: Callable[[], None] = lambda: None,
        pickled: Callable[[], None] = lambda: None,
    ) -> Path:
        """Write a checkpoint durably; its path. Idempotent: one that is there is left as it is.

        The folder is made again where it went away. What has the name and is no checkpoint gives way, unless it is a
        folder. Of what it holds each type is judged; where it is small it is also loaded once.

        Parameters
        ----------
        checkpoint_types
            Names that may be held beside River's and numpy's.
        passing
            Called again and again, so that this thread may be held up.
        pickled
            Called once the content is not needed any more.

        Raises
        ------
        CheckpointError
            The content holds a type that could not be loaded again, or the disk refuses; older ones stay.
        """
        path = self.folder / self.name_of(position)
        if self._is_there(path):
            return path
        temporary = draft_of(path)
        head = {"format": FORMAT, "lineage": self._lineage, "position": position, **header}
        try:
            self._make_folder()
            with created(temporary) as file:
                room = len(self._first_line(head, PAYLOAD_BYTES_MAX, hashlib.sha256()))
                file.write(b" " * room + b"\n")
                payload = Packing(file)
                dump(content, payload, checkpoint_types, passing)
                del content
                payload.close()
                pickled()
                file.seek(0)
                file.write(self._first_line(head, payload.bytes, payload.digest).ljust(room))
                file.flush()
                passes("checkpoint-written")
                os.fsync(file.fileno())
            passes("checkpoint-synced")
            self.pickled_bytes = payload.pickled_bytes
            if payload.pickled_bytes <= TRIED_MAX:
                self.content(self._read(temporary, named=path), checkpoint_types, passing)
            self._name(temporary, path)
            passes("checkpoint-named")
            self._flush_folder()
        except OSError as error:
            raise CheckpointError(f"{path} cannot be written: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):  # of a file system that takes nothing any more
                temporary.unlink(missing_ok=True)
        passes("before-prune")
        self._prune(position)
        return path

    def _make_folder(self) -> None:
        """Make the folder and the directory around it, for this user alone."""
        for folder in (self.folder.parent, self.folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.folder.is_symlink():  # somebody else made it: what it leads to would be overwritten
            raise OSError(errno.ELOOP, "it is a link", str(self.folder))

    def _is_there(self, path: Path) -> bool:
        try:
            self._read(path)
        except CheckpointError:
            return False
        return True

    def _name(self, temporary: Path, path: Path) -> None:
        """Give a file its name; where another writer was first, his stays."""
        try:
            os.link(temporary, path)
        except FileExistsError:
            if not self._is_there(path):
                temporary.replace(path)

    def newest(self, at_most: int | None = None) -> Iterator[Checkpoint | CheckpointError]:
        """Checkpoints from the newest to the oldest; in the place of a damaged one, what is wrong with it."""
        for path in self._files():
            if at_most is not None and int(path.stem) > at_most:
                continue
            try:
                yield self._read(path)
            except CheckpointError as error:
                yield error

    def headers(self, at_most: int | None = None) -> Iterator[dict[str, Any]]:
        """What the sealed headers say, from the newest to the oldest; those that are none are passed over.

        No payload is read: whether one is whole is found by `read`.
        """
        for path in self._files():
            if at_most is None or int(path.stem) <= at_most:
                with contextlib.suppress(OSError, CheckpointError), opened(path) as file:
                    yield self._header(path, file.readline(HEADER_BYTES_MAX), path.stem)

    def _files(self) -> list[Path]:
        """Checkpoints, newest first; a file of any other name is none of ours."""
        return sorted((path for path in self.folder.glob("*.ckpt") if position_of(path.name) is not None), reverse=True)

    def content(
        self, checkpoint: Checkpoint, checkpoint_types: list[str], passing: Callable[[], None] = lambda: None
    ) -> Any:
        """The content of a checkpoint whose sums were found right; `passing` as of `save`."""
        checkpoint.payload.seek(0)
        return load(Unpacked(checkpoint.position, checkpoint.payload, passing), checkpoint_types)

    def _read(self, path: Path, named: Path | None = None) -> Checkpoint:
        """A checkpoint in a file that has its name, or is to be `named` so."""
        try:
            with opened(path) as file:
                line = file.readline(HEADER_BYTES_MAX)
                header = self._header(path, line, (named or path).stem)
                if os.fstat(file.fileno()).st_size != len(line) + header["payload_bytes"]:
                    raise CheckpointError(f"{path} is damaged: its payload does not fit its header")
                if header["payload_bytes"] > PAYLOAD_BYTES_MAX:
                    raise CheckpointError(f"{path} claims too many bytes")
                payload, digest = self._copied(file, header["payload_bytes"])
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
        if header["sha256"] != digest:
            raise CheckpointError(f"{path} is damaged: its payload does not fit its digest")
        return Checkpoint(header, payload)

    def _copied(self, file: IO[bytes], size: int) -> tuple[IO[bytes], str]:
        """So many bytes of a file, as they were read once, and their digest."""
        digest, copy = hashlib.sha256(), self._nameless(size)
        while size and (piece := file.read(min(size, PIECE))):
            digest.update(piece)
            copy.write(piece)
            size -= len(piece)
        return copy, digest.hexdigest()

    def _nameless(self, size: int) -> IO[bytes]:
        """Room for so many bytes: in memory where they are few, or the disk has none."""
        if size > IN_MEMORY_MAX:
            with contextlib.suppress(OSError):
                found = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - closed with what holds it
                os.posix_fallocate(found.fileno(), 0, size)
                return found
        return BytesIO()

    def _header(self, path: Path, line: bytes, stem: str) -> dict[str, Any]:
        """What the first line says, once its seal was found right; nothing else of the file has been read by then."""
        try:
            header: dict[str, Any] = json.loads(line)
            if header["format"] != FORMAT:
                raise OldFormat(f"{path} has format {str(header['format'])[:20]}; this version reads {FORMAT}")
            if _line(header).ljust(len(line) - 1) + b"\n" != line:
                raise CheckpointError(f"{path} has a damaged header")
            found = {name: str(header.pop(name)) for name in ("header_sha256", "hmac")}
            if header["lineage"] != self._lineage or f"{header['position']:0{DIGITS}d}" != stem:
                raise CheckpointError(
                    f"{path} belongs elsewhere: its header names {header['lineage']}/{header['position']}"[:300]
                )
            if type(header["payload_bytes"]) is not int or type(header["sha256"]) is not str:
                raise CheckpointError(f"{path} has a damaged header")
            right = self._seals(_line(header))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{path} has a damaged header") from error
        if self._key is not None and not hmac.compare_digest(found["hmac"].encode(), str(right["hmac"]).encode()):
            sealed = "no key" if found["hmac"] == "None" else "another key"
            raise CheckpointError(f"{path} is not authentic: it was sealed with {sealed} (checkpoints.key_file)")
        if found["header_sha256"] != right["header_sha256"]:
            raise CheckpointError(f"{path} has a damaged header: it does not fit its digest")
        return header

    def _first_line(self, head: dict[str, Any], size: int, digest: Any) -> bytes:
        """The header with what is known of the payload once it is written, sealed."""
        whole = {**head, "payload_bytes": size, "sha256": digest.hexdigest()}
        return _line({**whole, **self._seals(_line(whole))})

    def _seals(self, line: bytes) -> dict[str, str | None]:
        """What proves a header: its digest, and its HMAC where a key is set."""
        mac = hmac.new(self._key, line, "sha256").hexdigest() if self._key else None
        return {"header_sha256": hashlib.sha256(line).hexdigest(), "hmac": mac}

    def _flush_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _prune(self, position: int) -> None:
        """Keep so many up to the one just written: what stands above it is another writer's, or none at all.

        Spaced ones and those that are pinned (``pins/<position>.<name>.json``) stay, too.
        """
        written = {int(path.stem): path for path in self._files() if path.is_file()}
        kept = kept_of(written, position, self.keep, spaced=self.spaced)
        for at, path in written.items():
            if at <= position and at not in kept and not any((self.folder / "pins").glob(f"{at:0{DIGITS}d}.*.json")):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


def _line(header: dict[str, Any]) -> bytes:
    """A header as it is written and digested: there is one way only, but for spaces at its end."""
    return json.dumps(header, sort_keys=True).encode()


def known_logs(directory: Path, key: bytes | None, *, unsealed: bool) -> Iterator[dict[str, Any]]:
    """What sealed checkpoints of any lineage say of the log that they were folded from; `unsealed` ones where asked."""
    if key is None and not unsealed:
        return
    for folder in sorted(directory.iterdir()) if directory.is_dir() else ():
        for found in CheckpointStore(directory, folder.name, keep=1, key=key).newest() if folder.is_dir() else ():
            if isinstance(found, Checkpoint) and isinstance(found.header.get("log"), dict):
                yield found.header["log"]

"""Checkpoints in a directory: caches of the fold, each named by lineage and position.

One file is a JSON header line and a zstd payload. Written to a temporary name, flushed to disk, given its name only if
it is free (finding it taken is success: an equal fold was there first), and the folder flushed. The payload is
unpickled only after its digest, and its HMAC where a key is set, were found right.
"""

import contextlib
import errno
import hashlib
import hmac
import json
import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from stream_ml.errors import CheckpointError, ConfigError
from stream_ml.failpoints import passes
from stream_ml.storage.files import created, draft_of, opened
from stream_ml.storage.unpickle import loads

FORMAT = 1
HEADER_BYTES_MAX = 1_048_576
PAYLOAD_BYTES_MAX = 8 * 2**30
_LEVEL = 3  # zstd's default
_DIGITS = 20  # of the position in a file's name


class Checkpoint(NamedTuple):
    """A checkpoint as it stands in its file; `payload` is unpickled only by `content`."""

    header: dict[str, Any]
    payload: bytes

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
    key
        Authenticates every file; one without a right HMAC is passed over.
    """

    def __init__(self, directory: Path, lineage: str, *, keep: int, key: bytes | None = None) -> None:
        self._folder = directory / lineage
        self._lineage = lineage
        self._keep = keep
        self._key = key

    def prepare(self) -> str:
        """Make the folder; why no checkpoint can be written for now, as on a disk that is full, else nothing.

        Raises
        ------
        ConfigError
            It is no folder, or may not be written to.
        """
        problem, probe = "", draft_of(self._folder / "probe")
        try:
            self._make_folder()
            with created(probe):
                passes("checkpoint-probed")
        except OSError as error:
            problem = f"checkpoints cannot be written to {self._folder}: {error.strerror}"
            if error.errno not in _FULL:
                raise ConfigError(problem, "set checkpoints.directory") from error
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)
        for left in self._folder.glob(".*.ckpt.tmp.*"):
            with contextlib.suppress(OSError):  # another worker was first, or it is no file
                if time.time() - left.lstat().st_mtime > 3600:
                    left.unlink(missing_ok=True)
        return problem

    def size(self, position: int) -> int:
        """Bytes of the checkpoint of this position; 0 where it is gone by now."""
        try:
            return (self._folder / f"{position:0{_DIGITS}d}.ckpt").stat().st_size
        except OSError:
            return 0

    def save(self, position: int, header: dict[str, Any], content: Any, *, checkpoint_types: list[str]) -> Path:
        """Write a checkpoint durably; its path. Idempotent: one that is there is left as it is.

        The folder is made again where it went away. What has the name and is no checkpoint gives way, unless it is a
        folder.

        Raises
        ------
        CheckpointError
            The content holds a type that could not be loaded again, or the disk refuses; older ones stay.
        """
        path = self._folder / f"{position:0{_DIGITS}d}.ckpt"
        if self._is_there(path):
            return path
        try:
            pickled = pickle.dumps(content, protocol=5)
        except (pickle.PicklingError, AttributeError, TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(f"the model cannot be pickled: {error}") from error
        loads(pickled, checkpoint_types, own=True)
        payload = zstandard.ZstdCompressor(level=_LEVEL).compress(pickled)
        sums = {"payload_bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
        head = {"format": FORMAT, "lineage": self._lineage, "position": position, **header, **sums}
        line = _line({**head, **self._seals(_line(head))})
        temporary = draft_of(path)
        try:
            self._make_folder()
            self._write(temporary, line + b"\n" + payload)
            passes("checkpoint-synced")
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
        for folder in (self._folder.parent, self._folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._folder.is_symlink():  # somebody else made it: what it leads to would be overwritten
            raise OSError(errno.ELOOP, "it is a link", str(self._folder))

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

    def _files(self) -> list[Path]:
        """Checkpoints, newest first; a file of any other name is none of ours."""
        named = (path for path in self._folder.glob("*.ckpt") if len(path.stem) == _DIGITS and path.stem.isdecimal())
        return sorted(named, reverse=True)

    def content(self, checkpoint: Checkpoint, checkpoint_types: list[str]) -> Any:
        """The content of a checkpoint whose sums were found right."""
        try:
            if zstandard.frame_content_size(checkpoint.payload) > PAYLOAD_BYTES_MAX:
                raise CheckpointError(f"the payload of checkpoint {checkpoint.position} claims too many bytes")
            pickled = zstandard.ZstdDecompressor().decompress(checkpoint.payload, max_output_size=PAYLOAD_BYTES_MAX)
        except (zstandard.ZstdError, MemoryError) as error:
            raise CheckpointError(f"the payload of checkpoint {checkpoint.position} is damaged: {error}") from error
        return loads(pickled, checkpoint_types)

    def _read(self, path: Path) -> Checkpoint:
        try:
            with opened(path) as file:
                line = file.readline(HEADER_BYTES_MAX)
                header = self._header(path, line)
                if os.fstat(file.fileno()).st_size != len(line) + header["payload_bytes"]:
                    raise CheckpointError(f"{path} is damaged: its payload does not fit its header")
                if header["payload_bytes"] > PAYLOAD_BYTES_MAX:
                    raise CheckpointError(f"{path} claims too many bytes")
                payload = file.read(header["payload_bytes"])
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
        if header["sha256"] != hashlib.sha256(payload).hexdigest():
            raise CheckpointError(f"{path} is damaged: its payload does not fit its digest")
        return Checkpoint(header, payload)

    def _header(self, path: Path, line: bytes) -> dict[str, Any]:
        """What the first line says, once its seal was found right; nothing else of the file has been read by then."""
        try:
            header: dict[str, Any] = json.loads(line)
            if header["format"] != FORMAT:
                raise CheckpointError(f"{path} has format {str(header['format'])[:20]}; this version reads {FORMAT}")
            if _line(header) + b"\n" != line:
                raise CheckpointError(f"{path} has a damaged header")
            found = {name: str(header.pop(name)) for name in ("header_sha256", "hmac")}
            if header["lineage"] != self._lineage or f"{header['position']:0{_DIGITS}d}" != path.stem:
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

    def _seals(self, line: bytes) -> dict[str, str | None]:
        """What proves a header: its digest, and its HMAC where a key is set."""
        mac = hmac.new(self._key, line, "sha256").hexdigest() if self._key else None
        return {"header_sha256": hashlib.sha256(line).hexdigest(), "hmac": mac}

    def _write(self, path: Path, content: bytes) -> None:
        with created(path) as file:
            file.write(content)
            file.flush()
            passes("checkpoint-written")
            os.fsync(file.fileno())

    def _flush_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _prune(self, position: int) -> None:
        """Keep so many up to the one just written: what stands above it is another writer's, or none at all."""
        written = [path for path in self._files() if int(path.stem) <= position and path.is_file()]
        for path in written[self._keep :]:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _line(header: dict[str, Any]) -> bytes:
    """A header as it is written and digested: there is one way only."""
    return json.dumps(header, sort_keys=True).encode()

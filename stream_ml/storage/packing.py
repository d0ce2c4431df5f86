"""The payload of a checkpoint: a pickle, packed and digested as it is written, unpacked as it is read."""

import hashlib
from collections.abc import Callable
from typing import IO, Any

import zstandard

from stream_ml.errors import CheckpointError

PAYLOAD_BYTES_MAX = 8 * 2**30
WINDOW_MAX = 2**23  # bytes that a payload may ask to be kept while it is unpacked: four times what zstd's default needs
_LEVEL = 3  # zstd's default


class Packing:
    """Takes a pickle, packs it, digests it, writes it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest, self.bytes, self.pickled_bytes = hashlib.sha256(), 0, 0
        self._packing = zstandard.ZstdCompressor(level=_LEVEL).compressobj()

    def write(self, data: Any, /) -> None:
        """Take more of it."""
        self.pickled_bytes += memoryview(data).nbytes
        self._put(self._packing.compress(data))

    def close(self) -> None:
        """Write what is left."""
        self._put(self._packing.flush())

    def _put(self, packed: bytes) -> None:
        self.digest.update(packed)
        self.bytes += len(packed)
        self._file.write(packed)


class Unpacked:
    """The pickle in a checkpoint, unpacked as it is read."""

    def __init__(self, position: int, payload: IO[bytes], passing: Callable[[], None]) -> None:
        self._position, self._passing, self._left = position, passing, PAYLOAD_BYTES_MAX
        self._reader = zstandard.ZstdDecompressor(max_window_size=WINDOW_MAX).stream_reader(payload)

    def read(self, size: int, /) -> bytes:
        """The next bytes of it."""
        self._passing()
        if size > self._left:
            raise CheckpointError(f"the payload of checkpoint {self._position} claims too many bytes")
        try:
            found = self._reader.read(size)
        except (zstandard.ZstdError, MemoryError) as error:
            raise CheckpointError(f"the payload of checkpoint {self._position} is damaged: {error}") from error
        self._left -= len(found)
        return found

    def readline(self) -> bytes:
        """Nothing that this app writes has lines."""
        raise CheckpointError(f"the payload of checkpoint {self._position} is no pickle of this app")

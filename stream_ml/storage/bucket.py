"""A bucket of an object store that speaks S3, as far as checkpoints need one; the extra `s3`.

Every failure is a CheckpointError in words: the caller passes over it. What is created is never changed: of several who
create an object of one name one wins, and the others find it there.
"""

import itertools
import os
import re
from datetime import timedelta
from typing import IO, Any
from urllib.parse import urlsplit

from stream_ml.config.service import BucketSettings
from stream_ml.errors import CheckpointError, ConfigError

PIECE = 2**20
TRANSFER = timedelta(minutes=15)  # for one object; as long as nothing comes a request ends sooner
CREATED_MAX = 5_000_000_000  # bytes: S3's own limit for one request, which alone can be conditional
LISTED_MAX = 100_000  # names of a folder
RETRIES = 2  # of one request, by the client itself; later ones are the caller's
REASON_MAX = 300  # characters of what the client says
_WORDS = {
    "401": "the credentials are not known (401)",
    "403": "access is denied (403): is the key right, and the clock of this machine?",
    "404": "it is not there, or the bucket is not (404)",
    "507": "the store is full (507)",
}


class Bucket:
    """Objects under one prefix; safe for several threads and processes.

    Attributes
    ----------
    url
        As the configuration has it.
    """

    def __init__(self, settings: BucketSettings) -> None:
        try:
            from obstore.store import S3Store
        except ImportError as error:
            raise ConfigError("checkpoints.bucket needs the extra s3", "pip install 'stream-ml[s3]'") from error
        self.url, timeout = settings.url, timedelta(milliseconds=settings.timeout)
        given = {
            "endpoint": settings.endpoint,
            "region": settings.region,
            "access_key_id": settings.access_key_id,
            "secret_access_key": settings.secret_access_key,
        }
        options: dict[str, Any] = {
            "timeout": max(timeout, TRANSFER),
            "read_timeout": timeout,
            "connect_timeout": min(timeout, timedelta(seconds=5)),
            "allow_http": urlsplit(settings.endpoint or "https:").scheme == "http",
        }
        retry: dict[str, Any] = {"max_retries": RETRIES, "retry_timeout": timeout}
        config: Any = {name: value for name, value in given.items() if value is not None}
        try:
            self._store = S3Store.from_url(self.url, config=config, client_options=options, retry_config=retry)  # type: ignore[arg-type]
        except Exception as error:  # its own kinds, and ValueError
            raise ConfigError(f"checkpoints.bucket {self.url} cannot be used: {_reason(error)}") from error

    def create(self, name: str, file: IO[bytes]) -> None:
        """Keep all of a file under a name; one that is there already stays. It is held in memory meanwhile."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if size > CREATED_MAX:
            raise CheckpointError(f"{self.url}/{name} would have {size:,} bytes: S3 takes {CREATED_MAX:,} at once")
        with _told(f"{self.url}/{name} cannot be written"):
            try:
                obstore.put(self._store, name, file.read(), mode="create")
            except AlreadyExistsError:
                return

    def names(self, folder: str) -> list[str]:
        """Of the objects in a folder, without the folder; those of folders in it are none."""
        import obstore

        with _told(f"{self.url}/{folder} cannot be listed"):
            pages = obstore.list(self._store, prefix=f"{folder}/")
            found = (str(one["path"]) for page in pages for one in page)
            named = [path.removeprefix(f"{folder}/") for path in itertools.islice(found, LISTED_MAX)]
            return [name for name in named if "/" not in name]

    def read(self, name: str, into: IO[bytes], most: int) -> None:
        """Copy an object into a file; CheckpointError where it has more than `most` bytes."""
        import obstore

        with _told(f"{self.url}/{name} cannot be read"):
            size = 0
            for piece in obstore.get(self._store, name).stream(min_chunk_size=PIECE):
                size += len(piece)
                if size > most:
                    raise CheckpointError(f"{self.url}/{name} has more than {most:,} bytes")
                into.write(piece)

    def delete(self, names: list[str]) -> None:
        """Take objects away; those that are gone already are no failure."""
        import obstore

        if names:
            with _told(f"{self.url}: {len(names)} old checkpoints cannot be deleted"):
                obstore.delete(self._store, names)


class _told:
    """Whatever the client raises is a CheckpointError that says what could not be done."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, CheckpointError):
            raise CheckpointError(f"{self._what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What a client says in one line: its text may go on for pages, and quote the answer."""
    text = " ".join(str(error).split())
    status = re.search(r"status code: (\d{3})", text)
    if status is not None and status[1] in _WORDS:
        return _WORDS[status[1]]
    return text[:REASON_MAX] or type(error).__name__

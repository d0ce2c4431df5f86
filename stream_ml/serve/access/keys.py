"""API keys, out of a file that is read again when it changes: it has their digests, never a key."""

import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from stream_ml.config.serve import ScopeName
from stream_ml.errors import ConfigError

LOOK_S = 1.0  # between two looks whether the file has changed
_KEY = re.compile(r"smk_([A-Za-z0-9]{8})_([A-Za-z0-9_-]{43})")
_NOBODY = hashlib.sha256(b"nobody has this key").hexdigest()

log = logging.getLogger(__name__)


class ApiKey(BaseModel):
    """A key as its file has it: never the secret, only its digest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{8}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    scopes: list[ScopeName]
    rate: Annotated[float | None, Field(gt=0)] = None
    expires: Annotated[float | None, Field(description="seconds since 1970; null: never")] = None


_FILE = TypeAdapter(list[ApiKey])


def new_key(
    name: str, scopes: list[str], expires: float | None = None, rate: float | None = None
) -> tuple[str, ApiKey]:
    """A key as its owner gets it, once, and as the file keeps it: 32 random bytes, so that SHA-256 is enough."""
    id_ = "".join(secrets.choice("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789") for _ in range(8))
    text = f"smk_{id_}_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text, ApiKey.model_validate(
        {"id": id_, "sha256": digest, "name": name, "scopes": scopes, "rate": rate, "expires": expires}
    )


def read_keys(file: Path) -> list[ApiKey]:
    """The keys of a file; ConfigError where it cannot be read, or is not what `stream-ml keys` writes."""
    try:
        keys = _FILE.validate_json(file.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"serve.auth.keys_file {file}: {error.strerror or error}", "make it: stream-ml keys new CONFIG NAME"
        ) from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        at = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"serve.auth.keys_file {file}: {at or 'the file'}: {first['msg']}", "stream-ml keys writes it"
        ) from None
    ids = [key.id for key in keys]
    if len(set(ids)) < len(ids):
        raise ConfigError(f"serve.auth.keys_file {file}: two keys have the same id", "revoke one of them")
    return keys


def write_keys(file: Path, keys: list[ApiKey]) -> None:
    """Put these keys in the file's place, in one step; only its owner may read it."""
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(_FILE.dump_json(keys, indent=2) + b"\n")
        out.flush()
        os.fsync(out.fileno())
    aside.replace(file)


class Keys:
    """The keys of now. A file that can no longer be read keeps those that were known, and is complained about."""

    def __init__(self, file: Path) -> None:
        self._file, self._known = file, {key.id: key for key in read_keys(file)}
        self._stamp, self._looked_s = _stamp(file), time.monotonic()
        self.problem = ""

    def find(self, id_: str) -> ApiKey | None:
        """The key with this id."""
        self._look()
        return self._known.get(id_)

    def right(self, given: str) -> ApiKey | None:
        """The key that was given, where it is right; an unknown id costs as much as a wrong secret."""
        match = _KEY.fullmatch(given)
        key = self.find(match[1]) if match is not None else None
        digest = hashlib.sha256(given.encode()).hexdigest()
        is_right = hmac.compare_digest(digest, key.sha256 if key is not None else _NOBODY)
        if key is None or not is_right or (key.expires is not None and key.expires <= time.time()):
            return None
        return key

    def _look(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s, stamp = now_s, _stamp(self._file)
        if stamp == self._stamp:
            return
        try:
            self._known = {key.id: key for key in read_keys(self._file)}
            self._stamp, self.problem = stamp, ""
            log.info("%d API keys are read from %s", len(self._known), self._file)
        except ConfigError as error:
            if error.message != self.problem:
                log.error("%s; the keys that were known stay", error.message)
            self.problem = error.message


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

"""Files that somebody else may have put there: opened only where they are files, and sealed with a key of this app.

Whoever may write to a directory may put a link there, a pipe that never answers, or a device that never ends.
"""

import hmac
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from stream_ml.errors import ConfigError

KEY_BYTES_MIN = 16
KEY_BYTES_MAX = 4_096
OWN_KEY_BYTES = 32
MAKE_KEY = "make one: openssl rand -hex 32 > FILE; chmod 600 FILE"


def opened(path: Path) -> IO[bytes]:
    """A regular file, open for reading: no link is followed, nothing waits. OSError where it is something else."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_small(path: Path, most: int) -> bytes:
    """All of a regular file; OSError where it is something else, or larger than `most` bytes."""
    with opened(path) as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise OSError(0, f"it has more than {most:,} bytes", str(path))
    return found


def created(path: Path) -> IO[bytes]:
    """A new file of this user alone, open for writing; FileExistsError where anything has its name."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb")


def write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    """New files of this user alone, by path below the folder, durably; what is between is made."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with created(path) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def draft_of(path: Path) -> Path:
    """A name beside a file that nobody can guess, for what is to take its place."""
    return path.with_name(f".{path.name}.tmp.{secrets.token_hex(8)}")


def replaced(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file anew, by way of a name that nobody can guess; a link of its name is replaced and not followed.

    Parameters
    ----------
    durable
        Whether its content is on the disk before it has its name.
    """
    temporary = draft_of(path)
    try:
        with created(temporary) as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


# --- keys ---


def read_key(path: Path, setting: str) -> bytes:
    """The key in a file that the configuration names; a link may lead there, as in Kubernetes.

    Raises
    ------
    ConfigError
        It is missing, no file, or too short for a key.
    """
    return _key_in(path.resolve(), f"{setting} {path}", MAKE_KEY)


def own_key(path: Path, *, make: bool) -> bytes | None:
    """The key that an app makes for itself on first use, readable by its user alone; None where there is none.

    Two processes that start at once come to have the same one.

    Raises
    ------
    ConfigError
        What stands there is no key, or cannot be read.
    """
    if make and not os.path.lexists(path):
        try:
            _make_key(path)
        except OSError:
            return None
    if not os.path.lexists(path):
        return None
    return _key_in(path, f"the key {path}", "delete it, or set checkpoints.key_file")


def _key_in(path: Path, named: str, hint: str) -> bytes:
    try:
        key = read_small(path, KEY_BYTES_MAX).strip()
    except OSError as error:
        raise ConfigError(f"{named} cannot be read: {error.strerror}", hint) from error
    if len(key) < KEY_BYTES_MIN:
        raise ConfigError(f"{named} holds {len(key)} bytes; a key has at least {KEY_BYTES_MIN}", hint)
    return key


def _make_key(path: Path) -> None:
    temporary = draft_of(path)
    try:
        with created(temporary) as file:
            file.write(secrets.token_hex(OWN_KEY_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        pass  # the other process was first
    finally:
        temporary.unlink(missing_ok=True)


def exposure(path: Path) -> str:
    """What is wrong with the permissions of a directory of checkpoints or the file of a key, in words; often empty."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""
    others = stat.S_IWOTH | (0 if stat.S_ISDIR(mode) else stat.S_IROTH)
    if not mode & others:
        return ""
    what = "write to" if mode & stat.S_IWOTH else "read"
    return f"everybody on this machine may {what} {path} (mode {stat.S_IMODE(mode):04o}): chmod o-rwx {path}"


# --- sealed JSON ---


def sealed(value: Any, key: bytes) -> bytes:
    """A JSON value after a line that proves it: its HMAC."""
    content = json.dumps(value, sort_keys=True).encode()
    return _seal(content, key) + b"\n" + content


def unsealed(content: bytes, key: bytes) -> Any:
    """The value; ValueError where it was changed, or sealed with another key: nothing of it is read then."""
    seal, _, text = content.partition(b"\n")
    if not hmac.compare_digest(seal, _seal(text, key)):
        raise ValueError("its seal does not fit")
    return json.loads(text)


def _seal(content: bytes, key: bytes) -> bytes:
    return hmac.new(key, content, "sha256").hexdigest().encode()

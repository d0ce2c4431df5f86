"""Which key seals what an app keeps on disk: the one that it names, or its own beside the configuration."""

import re
from collections.abc import Sequence
from pathlib import Path

from stream_ml.config import Config
from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.log.seals import LogSeal
from stream_ml.core.partition.answered import AnswerSeal
from stream_ml.errors import ConfigError
from stream_ml.storage.files import MAKE_KEY, own_key, read_key


def key_file(config: Config) -> Path:
    """Where the key is, or would be."""
    named = config.checkpoints.key_file
    return config.path(named if named is not None else Path(f".stream_ml-{config.app.id}.key"))


def key_of(config: Config, *, make: bool = False) -> bytes | None:
    """The key; None where none is named, and none can be kept beside the configuration, or none is there yet.

    Parameters
    ----------
    make
        Make one where none is named and none is there. Workers on several machines that share a directory of
        checkpoints need one and the same: `checkpoints.key_file`.

    Raises
    ------
    ConfigError
        The file holds no key, or cannot be read; or, where one is to be made, it cannot, and nothing says that
        checkpoints may do without.
    """
    path = key_file(config)
    if config.checkpoints.key_file is not None:
        return read_key(path, "checkpoints.key_file")
    key = own_key(path, make=make)
    if key is None and make and not config.checkpoints.unsealed:
        raise ConfigError(
            f"no key for checkpoints can be kept at {path.absolute()}: who may write to their directory could run code",
            "set checkpoints.key_file (openssl rand -hex 32 > FILE), or checkpoints.unsealed: true",
        )
    return key


def log_seal(config: Config, topic_id: str) -> LogSeal | None:
    """What seals the entries of the training log with this id; None where nothing does.

    Raises
    ------
    ConfigError
        A file holds no key, or cannot be read.
    """
    named = config.training_log
    if named.key_file is None:
        return None
    keys = _keys(config, "training_log", "key_file", named.key_file, named.old_key_files)
    return LogSeal(keys, topic_id, named.sealed_from)


def _keys(config: Config, section: str, name: str, file: Path, old: Sequence[Path]) -> list[bytes]:
    """The key that a section names, and those before it; their setting has the same name behind `old_`."""
    keys = [read_key(config.path(file), f"{section}.{name}")]
    return keys + [read_key(config.path(one), f"{section}.old_{name}s") for one in old]


def answer_seal(config: Config, domain: LabelDomain) -> AnswerSeal | None:
    """What seals answers of the scoring API, and believes them; None where they are not recorded.

    Raises
    ------
    ConfigError
        A file holds no key, or cannot be read.
    """
    serve = config.serve
    if serve.provenance_key_file is None:
        return None
    old = serve.old_provenance_key_files
    keys = _keys(config, "serve", "provenance_key_file", serve.provenance_key_file, old)
    return AnswerSeal(config.app.id, keys, domain)


def token_of(config: Config) -> bytes:
    """What a request to the port has to bring; empty where nothing. ConfigError where its file holds none."""
    file = config.http.token_file
    if file is None:
        return b""
    found = read_key(config.path(file), "http.token_file")
    if not re.fullmatch(rb"[A-Za-z0-9._~+/=-]+", found):
        raise ConfigError(
            f"http.token_file {config.path(file)}: a token has letters, digits and ._~+/=- only",
            MAKE_KEY,
        )
    return found

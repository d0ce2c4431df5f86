"""The identity of a training log: what its first entry says, and what hangs on it."""

import hashlib
import json
import re
from typing import TYPE_CHECKING, NamedTuple

from stream_ml.core.avro.json_text import read_json

if TYPE_CHECKING:  # who asks for the identity alone loads no columns
    from stream_ml.core.log.entry import Entry

SHOWN = ("v", "log_id", "partition", "partitions", "scope", "parent", "app")  # and nothing else of a genesis
_HEX = re.compile("[0-9a-f]{32}")


class LogIdentity(NamedTuple):
    """Which log it is, wherever it is copied to.

    Parameters
    ----------
    log_id
        32 hex digits; public. Every lineage is one of this log.
    hash_key
        32 hex digits; secret: who knows it can make keys that collide in every worker's dicts. Printed nowhere.
    """

    log_id: str
    hash_key: str

    @property
    def hash_seed(self) -> int:
        """The PYTHONHASHSEED of every process that folds the log, from 1 to 2**32 - 1.

        The order of string sets changes River's sums in the last bit, so it is fixed.
        """
        digest = hashlib.sha256(f"stream_ml.hash-seed.1:{self.hash_key}".encode()).digest()
        return int.from_bytes(digest[:4], "big") % (2**32 - 1) + 1

    @classmethod
    def of(cls, entry: "Entry") -> "LogIdentity":
        """Out of an entry of kind genesis; ValueError where it names none."""
        entry.check_known()
        if entry.kind != "genesis":
            raise ValueError("it names no log")
        said = entry.parsed_arguments()
        return cls.named(*(said.get(name) for name in cls._fields))

    @classmethod
    def named(cls, log_id: object, hash_key: object) -> "LogIdentity":
        """Out of what somebody says; ValueError where it is none."""
        found = (log_id, hash_key)
        if not all(isinstance(one, str) and _HEX.fullmatch(one) for one in found):
            raise ValueError("it names no log")
        return cls(*map(str, found))


NO_LOG = LogIdentity("0" * 32, "0" * 32)  # of a model that no log is folded for


def without_secrets(arguments: str) -> str:
    """Arguments of a genesis as they may be shown."""
    try:
        said = read_json(arguments, 10)
    except ValueError:
        return "(not shown)"
    if not isinstance(said, dict):
        return "(not shown)"
    return json.dumps({name: said[name] for name in SHOWN if name in said}, sort_keys=True)

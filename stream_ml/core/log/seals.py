"""Seals of training-log entries: whoever has no key can neither make one, nor take one to another log.

An entry may be written again as it is by anybody who can write at all. An example that comes again is dropped by its
sequence; a command says how much of the log its writer had seen, and is refused after a later command.
"""

import hmac
from collections.abc import Sequence
from typing import Any

from stream_ml.records import Headers

SEAL = "stream_ml.seal"  # header of a sealed entry
_DOMAIN = b"stream_ml training log entry 1\0"  # the same key may seal checkpoints, which are no entries


def is_new(said: dict[str, Any], commanded_at: int, offset: int) -> bool:
    """Whether a command at this offset says that its writer had seen the last one before it, at `commanded_at`."""
    seen = said.get("seen")
    return type(seen) is int and commanded_at < seen <= offset


class LogSeal:
    """Seals the entries of one log, and tells whether one is sealed.

    Parameters
    ----------
    keys
        The first seals; each of them is believed, so that a key can be replaced.
    topic_id
        Kafka's id of the log.
    since
        Offset of the first entry that has to be sealed.
    """

    def __init__(self, keys: Sequence[bytes], topic_id: str, since: int) -> None:
        self._keys, self._of, self._since = tuple(keys), _DOMAIN + topic_id.encode() + b"\0", since

    def header(self, value: bytes) -> tuple[str, bytes]:
        """What an entry carries. Source: HMAC-SHA256, RFC 2104."""
        return SEAL, self._seal(self._keys[0], value)

    def asked(self, offset: int) -> bool:
        """Whether an entry there has to be sealed."""
        return offset >= self._since

    def holds(self, offset: int, value: bytes, headers: Headers) -> bool:
        """Whether the entry there is to be believed."""
        if not self.asked(offset):
            return True
        said = next((given for name, given in headers if name == SEAL), None) or b""
        return any(hmac.compare_digest(said, self._seal(key, value)) for key in self._keys)

    def _seal(self, key: bytes, value: bytes) -> bytes:
        return hmac.digest(key, self._of + value, "sha256")

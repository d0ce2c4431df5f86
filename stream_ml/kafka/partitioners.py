"""Which partitioner the producers of a topic use, told by where their keys stand.

librdkafka hashes keys with CRC32 unless told otherwise, Java with murmur2: of 1,000 keys 927 land elsewhere among 12
partitions. An event and its label then never meet, and nothing else shows why.
"""

import zlib
from itertools import islice
from typing import Literal

from stream_ml.records import Records

Partitioner = Literal["crc32", "murmur2", "other"]

LEAST = 50  # keys before a verdict: by chance all of them stand where a hash says with probability (1/partitions)^50
ENOUGH = 500  # keys of a topic, then the next sample begins
PER_BATCH = 20


def murmur2(key: bytes) -> int:
    """Murmur2, 32 bits, as in Java's producer. Source: org.apache.kafka.common.utils.Utils.murmur2."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(key)) & mask
    whole = len(key) & ~3
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    if whole < len(key):
        h = (h ^ int.from_bytes(key[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def by_murmur2(key: bytes, partitions: int) -> int:
    """Partition of a key in Java's producer, and with librdkafka's ``partitioner=murmur2_random``."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def by_crc32(key: bytes, partitions: int) -> int:
    """Partition of a key with librdkafka's default ``partitioner=consistent_random``."""
    return zlib.crc32(key) % partitions


class PartitionerSample:
    """A sample of one topic's keys. `verdict` is None while there are too few, or only one partition."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._count = self._crc32 = self._murmur2 = 0
        self.verdict: Partitioner | None = None

    def look(self, records: Records) -> None:
        """Take some of a batch's keys into the sample."""
        if self._partitions < 2:
            return
        for key in islice(filter(None, records.keys), PER_BATCH):
            self._count += 1
            self._crc32 += by_crc32(key, self._partitions) == records.partition
            self._murmur2 += by_murmur2(key, self._partitions) == records.partition
        if self._count >= LEAST:
            hits: dict[Partitioner, int] = {"crc32": self._crc32, "murmur2": self._murmur2}
            self.verdict = next((name for name, hit in hits.items() if hit == self._count), "other")
        if self._count >= ENOUGH:
            self._count = self._crc32 = self._murmur2 = 0


def disagreement(events: Partitioner | None, feedback: Partitioner | None) -> str:
    """What to say where producers hash keys differently; empty where that is not known."""
    if events == feedback or events not in _WORDS or feedback not in _WORDS:
        return ""
    return (
        f"keys of events stand where {_WORDS[events]} puts them, keys of feedback where {_WORDS[feedback]} does: most "
        "labels will not meet their events; give both producers the same partitioner (in librdkafka, "
        "partitioner=murmur2_random is Java's)"
    )


_WORDS: dict[Partitioner | None, str] = {"crc32": "CRC32 (librdkafka's default)", "murmur2": "murmur2 (Java's default)"}

"""Producers that hash keys differently are told apart by where their keys stand."""

import struct
from collections.abc import Callable

import pytest

from stream_ml.kafka.partitioners import LEAST, PartitionerSample, by_crc32, by_murmur2, disagreement, murmur2
from stream_ml.records import Records


@pytest.mark.parametrize(
    ("key", "expected"),
    [  # computed by Kafka's own client (org.apache.kafka.common.utils.Utils)
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_javas(key: bytes, expected: int) -> None:
    assert struct.pack("I", murmur2(key)) == struct.pack("i", expected)


def seen(where: Callable[[bytes, int], int], count: int = LEAST, partitions: int = 4) -> PartitionerSample:
    sample = PartitionerSample(partitions)
    for number in range(count):
        key = f"v{number}".encode()
        sample.look(Records("t", where(key, partitions), [number], [0], [key], [b""], {}))
    return sample


def test_the_partitioner_is_known_by_its_keys() -> None:
    assert seen(by_crc32).verdict == "crc32"
    assert seen(by_murmur2).verdict == "murmur2"
    assert seen(lambda key, partitions: int(key[1:]) % partitions).verdict == "other"


def test_too_few_keys_or_one_partition_say_nothing() -> None:
    assert seen(by_crc32, count=LEAST - 1).verdict is None
    assert seen(by_crc32, partitions=1).verdict is None


def test_only_two_known_and_different_partitioners_disagree() -> None:
    assert "murmur2_random" in disagreement("crc32", "murmur2")
    assert disagreement("murmur2", "crc32")
    for pair in (("crc32", "crc32"), ("other", "crc32"), (None, "murmur2"), ("other", "other")):
        assert disagreement(*pair) == ""

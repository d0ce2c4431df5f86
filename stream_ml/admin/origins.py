"""The records that dead letters say they were, read where they say: nobody can make one up by a dead letter."""

import itertools
from collections.abc import Iterable, Iterator

from stream_ml.config import Config
from stream_ml.kafka.clients import admin
from stream_ml.kafka.messages import record_of
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.ranges import RangeReader, Where
from stream_ml.records import Record

Place = tuple[str, int, int]
GAP = 5_000  # offsets between two places that are read over: faster than a fetch of its own


class Origins:
    """Looks records up by topic, partition and offset."""

    def __init__(self, config: Config, inputs: Iterable[Where]) -> None:
        self._held = ends(admin(config), list(inputs))
        self._reader = RangeReader(config, keep_alive=lambda: None)

    def close(self) -> None:
        """Let go of the reader."""
        self._reader.close()

    def deleted(self, place: Place) -> bool:
        """Whether retention has deleted what stood there."""
        return place[2] < self._held[place[:2]][0]

    def records(self, places: Iterable[Place]) -> dict[Place, Record]:
        """What stands there, committed; nothing of places at which there is no record. Errors as of `read_messages`."""
        asked = set(places)
        wanted: dict[Where, list[int]] = {}
        for topic, partition, offset in sorted(asked):
            first, end = self._held[topic, partition]
            if first <= offset < end:
                wanted.setdefault((topic, partition), []).append(offset)
        stretches = {where: list(_stretches(offsets)) for where, offsets in wanted.items()}
        found: dict[Place, Record] = {}
        for each in itertools.zip_longest(*stretches.values()):
            ranges = {where: of for where, of in zip(stretches, each, strict=True) if of is not None}
            for message in itertools.chain.from_iterable(self._reader.messages(ranges)):
                place = (message.topic(), message.partition(), message.offset())
                if place in asked:  # what stands between them is read over and not held
                    found[place] = record_of(message)
        return found


def _stretches(offsets: list[int]) -> Iterator[tuple[int, int]]:
    """Ranges, first and exclusive stop, that hold these ascending offsets."""
    first = last = offsets[0]
    for offset in offsets[1:]:
        if offset - last > GAP:
            yield first, last + 1
            first = offset
        last = offset
    yield first, last + 1

"""A sample of predictions, spread evenly over all of them, in one pass and without a random number."""

from collections.abc import Iterator

from stream_ml.core.partition.predictions import Published
from stream_ml.records import Record


class Sample:
    """Every n-th prediction that is offered, where n doubles when there are too many: at most `size` in the end."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._stride, self._offered = 1, 0
        self._chosen: dict[tuple[int, int], Published] = {}
        self._records: dict[tuple[int, int], Record] = {}

    def offer(self, said: Published) -> None:
        """Take a prediction, or not."""
        if self.size and self._offered % self._stride == 0:
            self._chosen[said.partition, said.offset] = said
            if len(self._chosen) > 2 * self.size:
                self._chosen = dict(list(self._chosen.items())[::2])
                self._stride *= 2
        self._offered += 1

    def keep(self, record: Record) -> None:
        """Keep an event whose prediction is in the sample; after all predictions of its partition were offered."""
        place = (record.partition, record.offset)
        if place in self._chosen:
            self._records[place] = record

    def pairs(self) -> Iterator[tuple[Published, Record]]:
        """Predictions with their events, by model version."""
        found = [(said, self._records[place]) for place, said in self._chosen.items() if place in self._records]
        taken = min(self.size, len(found))
        even = [found[number * len(found) // taken] for number in range(taken)]
        yield from sorted(even, key=lambda pair: pair[0].served.position)

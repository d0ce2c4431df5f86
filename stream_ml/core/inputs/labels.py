"""A batch of feedback, decoded: columns of n rows, each a label or a dead letter."""

from collections.abc import Collection, Iterator, Sequence
from typing import overload

from stream_ml.core.inputs.events import picked
from stream_ml.records import DeadLetter, Label, Records, Target

NO_TARGET = Target(None, None)


class Labels(Sequence[Label | DeadLetter]):
    """n records as labels: `dead_letters` has the rows that cannot be used, whose other columns say nothing."""

    __slots__ = ("dead_letters", "ids", "records", "targets", "times_ms")

    def __init__(
        self,
        records: Records,
        ids: list[str],
        times_ms: list[int],
        targets: list[Target],
        dead_letters: dict[int, DeadLetter],
    ) -> None:
        self.records, self.dead_letters = records, dead_letters
        self.ids, self.times_ms, self.targets = ids, times_ms, targets

    @classmethod
    def of(cls, topic: str, partition: int, items: Sequence[Label | DeadLetter]) -> "Labels":
        """The columns of items that are there one by one."""
        records = Records.of(topic, partition, [item.record for item in items])
        some = [item if isinstance(item, Label) else Label(item.record, "", 0, NO_TARGET) for item in items]
        dead_letters = {row: item for row, item in enumerate(items) if isinstance(item, DeadLetter)}
        columns = ([one.event_id for one in some], [one.time_ms for one in some], [one.target for one in some])
        return cls(records, *columns, dead_letters)

    @classmethod
    def joined(cls, parts: Sequence["Labels"]) -> "Labels":
        """Those of several parts of one partition, one after another; none of none."""
        if len(parts) == 1:
            return parts[0]
        where = (parts[0].records.topic, parts[0].records.partition) if parts else ("", 0)
        found = cls.of(*where, ())
        for part in parts:
            found.dead_letters |= {len(found) + row: dead_letter for row, dead_letter in part.dead_letters.items()}
            found.records.extend(part.records)
            found.ids += part.ids
            found.times_ms += part.times_ms
            found.targets += part.targets
        return found

    def __len__(self) -> int:
        """n."""
        return len(self.ids)

    @overload
    def __getitem__(self, row: int) -> Label | DeadLetter: ...

    @overload
    def __getitem__(self, row: slice) -> "Labels": ...

    def __getitem__(self, row: int | slice) -> "Label | DeadLetter | Labels":
        """One row as a value, or those of a slice as columns."""
        if isinstance(row, slice):
            return self._part(*row.indices(len(self))[:2])
        row = range(len(self))[row]
        return self.dead_letters[row] if row in self.dead_letters else self.label(row)

    def __iter__(self) -> Iterator[Label | DeadLetter]:
        """All, one by one."""
        rows = zip(self.records, self.ids, self.times_ms, self.targets, strict=True)
        return (self.dead_letters.get(row) or Label(*columns) for row, columns in enumerate(rows))

    def label(self, row: int) -> Label:
        """One of those that are labels."""
        return Label(self.records.record(row), self.ids[row], self.times_ms[row], self.targets[row])

    def _part(self, first: int, stop: int) -> "Labels":
        if (first, stop) == (0, len(self)):
            return self
        dead_letters = {
            row - first: dead_letter for row, dead_letter in self.dead_letters.items() if first <= row < stop
        }
        columns = (self.ids[first:stop], self.times_ms[first:stop], self.targets[first:stop])
        return Labels(self.records.part(first, stop), *columns, dead_letters)

    def latest_ms(self, before_ms: int, dead_letters: Collection[int] | None = None) -> int:
        """The largest of `before_ms` and the times of all rows but the dead letters, which may be more by now."""
        dead_letters = self.dead_letters if dead_letters is None else dead_letters
        times = self.times_ms
        if dead_letters:
            times = picked(times, [row for row in range(len(self)) if row not in dead_letters])
        return max(before_ms, max(times, default=before_ms))

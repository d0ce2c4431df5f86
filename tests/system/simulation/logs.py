"""Partition logs as a broker keeps them: records of transactions, markers that take offsets, the last stable offset."""

from collections.abc import Sequence
from typing import NamedTuple

Where = tuple[str, int]


class Entry(NamedTuple):
    """One offset of a log. `kind` is data, commit or abort; the last two are control records."""

    kind: str
    producer: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


NO_PRODUCER = -1  # of a record that belongs to no transaction


class PartitionLog:
    """One partition."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.aborted: set[int] = set()
        self._open: dict[int, list[int]] = {}

    @property
    def end(self) -> int:
        """The read_uncommitted end."""
        return len(self.entries)

    @property
    def stable_end(self) -> int:
        """The first offset of an open transaction, or the end."""
        return min((offsets[0] for offsets in self._open.values()), default=self.end)

    def append(self, entry: Entry) -> int:
        """Offset of the new record."""
        if entry.kind == "data" and entry.producer != NO_PRODUCER:
            self._open.setdefault(entry.producer, []).append(self.end)
        self.entries.append(entry)
        return self.end - 1

    def holds_open(self, producer: int) -> bool:
        """Whether a transaction of this producer is open here."""
        return producer in self._open

    def mark(self, producer: int, *, commit: bool, now_ms: int) -> None:
        """Write a transaction's marker."""
        offsets = self._open.pop(producer, [])
        if not commit:
            self.aborted.update(offsets)
        self.entries.append(Entry("commit" if commit else "abort", producer, now_ms, None, None))

    def is_data(self, offset: int) -> bool:
        """Whether a read_committed reader that may read this far sees a record here."""
        return self.entries[offset].kind == "data" and offset not in self.aborted

    def committed(self) -> list[tuple[int, Entry]]:
        """Everything that a read_committed reader sees now."""
        return [(offset, self.entries[offset]) for offset in range(self.stable_end) if self.is_data(offset)]

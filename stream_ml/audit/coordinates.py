"""What must hold between the topics, by coordinates: every input ends once, every sequence is dense.

It knows nothing of how the service works, only what its records say. `contents` compares what they hold.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

Rule = Literal["lost", "repeated", "foreign", "sequence", "content", "pair", "version", "score", "role"]
"""lost: an input without an end. repeated: one with two. foreign: an output without an input, or no record of ours.
sequence: a gap or a repeat in the log. content: an output says something else than its input. pair: joined where rule
10 forbids it, not joined where it demands it, or an outcome that is not true. version: a model version that the log
does not hold. score: the log gives another score. role: by another model than the one that serves, and not flagged."""

FINDINGS_MAX = 1_000  # kept of each rule; all are counted


class Finding(NamedTuple):
    """Something that is wrong, and where."""

    rule: Rule
    topic: str
    partition: int
    offset: int
    message: str

    def __str__(self) -> str:
        """One line with coordinates."""
        return f"{self.rule}: {self.topic} [{self.partition}] {self.offset}: {self.message}"


class Findings:
    """Findings by rule, counted; the first FINDINGS_MAX of each are kept."""

    def __init__(self) -> None:
        self.counts: Counter[Rule] = Counter()
        self.kept: list[Finding] = []

    def add(self, rule: Rule, topic: str, partition: int, offset: int, message: str) -> None:
        """Note one."""
        self.counts[rule] += 1
        if self.counts[rule] <= FINDINGS_MAX:
            self.kept.append(Finding(rule, topic, partition, offset, message))


class Progress(NamedTuple):
    """How far a partition has been committed: positions, and from which label on one may still wait."""

    events: int
    feedback: int
    feedback_floor: int


class Ends:
    """Which offsets of one input partition exist, and how often each has ended; two bytes an offset."""

    def __init__(self, topic: str, partition: int, first: int, end: int, found: Findings) -> None:
        self._topic, self._partition, self._first, self._found = topic, partition, first, found
        self._exists, self._ended = bytearray(end - first), bytearray(end - first)
        self.count = 0

    def exists(self, offset: int) -> None:
        """Note an input record."""
        self._exists[offset - self._first] = 1
        self.count += 1

    def ended(self, offset: int, where: tuple[str, int, int]) -> None:
        """Note an output that names this input; one from before the topic's beginning says nothing any more."""
        index = offset - self._first
        if index < 0:
            return
        if index >= len(self._exists) or not self._exists[index]:
            if index < len(self._exists):
                self._found.add("foreign", *where, f"it names {self._topic} [{self._partition}] {offset}: no such")
            return  # past the end as it was when reading began
        if self._ended[index]:
            place = f"{where[0]} [{where[1]}] {where[2]}"
            self._found.add("repeated", self._topic, self._partition, offset, f"it ends a second time at {place}")
        self._ended[index] = 1

    def open(self, begin: int, position: int) -> Iterator[int]:
        """Offsets from `begin` on and before `position` that have not ended."""
        first = self._first
        for index in range(max(0, begin - first), min(len(self._exists), position - first)):
            if self._exists[index] and not self._ended[index]:
                yield first + index


class Coordinates:
    """One partition: its two inputs, and the examples that the log holds of it.

    Inputs are noted before outputs. So many attributes: most are counts for the report.
    """

    def __init__(self, partition: int, progress: Progress | None, events: Ends, feedback: Ends, found: Findings):
        self.partition, self.progress, self.events, self.feedback = partition, progress, events, feedback
        self._found = found
        self._next_sequence = 0
        self.begin = (0, 0)  # where the partition started, as the log says
        self.predictions = self.examples = self.duplicates = 0
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.waiting: list[int] = []
        self.given_up = 0
        self._passed_over: list[tuple[int, int]] = []

    def pass_over(self, first: int, stop: int) -> None:
        """Note events that an operator has given up: offsets were set by hand from `first` to `stop`."""
        self._passed_over.append((first, stop))

    def example(self, log: tuple[str, int, int], sequence: int, feedback_offset: int) -> None:
        """Note an example of this partition, in log order."""
        self.examples += 1
        if sequence != self._next_sequence:
            message = f"partition {self.partition} has sequence {sequence} where {self._next_sequence} is next"
            self._found.add("sequence", *log, message)
        self._next_sequence = sequence + 1
        self.feedback.ended(feedback_offset, log)

    def finish(self, events_topic: str, feedback_topic: str) -> None:
        """Find what has no end, when everything has been noted."""
        if self.progress is None:
            return
        for offset in self.events.open(self.begin[0], self.progress.events):
            if any(first <= offset < stop for first, stop in self._passed_over):
                self.given_up += 1
                continue
            message = "it has neither a prediction nor a dead letter"
            self._found.add("lost", events_topic, self.partition, offset, message)
        for offset in self.feedback.open(self.begin[1], self.progress.feedback):
            if offset >= self.progress.feedback_floor:
                self.waiting.append(offset)
            else:
                message = "it made no example, no outcome and no dead letter, and lies below the floor"
                self._found.add("lost", feedback_topic, self.partition, offset, message)

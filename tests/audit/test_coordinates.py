"""The checker finds what is wrong between the topics: one test for each thing that can be."""

from collections.abc import Callable

import pytest

from stream_ml.audit.contents import Contents
from stream_ml.audit.coordinates import Coordinates, Ends, Findings, Progress
from stream_ml.core.join.watermark import NEVER_MS, JoinSettings, Times
from stream_ml.core.log.entry import Example, decode_entry, encode_example
from stream_ml.core.partition.predictions import Published
from stream_ml.records import Label, Record, Served, Target

SETTINGS = JoinSettings(ttl_ms=1_000, early_ttl_ms=100, events_max=10, early_labels_max=10, bytes_max=10**6)
TIMES = Times(0, -1_000, -100)
SERVED = Served("yes", 0.75, None, None, "abc", 0, ())
P = ("predictions", 0)
LOG = ("log", 0)


class Topics:
    """Two events and two labels, one of them a repeat: all as it should be, until a test changes something."""

    def __init__(self) -> None:
        self.found = Findings()
        self.progress = Progress(2, 2, 2)
        self.predictions = {0: self.said(0), 1: self.said(1)}
        self.keys = {0: b"v0", 1: b"v1"}
        self.labels = {0: (0, 500, "yes"), 1: (0, 600, "no")}
        self.examples = [(5, 0, 0, 0)]  # log offset, sequence, event, label
        self.example_changes: dict[str, object] = {}
        self.outcomes = [("duplicate", 1, 0)]
        self.times = TIMES

    def said(self, offset: int, **changes: object) -> Published:
        served = SERVED._replace(**changes)  # type: ignore[arg-type]
        return Published("events", 0, offset, f"v{offset}", 100 * offset, served)

    def label(self, offset: int) -> Label:
        event, time_ms, name = self.labels[offset]
        return Label(Record("feedback", 0, offset, 0, b"k", b"v"), f"v{event}", time_ms, Target(name, None))

    def rules(self) -> list[str]:
        """Judge, and say which rules are broken."""
        found = self.found
        events, feedback = Ends("events", 0, 0, 2, found), Ends("feedback", 0, 0, len(self.labels), found)
        coordinates = Coordinates(0, self.progress, events, feedback, found)
        contents = Contents(("events", "feedback"), SETTINGS, found)
        for offset in (0, 1):
            events.exists(offset)
            contents.event(Record("events", 0, offset, 0, f"v{offset}".encode(), b"e"), f"v{offset}", 100 * offset)
        for offset in self.labels:
            feedback.exists(offset)
            contents.label(self.label(offset))
        for number, (offset, said) in enumerate(self.predictions.items()):
            events.ended(offset, (*P, number))
            contents.prediction((*P, number), self.keys[offset], said, 10)
        for at, sequence, event, label in self.examples:
            entry = decode_entry(self.example(sequence, event, label))
            coordinates.example((*LOG, at), sequence, label)
            contents.example((*LOG, at), entry._replace(**self.example_changes))  # type: ignore[arg-type]
        for number, (kind, label, event) in enumerate(self.outcomes):
            feedback.ended(label, ("outcomes", 0, number))
            contents.outcome(("outcomes", 0, number), kind, label, event)
        coordinates.finish("events", "feedback")
        contents.finish(0, coordinates.waiting, self.times)
        return [finding.rule for finding in found.kept]

    def example(self, sequence: int, event: int, label: int) -> bytes:
        said = self.predictions.get(event, self.said(event))
        example = Example(
            0,
            sequence,
            1,
            label,
            f"v{event}",
            100 * event,
            event,
            7,
            "bare",
            b"e",
            *(self.label(label).time_ms, self.label(label).target, label),
            said.served,
        )
        return encode_example(example, written_at_ms=0, writer="w")


def test_what_is_right_gives_no_finding() -> None:
    assert Topics().rules() == []


def lost_event(t: Topics) -> None:
    del t.predictions[1]


def lost_label(t: Topics) -> None:
    t.outcomes = []


def example_twice(t: Topics) -> None:
    t.examples.append((6, 1, 0, 0))


def gap(t: Topics) -> None:
    t.examples = [(5, 1, 0, 0)]


def outcome_of_no_label(t: Topics) -> None:
    del t.labels[1]


def other_key(t: Topics) -> None:
    t.keys[0] = b"v1"


def other_id(t: Topics) -> None:
    t.predictions[0] = t.predictions[0]._replace(event_id="v9")


def version_past_the_log(t: Topics) -> None:
    t.predictions[1] = t.said(1, position=11)


def version_that_knew_its_label(t: Topics) -> None:
    t.predictions[0] = t.said(0, position=6)


def other_event_bytes(t: Topics) -> None:
    t.example_changes = {"event": b"x"}


def other_score(t: Topics) -> None:
    t.example_changes = {"served": SERVED._replace(score=0.5)}


def other_label(t: Topics) -> None:
    t.example_changes = {"target": Target("no", None)}


def too_late_to_join(t: Topics) -> None:
    t.labels[0] = (0, 1_001, "yes")


def joined_although_a_duplicate(t: Topics) -> None:
    t.predictions[0] = t.said(0, flags=("duplicate_event",))


def second_label_won(t: Topics) -> None:
    t.examples = [(5, 0, 0, 1)]
    t.outcomes = [("duplicate", 0, 0)]


def duplicate_of_nothing(t: Topics) -> None:
    t.outcomes = [("duplicate", 1, 1)]
    t.labels[1] = (1, 600, "no")


def late_in_time(t: Topics) -> None:
    t.labels[1] = (1, 600, "no")
    t.outcomes = [("late", 1, 1)]


def invalid_in_time(t: Topics) -> None:
    t.labels[1] = (1, 600, "no")
    t.outcomes = [("invalid", 1, 1)]


def orphan_too_soon(t: Topics) -> None:
    t.labels[1] = (7, 600, "no")
    t.outcomes = [("orphan", 1, None)]  # type: ignore[list-item]


def pair_not_joined(t: Topics) -> None:
    t.labels[1] = (1, 600, "no")
    t.outcomes = []
    t.progress = Progress(2, 2, 1)


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (lost_event, {"lost"}),
        (lost_label, {"lost"}),
        (example_twice, {"repeated", "pair"}),
        (gap, {"sequence"}),
        (outcome_of_no_label, set()),  # past the end as it was when reading began
        (other_key, {"content"}),
        (other_id, {"content"}),
        (version_past_the_log, {"version"}),
        (version_that_knew_its_label, {"version"}),
        (other_event_bytes, {"content"}),
        (other_score, {"content"}),
        (other_label, {"content"}),
        (too_late_to_join, {"pair"}),
        (joined_although_a_duplicate, {"pair"}),
        (second_label_won, {"pair"}),
        (duplicate_of_nothing, {"pair"}),
        (late_in_time, {"pair"}),
        (invalid_in_time, {"pair"}),
        (orphan_too_soon, {"pair"}),
        (pair_not_joined, {"pair"}),
    ],
)
def test_what_is_wrong_is_found(change: Callable[[Topics], None], rules: set[str]) -> None:
    topics = Topics()
    change(topics)
    assert set(topics.rules()) == rules, topics.found.kept


def test_expired_sides_make_late_and_orphan_true() -> None:
    for change in (late_in_time, orphan_too_soon):
        topics = Topics()
        change(topics)
        topics.times = Times(NEVER_MS, NEVER_MS, NEVER_MS)
        assert topics.rules() == []


def test_an_output_whose_input_is_missing_in_the_middle_is_foreign_and_one_before_the_beginning_is_not() -> None:
    found = Findings()
    ends = Ends("events", 0, 5, 8, found)
    ends.exists(7)
    for offset in (4, 6, 7):
        ends.ended(offset, (*P, offset))
    assert [(finding.rule, finding.offset) for finding in found.kept] == [("foreign", 6)]


def test_what_is_not_read_yet_or_before_the_start_is_not_lost() -> None:
    found = Findings()
    events, feedback = Ends("events", 0, 0, 4, found), Ends("feedback", 0, 0, 4, found)
    for offset in range(4):
        events.exists(offset)
        feedback.exists(offset)
    coordinates = Coordinates(0, Progress(3, 3, 2), events, feedback, found)
    coordinates.begin = (2, 1)
    coordinates.finish("events", "feedback")
    assert [(finding.topic, finding.offset) for finding in found.kept] == [("events", 2), ("feedback", 1)]
    assert coordinates.waiting == [2]

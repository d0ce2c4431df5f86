"""What counts against the caps of a join, and that reaching them stays cheap."""

import pytest

from stream_ml.core.avro.texts import scores_text
from stream_ml.core.inputs.alignment import HELD_BYTES_MAX, HeldFeedback
from stream_ml.core.join.join import Join, Resolved, StagedJoin
from stream_ml.core.join.watermark import BEGINNING
from stream_ml.records import NOT_SERVED, Label, Record
from tests.support.partition import (
    FEEDBACK,
    ROOMY,
    T0,
    World,
    blank_join,
    clock,
    event_record,
    label,
    labels_of,
    partition_settings,
    pending,
)

NO_TIME = BEGINNING.watermark_ms
MEGABYTE = b"k" * 1_000_000


def wide(found: Label, **changes: object) -> Label:
    """A label whose record has another key, value or headers."""
    return found._replace(record=found.record._replace(**changes))


def shed(staged: StagedJoin) -> list[tuple[int, str]]:
    """Labels that end with a batch in which no time passes."""
    return [(r.label.record.offset, r.kind) for r in staged.advance(NO_TIME, NO_TIME, (False, False), clock())]


@pytest.mark.parametrize("changes", [{"key": MEGABYTE}, {"value": MEGABYTE}, {"headers": [("h", MEGABYTE)]}])
def test_all_that_a_waiting_label_holds_counts_against_the_cap_of_bytes(changes: dict[str, object]) -> None:
    join = blank_join(ROOMY._replace(bytes_max=3_100_000))
    staged = StagedJoin(join)
    for offset in range(5):
        staged.join_one(wide(label(offset, f"e{offset}", 1000), **changes))
    assert shed(staged) == [(0, "shed"), (1, "shed")]
    join.apply(staged)
    assert 3_000_000 < join.bytes <= 3_100_000
    staged = StagedJoin(join)
    for offset in range(2, 5):
        staged.event(pending(offset, f"e{offset}", 1000))
    join.apply(staged)
    assert join.bytes == sum(event.size for event in join.store.events())


def test_the_scores_of_many_classes_count_against_the_cap_of_bytes() -> None:
    served = NOT_SERVED._replace(scores=scores_text({f"class{number}": 0.01 for number in range(100)}))
    few, many = pending(0, "a", 1000), pending(0, "a", 1000)._replace(served=served)
    assert many.size - few.size >= 100 * 14  # its text


def test_an_event_whose_early_label_was_shed_waits_for_another() -> None:
    join = blank_join(ROOMY._replace(early_labels_max=1))
    staged = StagedJoin(join)
    staged.join_one(label(0, "a", 1000))
    staged.join_one(label(1, "b", 1000))
    assert shed(staged) == [(0, "shed")]
    join.apply(staged)
    staged = StagedJoin(join)
    assert staged.event(pending(0, "a", 1000)) == (None, [])
    found = staged.join_one(label(2, "a", 1000))
    assert found is not None and not isinstance(found, Resolved)


@pytest.mark.timeout(30)  # seconds; each label looked for among all the others would take ten minutes
def test_as_many_labels_with_one_id_as_the_cap_allows_are_held_and_ended_in_time() -> None:
    join = Join(ROOMY._replace(early_labels_max=100_000))
    ended: list[tuple[int, str]] = []
    for first in range(0, 120_000, 5_000):
        staged = StagedJoin(join)
        for offset in range(first, first + 5_000):
            staged.add_waiting(label(offset, "a", 1000))
        ended += shed(staged)
        join.apply(staged)
    assert ended == [(offset, "shed") for offset in range(20_000)]
    staged = StagedJoin(join)
    joined, others = staged.event(pending(0, "a", 1000))
    assert joined is not None and joined.label.record.offset == 20_000
    assert [(r.label.record.offset, r.kind) for r in others] == [(o, "duplicate") for o in range(20_001, 120_000)]
    join.apply(staged)
    assert (join.waiting, join.waiting_by_id) == ({}, {})


def test_held_feedback_is_full_by_bytes_and_empties_again() -> None:
    held = HeldFeedback()
    items = [wide(label(offset, "a", 1000), key=MEGABYTE) for offset in range(HELD_BYTES_MAX // 1_000_000)]
    held.extend(labels_of(items[:-1]), clock())
    assert not held.full
    held.extend(labels_of(items[-1:]), clock())
    assert held.full
    held.drop(1)
    assert not held.full
    held.clear()
    held.extend(labels_of(items[:-1]), clock())
    assert not held.full


def test_a_label_whose_outcome_would_be_larger_than_a_record_may_be_ends_as_a_dead_letter() -> None:
    first = label(0, "nobody", T0).record._replace(key=b"k" * 60_000)
    feedback = [first, Record(FEEDBACK, 0, 1, T0, b"k", label(1, "other", T0).record.value)]
    settings = ROOMY._replace(early_labels_max=1)
    world = World(settings, partition_settings(50_000), [event_record(0, "e0", T0)], feedback)
    world.turn(1, 2)
    assert (world.dead(FEEDBACK), world.outcomes()) == ([0], [])
    assert sorted(world.partition.join.waiting) == [1]
    world.crash()
    assert sorted(world.partition.join.waiting) == [1]

"""The join by its rules, then by its laws: any interleaving, any crash, every label once."""

from collections import Counter
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ml.core.avro.columnar import ROWS_MIN
from stream_ml.core.fold.replica import Replica
from stream_ml.core.inputs.events import Events
from stream_ml.core.join.join import Join, Joined, Resolved, StagedJoin
from stream_ml.core.join.pending import PendingEvent, Rows
from stream_ml.core.join.watermark import BEGINNING, InputTimes, JoinSettings
from stream_ml.core.log.heads import Pair as LoggedPair
from stream_ml.core.log.heads import decode_pair, decode_pairs
from stream_ml.core.partition.batch import Batch, Outputs
from stream_ml.core.partition.commit_metadata import OutputEnds, RestorePoints, parse_metadata
from stream_ml.core.partition.restore import CommittedOutputs, rebuilt_labels
from stream_ml.core.partition.serving import Serving
from stream_ml.records import BY_EVENT, BY_LABEL, Label, LogRecord, Record, Records, carried_bytes
from tests.support.partition import (
    EVENTS,
    FEEDBACK,
    ROOMY,
    T0,
    Pairing,
    World,
    blank_join,
    clock,
    command,
    event_record,
    example,
    fold_settings,
    held,
    label,
    label_record,
    labels_of,
    partition_settings,
    parts,
    pending,
)

LAW = settings(max_examples=120, deadline=None, derandomize=True, database=None)
NARROW = ROOMY._replace(ttl_ms=100, early_ttl_ms=20)
NO_TIME = BEGINNING.watermark_ms


def end(found: Joined | Resolved | None) -> str:
    """How a label ended, in one word."""
    return "waits" if found is None else "joined" if isinstance(found, Joined) else found.kind


def rows_of(*events: PendingEvent) -> Rows:
    """Events as the join holds them."""
    rows = Rows()
    for event in events:
        rows.append(event)
    return rows


def ids(join: Join) -> list[str]:
    """Events held, in offset order."""
    return [event.event_id for event in join.store.events()]


def ended(found: list[Resolved]) -> list[tuple[int, str]]:
    """Offset and kind of labels that ended."""
    return [(resolved.label.record.offset, resolved.kind) for resolved in found]


def to_watermark(staged: StagedJoin, watermark_ms: int) -> list[Resolved]:
    """The end of a batch in which both inputs came so far."""
    return staged.advance(watermark_ms, watermark_ms, (False, False), clock())


def after(join: Join, *events: PendingEvent, watermark_ms: int | None = None) -> StagedJoin:
    """A batch that follows a committed one with these events, which moved W."""
    staged = StagedJoin(join)
    for event in events:
        staged.event(event)
    to_watermark(staged, NO_TIME if watermark_ms is None else watermark_ms)
    join.apply(staged)
    return StagedJoin(join)


# --- one pair ---


@pytest.mark.parametrize(
    ("t", "expected"),
    [(979, "invalid"), (980, "joined"), (1000, "joined"), (1100, "joined"), (1101, "late")],
)
def test_a_label_joins_within_the_window_whichever_side_comes_first(t: int, expected: str) -> None:
    staged = after(blank_join(NARROW), pending(0, "a", 1000))
    assert end(staged.join_one(label(0, "a", t))) == expected
    staged = StagedJoin(blank_join(NARROW))
    assert end(staged.join_one(label(0, "a", t))) == "waits"
    joined, others = staged.event(pending(0, "a", 1000))
    assert ("joined" if joined else others[0].kind) == expected


def test_label_for_an_expired_event_is_late() -> None:
    assert end(after(blank_join(NARROW), pending(0, "a", 1000), watermark_ms=1100).join_one(label(0, "a", 1050))) == (
        "joined"
    )
    assert (
        end(after(blank_join(NARROW), pending(0, "a", 1000), watermark_ms=1101).join_one(label(0, "a", 1050))) == "late"
    )


def test_early_label_is_an_orphan_once_w_has_passed_it_by_early_ttl() -> None:
    staged = StagedJoin(blank_join(NARROW))
    staged.join_one(label(0, "a", 1000))
    assert to_watermark(staged, 1020) == []
    assert ended(to_watermark(staged, 1021)) == [(0, "orphan")]


def test_label_that_comes_expired_without_its_event_is_an_orphan_at_once() -> None:
    assert end(StagedJoin(blank_join(NARROW, watermark_ms=1021)).join_one(label(0, "a", 1000))) == "orphan"
    assert end(StagedJoin(blank_join(NARROW, watermark_ms=1020)).join_one(label(0, "a", 1000))) == "waits"


def test_early_label_behind_a_younger_one_does_not_join_after_it_expired() -> None:
    join = blank_join(NARROW)
    staged = StagedJoin(join)
    staged.join_one(label(0, "other", 2000))
    staged.join_one(label(1, "a", 1000))
    expired = to_watermark(staged, 1500)
    join.apply(staged)
    joined, others = StagedJoin(join).event(pending(0, "a", 1000))
    assert joined is None
    assert ended(expired + others) == [(1, "orphan")]


def test_event_that_comes_expired_joins_a_label_that_is_still_live() -> None:
    staged = StagedJoin(blank_join(NARROW, watermark_ms=1101))
    staged.join_one(label(0, "a", 1090))
    joined, _ = staged.event(pending(0, "a", 1000))
    assert joined is not None


def test_second_label_is_a_duplicate_and_names_the_event() -> None:
    staged = after(blank_join(NARROW), pending(7, "a", 1000))
    assert end(staged.join_one(label(0, "a", 1001, True))) == "joined"
    found = staged.join_one(label(1, "a", 1001, False))
    assert isinstance(found, Resolved)
    assert (found.kind, found.event_offset) == ("duplicate", 7)


def test_first_valid_early_label_wins_and_the_others_end() -> None:
    staged = StagedJoin(blank_join(NARROW))
    for offset, t in enumerate((900, 1000, 1001, 2000)):
        staged.join_one(label(offset, "a", t))
    joined, others = staged.event(pending(0, "a", 1000))
    assert joined is not None
    assert joined.label.record.offset == 1
    assert ended(others) == [(0, "invalid"), (2, "duplicate"), (3, "late")]


def test_pair_holds_the_events_bytes_and_the_join_forgets_them() -> None:
    join = blank_join(NARROW)
    staged = after(join, pending(0, "a", 1000))
    found = staged.join_one(label(0, "a", 1000))
    assert isinstance(found, Joined)
    assert found.event.value == b"avro"
    join.apply(staged)
    (remembered,) = join.store.events()
    assert (remembered.joined, remembered.value) == (True, b"")


def test_every_label_of_an_oversize_event_becomes_a_dead_letter() -> None:
    staged = after(blank_join(NARROW), pending(0, "a", 1000, oversize=True))
    assert [end(staged.join_one(label(offset, "a", 1000))) for offset in (0, 1)] == ["too_large", "too_large"]
    staged = StagedJoin(blank_join(NARROW))
    staged.join_one(label(0, "a", 1000))
    assert ended(staged.event(pending(0, "a", 1000, oversize=True))[1]) == [(0, "too_large")]


def test_joined_event_is_remembered_until_w_has_passed_it_by_both_ttls() -> None:
    join = blank_join(NARROW)
    staged = after(join, pending(0, "a", 1000), watermark_ms=1000)
    staged.join_one(label(0, "a", 1000))
    to_watermark(staged, 1120)
    join.apply(staged)
    staged = StagedJoin(join)
    assert staged.duplicates(["a"])
    assert end(staged.join_one(label(1, "a", 1100))) == "late"
    to_watermark(staged, 1121)
    join.apply(staged)
    assert not StagedJoin(join).duplicates(["a"])


def test_a_repeated_pair_does_not_join_again_after_it_was_forgotten() -> None:
    join = blank_join(NARROW, watermark_ms=1121)
    staged = StagedJoin(join)
    assert end(staged.join_one(label(5, "a", 1100))) == "orphan"
    assert staged.event(pending(5, "a", 1000)) == (None, [])
    assert end(staged.join_one(label(6, "a", 1100))) == "late"


@pytest.mark.parametrize(("ttl_ms", "early_ttl_ms"), [(10_000, 20), (100, 10_000), (10_000, 10_000)])
def test_a_longer_ttl_makes_nothing_joinable_again_that_has_expired(ttl_ms: int, early_ttl_ms: int) -> None:
    expired = blank_join(NARROW, watermark_ms=5000)
    join = Join(NARROW._replace(ttl_ms=ttl_ms, early_ttl_ms=early_ttl_ms), expired.times)
    join.rebuild([rows_of(pending(0, "a", 4899), pending(1, "b", 4900))], [label(0, "c", 4979), label(1, "d", 4980)])
    staged = StagedJoin(join)
    assert end(staged.join_one(label(2, "a", 4899))) == "late"
    assert end(staged.join_one(label(3, "b", 4900))) == "joined"
    assert ended(staged.event(pending(2, "c", 4979))[1]) == [(0, "orphan")]
    assert staged.event(pending(3, "d", 4980))[0] is not None
    assert end(staged.join_one(label(4, "e", 4979))) == "orphan"


def test_a_shorter_ttl_takes_effect_at_once() -> None:
    times = blank_join(NARROW, watermark_ms=5000).times
    staged = after(Join(NARROW._replace(ttl_ms=50), times), pending(0, "a", 4940), watermark_ms=5000)
    assert end(staged.join_one(label(0, "a", 4940))) == "late"


# --- floors and caps ---


def test_floors_are_the_positions_while_nothing_is_held() -> None:
    assert StagedJoin(blank_join(NARROW)).floors(12, 34) == (12, 34)


def test_floors_are_the_oldest_event_held_and_the_oldest_label_that_waits() -> None:
    join = blank_join(NARROW)
    staged = StagedJoin(join)
    staged.event(pending(3, "a", 1000))
    staged.event(pending(4, "b", 1000))
    for offset, event_id in ((5, "b"), (6, "x"), (7, "y")):
        staged.join_one(label(offset, event_id, 1000))
    assert staged.floors(9, 9) == (3, 6)
    join.apply(staged)
    staged = StagedJoin(join)
    staged.event(pending(9, "x", 1000))
    assert staged.floors(10, 9) == (3, 7)


def test_events_are_freed_by_prefix_only() -> None:
    join = blank_join(NARROW)
    staged = after(join, pending(0, "young", 5000), pending(1, "old", 1000), watermark_ms=5000)
    assert ids(join) == ["young", "old"]
    to_watermark(staged, 5121)
    join.apply(staged)
    assert not join.store.events()
    assert not len(join.store)


def test_events_cap_sheds_the_oldest_and_counts_those_that_could_still_join() -> None:
    join = blank_join(NARROW._replace(events_max=2))
    staged = StagedJoin(join)
    for offset in range(4):
        staged.event(pending(offset, f"e{offset}", 1000))
    staged.join_one(label(0, "e0", 1000))
    to_watermark(staged, 1000)
    assert staged.shed_events == 1
    assert staged.floors(4, 1) == (2, 1)
    join.apply(staged)
    assert ids(join) == ["e2", "e3"]


def test_early_labels_cap_sheds_the_oldest_and_each_is_an_outcome() -> None:
    join = blank_join(NARROW._replace(early_labels_max=2))
    staged = StagedJoin(join)
    for offset in range(4):
        staged.join_one(label(offset, f"e{offset}", 1000))
    assert ended(to_watermark(staged, 1000)) == [(0, "shed"), (1, "shed")]
    assert staged.floors(0, 4) == (0, 2)
    join.apply(staged)
    assert sorted(join.waiting) == [2, 3]


def test_bytes_cap_sheds_events_first_then_labels() -> None:
    join = blank_join(NARROW._replace(bytes_max=2_000))
    staged = StagedJoin(join)
    staged.event(pending(0, "a", 1000))
    for offset in range(3):
        staged.join_one(label(offset, f"e{offset}", 1000))
    assert ended(to_watermark(staged, 1000)) == [(0, "shed")]
    assert staged.shed_events == 1
    join.apply(staged)
    assert (ids(join), sorted(join.waiting)) == ([], [1, 2])
    assert 0 < join.bytes <= 2_000


def test_bytes_come_back_to_zero() -> None:
    join = blank_join(NARROW)
    staged = after(join, pending(0, "a", 1000), pending(1, "b", 1000), watermark_ms=1000)
    for offset, event_id in enumerate(("a", "a", "c", "d", "d")):
        staged.join_one(label(offset, event_id, 1000))
    to_watermark(staged, 1001)
    join.apply(staged)
    staged = after(join, pending(2, "d", 1000), watermark_ms=1001)
    to_watermark(staged, 9000)
    join.apply(staged)
    assert (join.bytes, held(join)["events"], join.waiting, join.waiting_by_id) == (0, {}, {}, {})


def test_staged_changes_are_nothing_until_applied() -> None:
    join = blank_join(NARROW)
    staged = after(join, pending(0, "a", 1000), watermark_ms=1000)
    staged.join_one(label(0, "x", 1000))
    to_watermark(staged, 1001)
    join.apply(staged)
    before = held(join)
    staged = StagedJoin(join)
    staged.event(pending(1, "x", 1000))
    staged.join_one(label(1, "a", 1000))
    to_watermark(staged, 9000)
    assert held(join) == before


# --- the partition ---


def small(events: list[Record], feedback: list[Record], join: JoinSettings = NARROW, limit: int = 1_000_000) -> World:
    """A partition with these topics."""
    return World(join, partition_settings(limit), events, feedback)


def test_second_event_of_an_id_is_scored_flagged_and_never_joined() -> None:
    world = small(
        [event_record(0, "a", T0, 1.0), event_record(1, "a", T0, 2.0), event_record(2, "b", T0)],
        [label_record(0, "a", T0), label_record(1, "a", T0)],
    )
    world.turn(1, 0)
    world.turn(2, 2)
    flagged = {offset: "duplicate_event" in flags for offset, flags in world.predicted().items()}
    assert flagged == {0: False, 1: True, 2: False}
    assert world.pairings() == [Pairing(0, 0, 0, BY_LABEL, 0)]
    assert world.outcomes() == [(1, "duplicate")]
    world.crash()
    assert [event.offset for event in world.partition.join.store.events()] == [0, 2]


def test_the_trigger_is_the_record_that_completed_the_pair() -> None:
    world = small([event_record(n, f"e{n}", T0) for n in range(2)], [label_record(n, f"e{n}", T0) for n in range(2)])
    world.turn(1, 2)
    world.turn(1, 0)
    assert world.pairings() == [Pairing(0, 0, 0, BY_LABEL, 0), Pairing(1, 1, 1, BY_EVENT, 1)]


def test_sequence_goes_on_after_a_crash() -> None:
    world = small([event_record(n, f"e{n}", T0) for n in range(4)], [label_record(n, f"e{n}", T0) for n in range(4)])
    world.turn(4, 1)
    world.process(0, 2)  # never committed
    world.crash()
    world.turn(0, 3)
    assert [pairing.sequence for pairing in world.pairings()] == [0, 1, 2, 3]


def test_a_feedback_that_cannot_be_read_or_is_poison_is_a_dead_letter_and_nothing_else() -> None:
    bad = label_record(0, "a", T0)._replace(value=b"\xff")
    world = small([event_record(0, "a", T0)], [bad, label_record(1, "a", T0), label_record(2, "a", T0)])
    world.turn(1, 3, poison_records={(FEEDBACK, 0, 1)})
    assert world.dead(FEEDBACK) == [0, 1]
    assert world.pairings() == [Pairing(0, 0, 2, BY_LABEL, 2)]
    assert world.outcomes() == []


def test_poison_event_is_a_dead_letter_and_the_next_of_its_id_is_the_first() -> None:
    world = small([event_record(0, "a", T0), event_record(1, "a", T0)], [label_record(0, "a", T0)])
    world.turn(1, 1, poison_records={(EVENTS, 0, 0)})
    world.crash()
    world.turn(1, 0)
    assert (world.dead(EVENTS), list(world.predicted())) == ([0], [1])
    assert world.pairings() == [Pairing(0, 1, 0, BY_EVENT, 1)]


def test_restore_point_is_the_last_one_that_neither_floor_has_left_behind() -> None:
    ends = [OutputEnds(n, n, n, n) for n in range(4)]
    marks = RestorePoints(0, 0, ends[0])
    for events, feedback, found in ((10, 0, ends[1]), (20, 30, ends[2]), (40, 30, ends[3])):
        marks.add(events, feedback, found)
    assert marks.before(9, 99) == ends[0]
    assert marks.before(10, 0) == ends[1]
    assert marks.before(99, 29) == ends[1]
    assert marks.before(39, 30) == ends[2]
    assert (marks.since(40, 30), marks.since(45, 37)) == (0, 12)
    marks.prune(39, 30)
    assert marks.before(99, 99) == ends[3]
    assert marks.before(39, 30) == ends[2]


def test_restore_points_stay_few_and_still_precede() -> None:
    marks = RestorePoints(0, 0, OutputEnds(0, 0, 0, 0))
    for n in range(1, 2000):
        marks.add(n, n, OutputEnds(n, n, n, n))
        assert all(marks.before(at, at).predictions <= at for at in (0, n // 2, n))
    assert len(marks._marks) <= RestorePoints.KEPT_MAX


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"v":2}', "null", '{"v":1}', "offset set by hand"])
def test_metadata_that_is_not_ours_is_none(text: str | None) -> None:
    assert parse_metadata(text) is None


def test_the_pair_of_an_example_is_read_from_its_head() -> None:
    value = example(7, trigger=(EVENTS, 3), partition=2)
    assert decode_pair(value) == LoggedPair(2, 7, 7, 7)
    assert decode_pair(command("freeze")) is None


# Whatever bytes stand in the outputs, a worker can take the partition up: the fold halts at such bytes in the log, too,
# and passes them once they are skipped.
@pytest.mark.parametrize("value", [b"", b"\x02", b"hello", b"{}"])
@pytest.mark.parametrize("where", ["training log", "predictions", "outcomes"])
def test_what_others_wrote_into_our_topics_does_not_stop_a_rebuild(where: str, value: bytes) -> None:
    evidence = CommittedOutputs(0, (0, 0), (9, 9), (EVENTS, FEEDBACK), parts().reader.payloads)
    if where == "training log":
        assert decode_pairs([value]) == [None]
        assert decode_pairs([value] * ROWS_MIN) == [None] * ROWS_MIN
    elif where == "predictions":
        evidence.events.published([value], parts().predictions)
    else:
        evidence.outcome(value)
    assert not (evidence.joined_events or evidence.ended_labels)
    assert evidence.events.finish(evidence.joined_events, 1_000_000) == []


def test_a_dead_letter_of_others_does_not_stop_a_rebuild() -> None:
    evidence = CommittedOutputs(0, (0, 0), (9, 9), (EVENTS, FEEDBACK), parts().reader.payloads)
    names = ("topic", "partition", "offset")
    headers = [(f"__connect.errors.{name}", None) for name in names]
    evidence.dead_letter(Record("dead_letters", 0, 0, 0, None, None, headers))  # type: ignore[arg-type]
    assert not evidence.ended_labels


# A label that waits must not be judged again by the clock of the host that rebuilds: with one clock a day behind the
# other it would be gone without example, outcome or dead letter.
def test_a_rebuild_keeps_a_label_that_was_taken_though_this_hosts_clock_is_behind() -> None:
    evidence = CommittedOutputs(0, (0, 0), (9, 9), (EVENTS, FEEDBACK), parts().reader.payloads)
    waiting, unreadable = rebuilt_labels(
        [label_record(0, "a", T0 + 20 * 365 * 86_400_000)], evidence, parts().feedback, 0
    )
    assert (len(waiting), unreadable) == (1, [])


# --- law: pairs do not depend on how the topics interleave ---

IDS = [f"id{n}" for n in range(8)]


class Given(NamedTuple):
    """What arrives: (id number, minutes off its usual time)."""

    events: list[tuple[int, int]]
    labels: list[tuple[int, int]]


def time_of(number: int, off: int) -> int:
    """Events of an id are usually as late as its number says."""
    return T0 + 10 * number + off


arrivals = st.builds(
    Given,
    st.lists(st.tuples(st.integers(0, 7), st.sampled_from([0, 0, 0, 0, 1, -25, 110])), max_size=14),
    st.lists(st.tuples(st.integers(0, 7), st.sampled_from([0, 5, 20, 50, 100, 101, -20, -21, 300])), max_size=20),
)


def by_hand(arrived: Given) -> dict[int, tuple[str, int | None]]:
    """Each label's end by rule 10 alone, all at once: first event of the id, first valid label, nothing expired."""
    first: dict[int, tuple[int, int]] = {}
    for offset, (number, off) in enumerate(arrived.events):
        first.setdefault(number, (offset, time_of(number, off)))
    found: dict[int, tuple[str, int | None]] = {}
    taken: set[int] = set()
    for offset, (number, off) in enumerate(arrived.labels):
        if number not in first:
            found[offset] = ("waits", None)
            continue
        event, t = first[number]
        distance = time_of(number, off) - t
        if distance > NARROW.ttl_ms or distance < -NARROW.early_ttl_ms:
            found[offset] = ("late" if distance > 0 else "invalid", event)
        else:
            found[offset] = ("duplicate" if number in taken else "joined", event)
            taken.add(number)
    return found


@LAW
@given(arrived=arrivals, order=st.lists(st.integers(0, 2), max_size=60))
def test_pairs_and_outcomes_are_those_of_the_rule_for_any_interleaving(arrived: Given, order: list[int]) -> None:
    """`order`: 0 takes an event, 1 a label, 2 commits."""
    join, found = blank_join(NARROW), dict.fromkeys(range(len(arrived.labels)), ("waits", None))
    staged, events, labels = StagedJoin(join), 0, 0
    rest = [0] * len(arrived.events) + [1] * len(arrived.labels)
    for step in [*order, *rest]:
        if step == 0 and events < len(arrived.events):
            number, off = arrived.events[events]
            if not staged.duplicates([IDS[number]]):
                joined, others = staged.event(pending(events, IDS[number], time_of(number, off)))
                found |= {o.label.record.offset: (o.kind, o.event_offset) for o in others}
                if joined is not None:
                    found[joined.label.record.offset] = ("joined", events)
            events += 1
        elif step == 1 and labels < len(arrived.labels):
            number, off = arrived.labels[labels]
            said = staged.join_one(label(labels, IDS[number], time_of(number, off)))
            if isinstance(said, Joined):
                found[labels] = ("joined", said.event.offset)
            elif said is not None:
                found[labels] = (said.kind, said.event_offset)
            labels += 1
        elif step == 2:
            join.apply(staged)
            staged = StagedJoin(join)
    assert found == by_hand(arrived)


# --- law: a crash changes nothing, and every label ends once ---

LONG = "L" * 60  # an event with this id is oversize where a record may be 4,500 bytes
TIGHT = 4_500
CAPS = [
    JoinSettings(60, 20, 10**6, 10**6, 10**9),
    JoinSettings(60, 20, 3, 10**6, 10**9),
    JoinSettings(60, 20, 10**6, 2, 10**9),
    JoinSettings(60, 20, 10**6, 10**6, 5_000),
    JoinSettings(300, 100, 6, 3, 7_000),
    ROOMY,
]


class Step(NamedTuple):
    """A turn, and what befalls the worker: after it was processed, or after it was committed."""

    events: int
    labels: int
    ends: tuple[bool, bool]
    elapsed_ms: int
    condemn: bool
    restore_point: bool
    crash: str


# (id number, ms off its usual time, whether its bytes are broken)
record_of = st.tuples(
    st.integers(0, 11), st.sampled_from([0, 0, 0, 10, 30, -15, 55, 70]), st.sampled_from([False] * 15 + [True])
)
step_of = st.builds(
    Step,
    st.integers(0, 4),
    st.integers(0, 4),
    st.tuples(st.booleans(), st.booleans()),
    st.sampled_from([0, 1, 10, 40]),
    st.sampled_from([False] * 9 + [True]),
    st.booleans(),
    st.sampled_from(["", "", "", "processed", "committed", "committed twice"]),
)


def topic_of(made: list[tuple[int, int, bool]], *, events: bool) -> list[Record]:
    """Records whose ids come again and whose times go forth."""
    found = []
    for offset, (number, off, broken) in enumerate(made):
        event_id = LONG if number == 11 else f"id{number}.{offset // 12}"
        t = T0 + 60 * (offset // 4) + off
        record = event_record(offset, event_id, t, float(number)) if events else label_record(offset, event_id, t)
        found.append(record._replace(value=b"\xff") if broken else record)
    return found


story = {
    "caps": st.sampled_from(CAPS),
    "events": st.lists(record_of, min_size=12, max_size=40),
    "labels": st.lists(record_of, min_size=12, max_size=40),
    "steps": st.lists(step_of, min_size=3, max_size=25),
}


def laid_out(caps: JoinSettings, events: list[tuple[int, int, bool]], labels: list[tuple[int, int, bool]]) -> World:
    return small(topic_of(events, events=True), topic_of(labels, events=False), caps, TIGHT)


def forget_inputs(join: Join) -> None:
    """Forget what a crash forgets of the inputs: whether they are at their end, and since when."""
    join.inputs = InputTimes(join.inputs.events_ms, join.inputs.feedback_ms, False, False)


def taken(world: World, step: Step, monotonic_ms: int) -> Outputs:
    at = world.partition
    poison_records = {(EVENTS, 0, at.events_position), (FEEDBACK, 0, at.feedback_position)} if step.condemn else ()
    return world.process(
        step.events, step.labels, ends=step.ends, now=clock(monotonic_ms), poison_records=poison_records
    )


def run(world: World, steps: list[Step], *, crashes: bool, forget: bool = True, commits_all: bool = True) -> None:
    """Take the steps. Without crashes a lost turn is taken anew in the next step, as an aborted one is.

    `forget`: where a crash is left out, lose at least what it may lose. `commits_all`: also turns without records.
    """
    monotonic_ms = 0
    for step in steps:
        monotonic_ms += step.elapsed_ms
        outputs = taken(world, step, monotonic_ms)
        if step.crash != "processed":
            if commits_all:
                world._put(outputs.records, outputs.metadata.text())
                world.positions = (outputs.events_position, outputs.feedback_position)
                world.partition.apply(outputs)
            else:
                world.commit(outputs)
            within_caps(world)
            if step.restore_point:
                world.restore_point()
        if step.crash and crashes:
            before = held(world.partition.join)
            world.crash()
            if step.crash == "committed twice":
                world.crash()
            if commits_all:
                assert held(world.partition.join) == before
        elif step.crash and forget:
            forget_inputs(world.partition.join)


def within_caps(world: World) -> None:
    join, caps = world.partition.join, world.join_settings
    assert len(join.store) == len(join.store.events()) <= caps.events_max
    assert len(join.waiting) <= caps.early_labels_max
    assert join.bytes <= caps.bytes_max
    assert join.bytes == sum(e.size for e in join.store.events()) + sum(
        carried_bytes(item.record) + len(item.event_id) + 900 for item in join.waiting.values()
    )


def written(world: World) -> dict[str, list[tuple[bytes | None, bytes | None]]]:
    return {topic: [(record.key, record.value) for record in records] for topic, records in world.topics.items()}


def check_invariants(world: World) -> None:
    """Every record once, sequences dense, triggers ever later, floors and time forward, a fold that never stops."""
    pairings, (events, feedback) = world.pairings(), world.positions
    waiting = sorted(world.partition.join.waiting)
    found = Counter(p.feedback_offset for p in pairings) + Counter(o for o, _ in world.outcomes())
    found += Counter(world.dead(FEEDBACK)) + Counter(waiting)
    assert found == Counter(range(feedback))
    assert Counter(list(world.predicted())) + Counter(world.dead(EVENTS)) == Counter(range(events))
    assert len({p.event_offset for p in pairings}) == len(pairings)
    assert [p.sequence for p in pairings] == list(range(len(pairings)))
    for trigger in (BY_EVENT, BY_LABEL):
        triggers = [p.trigger_offset for p in pairings if p.trigger == trigger]
        assert triggers == sorted(set(triggers))
    flags = world.predicted()
    assert not any("duplicate_event" in flags[p.event_offset] for p in pairings)
    committed = [found for text in world.texts if (found := parse_metadata(text)) is not None]
    assert len(committed) == len(world.texts)
    for one, next_one in pairwise(committed):
        assert one.events_floor <= next_one.events_floor
        assert one.feedback_floor <= next_one.feedback_floor
        assert all(a <= b for a, b in zip(one.times, next_one.times, strict=True))
    assert committed[-1].next_sequence == len(pairings)
    if waiting:
        assert committed[-1].feedback_floor <= waiting[0]
    replica = Replica(fold_settings())
    replica.fold([LogRecord(r.offset, r.value or b"") for r in world.topics[world.settings.topics.training_log]])
    assert (replica.halt, replica.book.dropped, replica.only.examples_learned) == (None, 0, len(pairings))


@LAW
@given(**story)
def test_a_crash_at_any_point_gives_the_same_topics_and_the_same_join(
    caps: JoinSettings, events: list[tuple[int, int, bool]], labels: list[tuple[int, int, bool]], steps: list[Step]
) -> None:
    crashed, whole = laid_out(caps, events, labels), laid_out(caps, events, labels)
    run(crashed, steps, crashes=True)
    run(whole, steps, crashes=False)
    assert written(crashed) == written(whole)
    assert held(crashed.partition.join) == held(whole.partition.join)
    check_invariants(crashed)


@LAW
@given(**(story | {"caps": st.just(ROOMY)}))
def test_crashes_do_not_change_the_topics_while_time_and_caps_free_nothing(
    caps: JoinSettings, events: list[tuple[int, int, bool]], labels: list[tuple[int, int, bool]], steps: list[Step]
) -> None:
    crashed, whole = laid_out(caps, events, labels), laid_out(caps, events, labels)
    run(crashed, steps, crashes=True, commits_all=False)
    run(whole, steps, crashes=False, forget=False, commits_all=False)
    assert written(crashed) == written(whole)


@LAW
@given(**story)
def test_every_label_ends_once_whatever_the_crashes_and_the_idle_time_that_they_lose(
    caps: JoinSettings, events: list[tuple[int, int, bool]], labels: list[tuple[int, int, bool]], steps: list[Step]
) -> None:
    """Idle turns move W in memory without a commit, so a crash may take W back to the committed one: not further."""
    world = laid_out(caps, events, labels)
    run(world, steps, crashes=True, commits_all=False)
    check_invariants(world)


@LAW
@given(
    events=st.lists(record_of, min_size=12, max_size=40),
    labels=st.lists(record_of, min_size=12, max_size=40),
    cuts=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12),
)
def test_pairs_do_not_depend_on_batches_while_time_and_caps_free_nothing(
    events: list[tuple[int, int, bool]], labels: list[tuple[int, int, bool]], cuts: list[tuple[int, int]]
) -> None:
    at_once, in_parts = laid_out(ROOMY, events, labels), laid_out(ROOMY, events, labels)
    at_once.turn(len(events), len(labels))
    for some_events, some_labels in [*cuts, (len(events), 0), (0, len(labels))]:
        in_parts.turn(some_events, some_labels)
    pairs = [{(p.event_offset, p.feedback_offset) for p in world.pairings()} for world in (at_once, in_parts)]
    assert pairs[0] == pairs[1]
    assert sorted(at_once.outcomes()) == sorted(in_parts.outcomes())
    assert at_once.predicted().keys() == in_parts.predicted().keys()
    check_invariants(in_parts)


def again_and_again(numbers: list[int], late_ms: int, *, events: bool) -> list[Record]:
    """The same records over and over: nothing about an id ever changes."""
    made = event_record if events else label_record
    return [made(offset, f"id{number}", T0 + 30 * number + late_ms) for offset, number in enumerate(numbers)]


@LAW
@given(
    caps=st.sampled_from([CAPS[0], JoinSettings(20, 60, 10**6, 10**6, 10**9), ROOMY]),
    events=st.lists(st.integers(0, 9), min_size=12, max_size=40),
    labels=st.lists(st.integers(0, 9), min_size=12, max_size=40),
    late_ms=st.sampled_from([-50, -20, 0, 10, 60]),
    steps=story["steps"],
)
def test_repeated_events_and_labels_never_join_twice_unless_a_cap_is_reached(
    caps: JoinSettings, events: list[int], labels: list[int], late_ms: int, steps: list[Step]
) -> None:
    world = small(again_and_again(events, 0, events=True), again_and_again(labels, late_ms, events=False), caps)
    run(world, steps, crashes=True, commits_all=False)
    ids = [entry.event_id for entry in world.log() if entry.kind == "example"]
    assert len(set(ids)) == len(ids)
    check_invariants(world)


def test_a_batch_that_is_processed_twice_gives_the_same_twice() -> None:
    world = small([event_record(0, "a", T0)], [label_record(0, "a", T0), label_record(1, "b", T0)])
    first, again = world.process(1, 2), world.process(1, 2)
    assert (first.blocks, first.metadata, first.counts) == (again.blocks, again.metadata, again.counts)
    nothing = Batch(Events(Records.of(EVENTS, 0, []), [], {}), labels_of([]), False, False)
    empty = world.partition.process(nothing, Serving.of(world.replica), clock(), stale=False, token="t")
    assert not empty.moved


def test_many_labels_for_one_id_wait_in_order() -> None:
    labels: list[Label] = [label(offset, "a", 1000) for offset in range(50)]
    staged = StagedJoin(blank_join(NARROW))
    for item in labels:
        staged.join_one(item)
    joined, others = staged.event(pending(0, "a", 1000))
    assert joined is not None
    assert [joined.label, *(other.label for other in others)] == labels

"""Feedback as columns: a batch of labels ends as its labels one by one would, and held batches keep their order."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ml.core.inputs.alignment import HeldFeedback
from stream_ml.core.inputs.labels import Labels
from stream_ml.core.join.join import Join, Joined, StagedJoin
from stream_ml.core.join.watermark import Times
from stream_ml.records import BY_LABEL, DeadLetter, Label
from tests.support.partition import ROOMY, T0, clock, label, label_record, labels_of, pending

LAW = settings(max_examples=150, deadline=None, derandomize=True, database=None)
NARROW = ROOMY._replace(ttl_ms=100, early_ttl_ms=20)

events = st.lists(st.tuples(st.integers(0, 200), st.sampled_from(("waits", "joined", "oversize"))), max_size=12)
told = st.lists(st.tuples(st.integers(0, 15), st.integers(-40, 320)), max_size=40)


def a_join(before: list[tuple[int, str]], expired: tuple[int, int]) -> Join:
    """A join that holds these events, by time and state."""
    join = Join(NARROW, Times(0, *expired))
    staged = StagedJoin(join)
    for number, (time_ms, state) in enumerate(before):
        staged.event(pending(number, f"e{number}", time_ms, oversize=state == "oversize"))
        if state == "joined":
            staged.join_one(label(number, f"e{number}", time_ms))
    join.apply(staged)
    return join


@LAW
@given(
    before=events,
    own=events,
    told=told,
    expired=st.tuples(st.integers(0, 150), st.integers(0, 150)),
    cuts=st.tuples(st.integers(0, 40), st.integers(0, 40)),
)
def test_a_batch_of_labels_ends_as_its_labels_one_by_one(
    before: list[tuple[int, str]],
    own: list[tuple[int, str]],
    told: list[tuple[int, int]],
    expired: tuple[int, int],
    cuts: tuple[int, int],
) -> None:
    labels = [label(100 + n, f"e{number}", time_ms, n % 3 > 0) for n, (number, time_ms) in enumerate(told)]
    seen = []
    for many in (True, False):
        join = a_join(before, expired)
        staged = StagedJoin(join)
        for number, (time_ms, state) in enumerate(own, len(before)):
            staged.event(pending(50 + number, f"e{number}", time_ms, oversize=state == "oversize"))
        pairs, ended = [], []
        if many:
            stops = [0, *sorted(min(cut, len(labels)) for cut in cuts), len(labels)]
            for first, stop in pairwise(stops):
                found = staged.join_many(labels_of(labels), first, stop)
                pairs, ended = pairs + found[0], ended + found[1]
        else:
            for one in labels:
                end = staged.join_one(one)
                if isinstance(end, Joined):
                    pairs.append(end.pair(BY_LABEL, one.record.offset))
                elif end is not None:
                    ended.append(end)
        size = staged.bytes
        joined = [(pair[0].offsets[pair[1]], *pair[2:]) for pair in pairs]
        join.apply(staged)
        seen.append((joined, ended, size, join.waiting, join.waiting_by_id, join.store.events(), join.bytes))
    assert seen[0] == seen[1]


def items(count: int) -> list[Label | DeadLetter]:
    """Labels a second apart; each fifth is a dead letter."""
    return [
        DeadLetter(label_record(n, f"e{n}", T0), "empty", "", "decode")
        if n % 5 == 4
        else label(n, f"e{n}", T0 + 1000 * n, n % 2 == 0)
        for n in range(count)
    ]


@LAW
@given(
    parts=st.lists(st.integers(0, 9), max_size=6),
    steps=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 60)), max_size=12),
)
def test_what_is_held_comes_out_once_in_order_however_it_was_put_in(
    parts: list[int], steps: list[tuple[int, int]]
) -> None:
    every, held, first = items(sum(parts)), HeldFeedback(), 0
    for count in parts:
        held.extend(labels_of(every[first : first + count]), clock())
        first += count
    done, ahead = 0, 0
    for most, seconds in steps:
        events_ms = T0 + 1000 * seconds
        ready = held.ready(events_ms, False, clock(), most)
        wanted = every[done : done + most]
        late = [n for n, item in enumerate(wanted) if isinstance(item, Label) and item.time_ms > events_ms]
        assert list(ready) == wanted[: late[0] if late else None]
        ahead = done + len(ready)
        held.drop(len(ready))
        done = ahead
        assert len(held) == len(every) - done
    held.drop(len(held))
    assert (len(held), held.full) == (0, False)


def test_columns_give_back_what_they_were_made_of() -> None:
    every = items(12)
    labels = labels_of(every)
    assert [*labels] == every == [labels[row] for row in range(12)]
    assert [*labels[3:9]] == every[3:9]
    assert [*Labels.joined([labels[:5], labels[5:6], labels[6:]])] == every
    assert labels[-1] == every[-1]
    assert labels.latest_ms(0) == T0 + 11_000
    assert labels.latest_ms(0, {11}) == T0 + 10_000
    assert labels[4:5].latest_ms(7) == 7

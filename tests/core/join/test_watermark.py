"""The partition's time W: the smaller of its inputs' times, an input at its end, the host's clock."""

import pytest

from stream_ml.core.join.join import Join, Joined, StagedJoin
from stream_ml.core.join.watermark import AHEAD_SLACK_MS, BEGINNING, SETTLE_MS, InputTimes
from stream_ml.records import Clock
from tests.support.partition import NOW_MS, ROOMY, T0, blank_join, clock, label, pending

NARROW = ROOMY._replace(ttl_ms=100, early_ttl_ms=20)
NO_TIME = BEGINNING.watermark_ms


def times(
    *, events: int = 1000, feedback: int = 900, at: tuple[bool, bool] = (False, False), wall: Clock
) -> InputTimes:
    """Both inputs after one batch."""
    return InputTimes(NO_TIME, NO_TIME, False, False).advance(events, feedback, at, wall)


def settled(**given: object) -> int:
    """W once what this batch brought has settled."""
    found = times(**given, wall=clock())  # type: ignore[arg-type]
    for turn in (1, 2):
        found = found.advance(NO_TIME, NO_TIME, found[2:4], clock(turn * SETTLE_MS))
    return found.watermark_ms(clock(2 * SETTLE_MS))


def test_w_is_the_smaller_of_the_two_inputs_times() -> None:
    assert times(wall=clock()).watermark_ms(clock()) == 900
    assert times(events=800, wall=clock()).watermark_ms(clock()) == 800


def test_an_input_at_its_end_takes_the_others_time() -> None:
    assert settled(at=(False, True)) == 1000
    assert settled(at=(True, False)) == 900
    assert settled(events=800, at=(True, False)) == 900
    assert settled(feedback=NO_TIME, at=(False, True)) == 1000


# Both topics at rest, then a backlog of hours: its events came a few ms earlier and expired before their labels came.
@pytest.mark.parametrize("first", ["events", "feedback"])
def test_a_backlog_after_idle_hours_does_not_pass_by_what_the_other_topic_is_about_to_bring(first: str) -> None:
    hours_ms = T0 + 8 * 3_600_000
    found = InputTimes(T0, T0, False, False)
    for second in range(5):
        found = found.advance(NO_TIME, NO_TIME, (True, True), clock(1000 * second))
    idle_ms = found.watermark_ms(clock(4000))
    batch = (hours_ms, NO_TIME) if first == "events" else (NO_TIME, hours_ms)
    ends = (first != "events", first == "events")
    found = found.advance(*batch, ends, clock(4010))
    assert found.watermark_ms(clock(4010)) <= idle_ms
    later = found.advance(NO_TIME, NO_TIME, ends, clock(4010 + SETTLE_MS - 1))
    assert later.watermark_ms(clock(4010 + SETTLE_MS - 1)) <= idle_ms


def test_a_steady_stream_beside_an_input_at_its_end_moves_w_within_a_second() -> None:
    found = InputTimes(T0, T0, False, False)
    for turn in range(1, 100):
        found = found.advance(T0 + 10 * turn, NO_TIME, (False, True), clock(10 * turn))
    assert T0 + 990 - 2 * SETTLE_MS <= found.watermark_ms(clock(990)) < T0 + 990


def test_an_input_that_gave_nothing_and_is_not_at_its_end_holds_w() -> None:
    assert times(feedback=NO_TIME, wall=clock()).watermark_ms(clock()) == NO_TIME


def test_both_at_their_end_add_monotonic_time_only() -> None:
    found = times(at=(True, True), wall=Clock(NOW_MS, 50))
    assert found.watermark_ms(Clock(NOW_MS, 50)) == 1000
    later = found.advance(NO_TIME, NO_TIME, (True, True), Clock(NOW_MS + 10**9, 57))
    assert later.watermark_ms(Clock(NOW_MS + 10**9, 57)) == 1007


def test_what_was_added_at_the_end_does_not_move_w_back_when_records_come_again() -> None:
    join = blank_join(NARROW)
    for monotonic_ms, event_ms, at in ((0, 1000, True), (500, NO_TIME, True), (600, 1100, False)):
        staged = StagedJoin(join)
        staged.advance(event_ms, NO_TIME, (at, at), clock(monotonic_ms))
        join.apply(staged)
    assert join.times.watermark_ms == 1500


# Time at the ends is counted from the last record. Counted from the first time both were there, W would move two
# seconds a second under live traffic of one record a second.
def test_records_that_come_while_both_are_at_their_end_start_the_added_time_anew() -> None:
    join = blank_join(ROOMY)
    for second in range(100):
        staged = StagedJoin(join)
        staged.advance(T0 + 1000 * second, NO_TIME, (True, True), clock(1000 * second))
        join.apply(staged)
    assert join.times.watermark_ms == T0 + 99_000


def test_w_never_moves_back() -> None:
    join = blank_join(NARROW, watermark_ms=5000)
    staged = StagedJoin(join)
    staged.advance(4000, 4000, (False, False), clock())
    assert staged.times == join.times


def test_a_record_dated_ahead_moves_w_ten_minutes_beyond_the_host_at_most() -> None:
    found = times(events=NOW_MS + 10**9, feedback=NOW_MS + 10**9, wall=clock())
    assert found.watermark_ms(clock()) == NOW_MS + AHEAD_SLACK_MS


@pytest.mark.parametrize("ends", [(False, False), (False, True), (True, False), (True, True)])
def test_neither_input_moves_w_further_ahead_whichever_is_at_its_end(ends: tuple[bool, bool]) -> None:
    far = NOW_MS + 10**9
    for events, feedback in ((far, T0), (T0, far), (far, far)):
        found = InputTimes(T0, T0, False, False).advance(events, feedback, ends, clock())
        assert found.watermark_ms(clock()) <= NOW_MS + AHEAD_SLACK_MS


@pytest.mark.parametrize(
    ("ttl_ms", "early_ttl_ms"), [(300_000, 3_600_000), (60_000, 60_000), (3_600_000, 30_000), (300_000, 0)]
)
def test_a_pair_dated_hours_ahead_expires_no_honest_event_or_label(ttl_ms: int, early_ttl_ms: int) -> None:
    """With a ttl of five minutes and ten minutes of slack, 500 of 500 honest labels ended as late or orphan."""
    join = Join(ROOMY._replace(ttl_ms=ttl_ms, early_ttl_ms=early_ttl_ms))
    ahead_ms = NOW_MS + 20 * 3_600_000
    for first, now_ms in ((0, NOW_MS), (101, NOW_MS + 1_000)):
        staged = StagedJoin(join)
        for number in range(first, first + 100):
            staged.event(pending(number, f"e{number}", now_ms - 500))
        staged.event(pending(first + 100, f"ahead{first}", ahead_ms))
        staged.join_one(label(first, f"ahead{first}", ahead_ms))
        staged.advance(ahead_ms, ahead_ms, (True, True), Clock(now_ms, first))
        join.apply(staged)
    staged = StagedJoin(join)
    honest = [number for number in range(201) if number != 100]
    ends = [staged.join_one(label(1_000 + number, f"e{number}", NOW_MS + 1_500)) for number in honest]
    assert [type(end) for end in ends] == [Joined] * 200

"""The test by blocks: errors where one looks all the time, correlated pairs, early labels, and what is planted."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ml.core.evaluation.blocks import LEAST, Blocks, Limits, radius

HOUR, DAY = 3_600_000, 86_400_000
LAW = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def filled(chance: np.random.Generator, blocks: int, *, effect: float, shared: float, pairs: int = 50) -> Blocks:
    """Blocks of a day whose pairs share a part of their difference."""
    days = np.repeat(np.arange(blocks), pairs)
    noise = chance.normal(0.0, 0.1, len(days)) + np.repeat(chance.normal(0.0, shared, blocks), pairs)
    found = Blocks(DAY, HOUR)
    times = days * DAY + chance.integers(0, DAY, len(days))
    found.add_many(times, np.zeros(len(days), np.int64), 0.5 + effect + noise, np.full(len(days), 0.5))
    return found


def decided_ever(found: Blocks, blocks: int, limits: Limits = Limits()) -> str:  # noqa: B008
    """What is decided by somebody who looks after every block, and stops at the first decision."""
    for day in range(2, blocks + 2):
        decision = found.verdict(day * DAY + HOUR, limits).decision
        if decision != "undecided":
            return decision
    return "undecided"


def test_no_difference_is_found_where_there_is_none_however_often_one_looks() -> None:
    wrong = 0
    for seed in range(300):
        chance = np.random.default_rng(seed)
        wrong += decided_ever(filled(chance, 100, effect=0.0, shared=0.1, pairs=8), 100) != "undecided"
    assert wrong / 300 <= 0.05, wrong


def test_pairs_as_units_would_find_one_in_most_runs_of_the_same() -> None:
    """So that the test above cannot pass for the wrong reason: the same days, each pair a block."""
    wrong = 0
    for seed in range(100):
        chance = np.random.default_rng(seed)
        shared = np.repeat(chance.normal(0.0, 0.1, 60), 50)
        values = shared + chance.normal(0.0, 0.02, len(shared))
        means = np.cumsum(values) / np.arange(1, len(values) + 1)
        ends = range(LEAST, len(values), 10)
        wrong += any(abs(means[end - 1]) > radius(end, float(values[:end].std(ddof=1)), 0.05) for end in ends)
    assert wrong > 70, wrong


def test_a_planted_difference_of_5_percent_is_found_in_the_stated_blocks() -> None:
    found = [decided_ever(filled(np.random.default_rng(seed), 60, effect=0.025, shared=0.02), 60) for seed in range(50)]
    assert found.count("worse") == 50


def test_what_is_foretold_is_about_what_it_takes() -> None:
    whole = filled(np.random.default_rng(3), 400, effect=0.02, shared=0.1)
    early = whole.verdict(41 * DAY, Limits())
    assert early.decision == "undecided" and early.blocks_more is not None
    needed = next(day for day in range(41, 402) if whole.verdict(day * DAY + HOUR).decision != "undecided")
    assert 40 + early.blocks_more / 4 < needed < 40 + 6 * early.blocks_more + 40


def test_two_that_say_the_same_are_equivalent_and_two_that_nearly_do_by_the_margin_alone() -> None:
    same = Blocks(DAY, HOUR)
    times = np.arange(40 * 10) * (DAY // 10)
    nothing = np.zeros(len(times), np.int64)
    same.add_many(times, nothing, np.full(len(times), 0.3), np.full(len(times), 0.3))
    assert same.verdict(50 * DAY).decision == "equivalent"
    near = filled(np.random.default_rng(1), 60, effect=0.0, shared=0.002)
    assert near.verdict(90 * DAY).decision == "undecided"
    assert near.verdict(90 * DAY, Limits(margin=0.02)).decision == "equivalent"


def test_blocks_that_are_alike_one_after_another_decide_nothing_and_it_is_said_why() -> None:
    chance = np.random.default_rng(5)
    walk = np.repeat(np.cumsum(chance.normal(0.0, 0.05, 80)), 20)
    found = Blocks(DAY, HOUR)
    days = np.repeat(np.arange(80), 20)
    found.add_many(days * DAY, np.zeros(len(days), np.int64), 5.0 + walk, np.zeros(len(days)))
    verdict = found.verdict(90 * DAY)
    assert verdict.decision == "undecided" and "take longer blocks" in verdict.why and verdict.autocorrelation > 0.3


# --- maturity: case 24 ---


def test_early_labels_that_differ_from_late_ones_do_not_bend_it_and_by_arrival_they_would() -> None:
    """The first model is better for events whose label comes early, worse by as much for the others: a tie."""
    chance = np.random.default_rng(9)
    days, pairs = 40, 200
    event_ms = np.repeat(np.arange(days), pairs) * DAY + chance.integers(0, DAY, days * pairs)
    early = chance.random(days * pairs) < 0.5
    delay_ms = np.where(early, HOUR, 10 * DAY).astype(np.int64)
    first = 0.5 + np.where(early, -0.05, 0.05) + chance.normal(0.0, 0.01, days * pairs)
    second = np.full(days * pairs, 0.5)
    now_ms = days * DAY
    came = event_ms + delay_ms <= now_ms
    mature = Blocks(DAY, 10 * DAY)
    mature.add_many(event_ms[came], delay_ms[came], first[came], second[came])
    verdict = mature.verdict(now_ms)
    assert verdict.blocks == 30 and abs(verdict.mean) < 0.003 and verdict.decision == "undecided"
    recent = came & (event_ms > now_ms - 10 * DAY)
    assert float((first - second)[recent].mean()) < -0.03, "by arrival the early ones alone would speak"


def test_a_block_is_closed_only_once_the_log_is_mature_behind_its_end() -> None:
    found = Blocks(HOUR, 2 * HOUR)
    one = np.array([10], np.int64)
    found.add_many(one, one, np.array([0.5]), np.array([0.25]))
    assert not found.closed(3 * HOUR - 1) and list(found.closed(3 * HOUR)) == [0]
    found.add_many(one, np.array([2 * HOUR + 1]), np.array([0.5]), np.array([0.25]))
    assert found.late == 1 and found.closed(3 * HOUR)[0][0] == 1


# --- sums ---


@LAW
@given(
    rows=st.lists(
        st.tuples(st.integers(-(10**9), 10**9), st.integers(0, 10**7), st.floats(0, 1), st.floats(0, 1)), max_size=60
    ),
    cut=st.integers(0, 60),
    order=st.randoms(use_true_random=False),
)
def test_sums_are_the_same_in_any_order_and_parts(rows: list[tuple[int, int, float, float]], cut: int, order) -> None:  # type: ignore[no-untyped-def]
    def of(some: list[tuple[int, int, float, float]]) -> Blocks:
        found = Blocks(HOUR, HOUR)
        columns = list(zip(*some, strict=True)) or [[], [], [], []]
        found.add_many(*(np.array(c, np.int64) for c in columns[:2]), *(np.array(c, np.float64) for c in columns[2:]))
        return found

    whole, shuffled = of(rows), list(rows)
    order.shuffle(shuffled)
    parts = of(shuffled[:cut])
    parts.add(of(shuffled[cut:]))
    assert parts.state() == whole.state() == Blocks.of(whole.state()).state()
    with pytest.raises(ValueError, match="cannot be added"):
        whole.add(Blocks(DAY, HOUR))


def test_the_course_ends_with_the_verdict() -> None:
    found = filled(np.random.default_rng(2), 30, effect=0.01, shared=0.02)
    course, verdict = found.course(40 * DAY), found.verdict(40 * DAY)
    assert course[-1] == (30 * DAY, verdict.mean, verdict.low, verdict.high) and len(course) == 30
    assert course[0][2] == -math.inf


def test_each_point_of_the_course_is_the_verdict_of_that_time() -> None:
    found = filled(np.random.default_rng(2), 30, effect=0.01, shared=0.02)
    for end, *interval in found.course(40 * DAY):
        then = found.verdict(end + found.mature_ms)
        assert interval == [then.mean, then.low, then.high]


def test_millions_of_the_largest_differences_in_one_block_do_not_overflow() -> None:
    found, count = Blocks(DAY, HOUR), 4_000_000
    nothing = np.zeros(count, np.int64)
    for _ in range(3):
        found.add_many(nothing, nothing, np.ones(count), np.zeros(count))
    ((pairs, total, squares),) = found.closed(2 * DAY).values()
    assert (pairs, total, squares) == (12_000_000, 12 * 10**12, 12 * 10**18)

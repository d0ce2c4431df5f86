"""What a record costs beside what it cost at first: like compared with like, told when it has grown tenfold."""

from typing import Any

import pytest

from stream_ml.follower.cost import GROWN, WINDOW, WINDOW_S, Cost


def fed(*batches: tuple[int, float], of: Any = "learn", repeat: int = 1) -> Cost:
    """Batches of so many records, each of so many seconds a record."""
    cost = Cost()
    for count, each_s in batches * repeat:
        cost.took(of, count, count * each_s)
    return cost


def test_nothing_is_said_before_enough_was_measured() -> None:
    assert fed((WINDOW - 1, 1e-6)).report() == {}
    assert fed((WINDOW, 1e-6)).report() == {"learn": {"us": 1.0, "growth": 1.0}}


def test_of_a_slow_model_a_second_is_enough() -> None:
    assert fed((10, WINDOW_S / 10)).report() == {"learn": {"us": 1e6 * WINDOW_S / 10, "growth": 1.0}}


def test_growth_is_measured_from_the_least() -> None:
    cost = fed((WINDOW, 2e-6), (WINDOW, 1e-6), (WINDOW, 9e-6))
    assert cost.report()["learn"] == {"us": 9.0, "growth": 9.0}
    assert cost.words() == []


def test_ten_times_is_told_in_words_until_it_is_over() -> None:
    cost = fed((WINDOW, 1e-6), (WINDOW, GROWN * 1e-6))
    (words,) = cost.words()
    assert words.startswith("learning an example takes 10 us by now, 10 times as long as at first")
    assert words.endswith("stream-ml check CONFIG says what may be bounded")
    cost.took("learn", WINDOW, WINDOW * 2e-6)
    assert cost.words() == []


@pytest.mark.parametrize("alone", [1, 3])
def test_a_record_alone_is_not_compared_with_one_of_many(alone: int) -> None:
    cost = fed((5_000, 3e-6))
    for _ in range(WINDOW):
        cost.took("learn", alone, alone * 60e-6)
    assert cost.report()["learn"]["growth"] == 1.0


@pytest.mark.parametrize(("less", "more"), [(1, 3), (4, 15), (16, 63), (64, 255), (256, 5_000)])
def test_batches_of_about_one_size_are_compared(less: int, more: int) -> None:
    cost = fed((more, 1e-6), repeat=WINDOW)
    for _ in range(2 * WINDOW):
        cost.took("learn", less, less * 20e-6)
    assert cost.report()["learn"]["growth"] == 20.0


def test_what_is_said_to_be_alike_is_compared_whatever_its_size() -> None:
    cost = Cost()
    for count, each_s in ((5_000, 1e-6), (8, 25e-6)):
        for _ in range(WINDOW):
            cost.took("learn", count, count * each_s, "run")
    assert cost.report()["learn"]["growth"] == 25.0
    cost.took("learn", WINDOW, WINDOW * 60e-6, "single")
    assert cost.report()["learn"]["growth"] == 1.0


def test_scoring_and_learning_are_told_apart() -> None:
    cost = fed((WINDOW, 1e-6))
    cost.took("score", WINDOW, WINDOW * 50e-6)
    assert {of: told["growth"] for of, told in cost.report().items()} == {"learn": 1.0, "score": 1.0}


def test_what_was_least_is_remembered_over_a_restart() -> None:
    again = Cost()
    again.restore(fed((WINDOW, 1e-6)).state())
    again.took("learn", WINDOW, WINDOW * 30e-6)
    assert again.report()["learn"]["growth"] == 30.0


@pytest.mark.parametrize("state", [None, [], "x", *({"learn 5": wrong} for wrong in ("x", -1.0, 0.0, True))])
def test_what_a_checkpoint_cannot_have_said_is_left_alone(state: Any) -> None:
    cost = Cost()
    cost.restore(state)
    cost.took("learn", WINDOW, WINDOW * 30e-6)
    assert cost.report()["learn"]["growth"] == 1.0


def test_no_time_at_all_is_no_growth() -> None:
    assert fed((WINDOW, 0.0), (WINDOW, 0.0)).report() == {"learn": {"us": 0.0, "growth": 1.0}}


def test_time_inside_is_the_threads_own() -> None:
    cost = Cost()
    with cost.of("score") as counts:
        sum(range(100_000))
        counts.append(WINDOW)
    assert cost.report()["score"]["us"] > 0

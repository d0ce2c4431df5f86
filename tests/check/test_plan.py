"""What `check` says of a planned load and of the log's growth."""

import pytest

from stream_ml.check.plan import EntryBytes, Plan, busy, load_lines, log_line
from stream_ml.check.speed import HOLD_US, JOIN_US, READ_US, Speed

SPEED = Speed(decode=2.0, score=3.0, publish=2.0, learn=14.0)


def test_events_are_shared_and_labels_are_learned_by_every_worker() -> None:
    one, four = (busy(SPEED, Plan(workers, 10_000, 1_000)) for workers in (1, 4))
    assert one.scoring == pytest.approx((10_000 * (7.0 + HOLD_US) + 1_000 * JOIN_US) / 1e6)
    assert four.scoring == pytest.approx(one.scoring / 4)
    assert one.learning == four.learning == pytest.approx(1_000 * (READ_US + 16.0) / 1e6)


def test_a_load_that_is_held_is_ok() -> None:
    (line,) = load_lines(SPEED, Plan(2, 5_000, 500))
    assert line.startswith("ok    5,000 events/s and 500 labels/s on 2 workers: each takes ")


def test_a_load_that_more_workers_hold_names_their_number() -> None:
    (line,) = load_lines(SPEED, Plan(1, 200_000, 100))
    assert line.startswith("note ")
    assert "with 3 workers" in line
    assert sum(busy(SPEED, Plan(3, 200_000, 100))) <= 0.7 < sum(busy(SPEED, Plan(2, 200_000, 100)))


def test_more_labels_than_one_core_learns_are_helped_by_no_worker() -> None:
    (line,) = load_lines(SPEED, Plan(8, 100_000, 100_000))
    assert line.startswith("note ")
    assert "more workers do not help; this model learns about 35,000/s" in line


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (100.0, "at most 2.9 GB a day and 1.1 TB a year"),
        (0.01, "at most 290 kB a day and 106 MB a year"),
        (1_000_000.0, "at most 29 TB a day and 10596 TB a year"),
    ],
)
def test_the_growth_of_the_log_is_told_in_units_that_can_be_read(labels: float, said: str) -> None:
    assert said in log_line(EntryBytes(336.0, 138.9), labels, 16.0)


def test_a_fold_of_a_year_is_told() -> None:
    assert log_line(EntryBytes(336.0, 139.0), 100.0, 20.0).endswith("a year of it is folded from 0 in about 18 h")

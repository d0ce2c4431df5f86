"""What lay in Kafka when the app first started is learned and counts in the quality, and is no reason for a signal."""

import random
from typing import Any

import pytest

from stream_ml.core.fold.replica import Replica
from stream_ml.core.log.entry import encode_start
from stream_ml.core.model.estimator import Scored
from stream_ml.core.partition.predictions import served_of
from stream_ml.records import LogRecord, Version
from tests.core.fold.test_fold import Driver
from tests.support.partition import EVENTS, LINEAGE, NOW_MS, command, example, log_of

COUNT = 3_000  # three windows of the baseline, ten times what the detector needs


def start(end: int, first: int = 0) -> bytes:
    return encode_start(0, first, 0, 1, end, written_at_ms=NOW_MS, writer="app-w1")


def story(*wrong: tuple[int, int]) -> list[bytes]:
    """Examples whose predictions are right nine times of ten, and in these ranges of event offsets one of ten."""
    source, found = random.Random(7), []
    for number in range(COUNT):
        y = source.random() < 0.4
        right = 0.1 if any(first <= number < stop for first, stop in wrong) else 0.9
        said = y if source.random() < right else not y
        score = 0.5 + 0.4 * (1 if said else -1)
        served = served_of(
            Scored("true" if said else "false", score, {"true": score, "false": 1 - score}, None),
            Version(LINEAGE, number),
            (),
        )
        found.append(example(number, source.gauss(0, 1), y, trigger=(EVENTS, number), served=served))
    return found


def wrong(number: int) -> Any:
    """A prediction that is sure of what does not come true."""
    score = 0.05 if number % 2 == 0 else 0.95
    scores = {"true": score, "false": 1 - score}
    return served_of(Scored("true" if score > 0.5 else "false", score, scores, None), Version(LINEAGE, number), ())


def told(replica: Replica) -> list[tuple[str, str]]:
    return [(signal.kind, signal.subject) for signal in replica.signals_after(-1)]


def folded(values: list[bytes], chunk: int = 500) -> Replica:
    found: Replica = Driver(log_of(values)).run(chunk)
    return found


BEGINS, LATER = (0, 1_400), (1_800, 3_000)
ALARMS = {("drift", "loss"), ("below_baseline", "quality")}


def test_without_a_backlog_bad_predictions_are_told() -> None:
    assert set(told(folded([start(0), *story(LATER)]))) == ALARMS
    assert set(told(folded([start(0, 7), *story(LATER)]))) == ALARMS  # a start that knows of no backlog
    assert ("below_baseline", "quality") in told(folded([start(0), *story(BEGINS)]))


@pytest.mark.parametrize("chunk", [2, 16, 100, 1_000])
def test_bad_predictions_in_the_first_backlog_are_not_told_and_count(chunk: int) -> None:
    replica = folded([start(1_500), *story(BEGINS)], chunk)
    assert told(replica) == []
    assert replica.watch.quality.count == COUNT and replica.only.examples_learned == COUNT
    assert not replica.watch.concept.below and replica.watch.concept.drifted is None


@pytest.mark.parametrize("chunk", [2, 100, 1_000])
def test_what_comes_after_the_first_backlog_is_told_as_if_there_had_been_none(chunk: int) -> None:
    assert set(told(folded([start(1_000), *story(BEGINS, LATER)], chunk))) == ALARMS


def test_what_is_found_does_not_depend_on_how_many_are_folded_at_once() -> None:
    log = [start(1_003), *story((0, 1_000), LATER)]
    states = [folded(log, chunk).watch.concept.state() for chunk in (2, 97, 2_000)]
    for state in states:
        state["detector"] = repr(
            sorted((name, str(value)) for name, value in state["detector"].items() if name[0] != "_")
        )
    assert states[0] == states[1] == states[2]


def test_a_second_start_of_a_partition_does_not_move_the_end_of_its_first_backlog() -> None:
    values = story(BEGINS)
    assert told(folded([start(1_500), start(0), *values])) == []
    assert ("below_baseline", "quality") in told(folded([start(0), start(1_500), *values]))


def test_a_checkpoint_keeps_where_the_first_backlog_ends() -> None:
    log = log_of([start(1_500), *story(BEGINS)])
    driver = Driver(log)
    while driver.replica.position < 300:
        driver.turn(100)
    driver.checkpoint()
    driver.replica = driver.restored(len(log))
    assert driver.replica.book.facts.backlog_ends == {0: 1_500}
    assert told(driver.run(100)) == []


def test_the_end_of_another_partition_says_nothing_of_this_one() -> None:
    other = encode_start(1, 0, 0, 2, 9_999, written_at_ms=NOW_MS, writer="app-w1")
    assert ("below_baseline", "quality") in told(folded([start(0), other, *story(BEGINS)]))


@pytest.mark.parametrize("end", [-1, 2**63, 1.5, "7", None, True])
def test_an_end_that_is_no_offset_halts(end: Any) -> None:
    value = encode_start(0, 0, 0, 1, end, written_at_ms=NOW_MS, writer="app-w1")
    halt = Driver([LogRecord(0, value)]).run(1).halt
    assert halt is not None and halt.position == 0


@pytest.mark.parametrize("chunk", [2, 100, 1_000, 4_000])
def test_a_second_start_elsewhere_changes_nothing_however_many_are_folded_at_once(chunk: int) -> None:
    values = story(BEGINS)
    log = [start(1_500), *values[:700], start(1_500, 2_000), *values[700:]]
    assert told(folded(log, chunk)) == []


@pytest.mark.parametrize("chunk", [2, 100, 1_000, 4_000])
def test_offsets_that_begin_anew_have_no_first_backlog(chunk: int) -> None:
    """A topic that was made anew, or whose offsets were set: what lay in the old one says nothing of it."""
    head = [start(10_000), *story()[:300]]
    again = command("rebase", partition=0, events=0, feedback=0, back=True)
    values = [
        example(number, 1.0, number % 2 == 0, trigger=(EVENTS, number - 300), served=wrong(number))
        for number in range(300, 3_300)
    ]
    replica = folded([*head, again, *values], chunk)
    assert ("below_baseline", "quality") in told(replica)
    assert replica.book.facts.backlog_ends == {}

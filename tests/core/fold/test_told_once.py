"""Signals of learning: a halt and its end are reported once by each lineage that halted, and by no other."""

import pytest

from stream_ml.core.drift.signals import decode_signal
from stream_ml.core.fold.health import CHECK_EVERY
from stream_ml.core.fold.replica import Replica
from stream_ml.records import LogRecord
from tests.core.fold.test_fold import BAD, SPOILS, Driver, brittle, examples, fold
from tests.support.partition import (
    LINEAGE,
    ROOMY,
    T0,
    World,
    command,
    event_record,
    example,
    fold_settings,
    log_of,
    partition_settings,
)

OTHER = "fedcba9876543210"  # a lineage


def told(replica: Replica, after: int = -1) -> list[tuple[str, int]]:
    return [(signal.kind, signal.position) for signal in replica.signals_after(after)]


def finite(count: int) -> list[float]:
    return [float(number % 5 - 2) for number in range(count)]


# --- commands that change nothing ---


@pytest.mark.parametrize("name", ["skip", "accept-gap"])
@pytest.mark.parametrize("position", [0, 1, 3, 99])
def test_a_command_that_lifts_no_halt_tells_nothing(name: str, position: int) -> None:
    assert told(fold(*examples(1.0, -2.0), command(name, position=position), *examples(3.0, first=2))) == []


def test_a_command_without_a_position_tells_nothing() -> None:
    assert told(fold(*examples(1.0), command("skip"))) == []


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_the_second_of_two_equal_commands_tells_nothing(chunk: int) -> None:
    skip = command("skip", position=1)
    values = [*examples(1.0, BAD, 3.0), skip, *examples(4.0, first=3), skip, *examples(5.0, first=4)]
    assert told(Driver(log_of(values)).run(chunk)) == [("halted", 1), ("resumed", 3)]


@pytest.mark.parametrize("chunk", [1, 100])
def test_a_command_that_does_not_help_tells_nothing(chunk: int) -> None:
    values = [*examples(1.0, BAD, 3.0), command("accept-gap", position=1), command("skip", position=1)]
    assert told(Driver(log_of(values)).run(chunk)) == [("halted", 1), ("resumed", 4)]


def test_a_freeze_of_what_is_frozen_and_a_resume_of_what_is_not_tell_nothing() -> None:
    names = ("resume", "freeze", "freeze", "resume", "resume")
    assert told(fold(*map(command, names))) == [("frozen", 1), ("resumed", 3)]


def test_the_end_of_a_halt_is_told_once_also_after_a_restart_between_the_halt_and_its_command() -> None:
    skip = command("skip", position=1)
    log = log_of([*examples(1.0, BAD, 3.0, 4.0, 5.0), skip, *examples(6.0, first=5), skip])
    driver = Driver(log)
    while driver.replica.position < 3:
        driver.turn(1)
    driver.checkpoint()
    driver.replica = driver.restored(len(log))
    assert 1 < driver.replica.position < 5
    assert told(driver.run(1)) == [("halted", 1), ("resumed", 5)]


# --- a lineage that meets halts and commands of the past ---


@pytest.mark.parametrize("chunk", [1, 40, 1_000])
@pytest.mark.parametrize("second", [BAD, SPOILS])
@pytest.mark.parametrize("first", [BAD, SPOILS])
def test_a_new_replica_tells_every_halt_of_the_past(first: float, second: float, chunk: int) -> None:
    """The second one makes the replica anew, from before the first."""
    one, two = 70, 70 + 2 * CHECK_EVERY + 1
    xs = [*finite(one), first, *finite(2 * CHECK_EVERY), second, *finite(2 * CHECK_EVERY)]
    values = [*examples(*xs), command("skip", position=one), command("skip", position=two)]
    end = len(values)
    found = told(Driver(log_of(values)).run(chunk))
    assert found == [("halted", one), ("halted", two), ("resumed", end - 2), ("resumed", end - 1)]


@pytest.mark.parametrize("chunk", [1, 40, 1_000])
def test_so_does_one_that_met_each_command_before_the_next_halt(chunk: int) -> None:
    xs = finite(70)
    values = [*examples(*xs, BAD), command("skip", position=70), *examples(*xs, first=71)]
    values += [*examples(BAD, first=141), command("skip", position=142)]
    found = told(Driver(log_of(values)).run(chunk))
    assert found == [("halted", 70), ("resumed", 71), ("halted", 142), ("resumed", 143)]


def world(events: int) -> World:
    made = World(ROOMY, partition_settings(), [event_record(n, f"e{n}", T0 + n) for n in range(events)], [])
    made.replica = Replica(fold_settings())
    return made


def written(made: World) -> list[tuple[str, str, int]]:
    """What stands in the signals topic: lineage, kind and position."""
    found = [decode_signal(record.value or b"") for record in made.topics[made.settings.topics.signals]]
    return [(signal.origin, signal.kind, signal.position) for signal in found]


def test_another_watch_tells_a_halt_of_the_log_although_the_first_has_told_later_positions() -> None:
    gap, made = example(7, 1.0), world(6)
    log = log_of([*examples(1.0, 2.0), gap, command("skip", position=2), command("rebaseline")])
    made.replica.fold(log)
    made.replica.clear_halt()
    made.replica.fold(log[2:])
    made.turn(1, 0)
    first = [("watch", "halted", 2), ("watch", "resumed", 3), ("watch", "rebaselined", 4)]
    assert written(made) == first
    made.crash()
    made.replica = Replica(fold_settings()._replace(watch=OTHER))
    made.replica.fold(log[:3])
    for _ in range(3):
        made.turn(1, 0)
        made.crash()
    assert written(made) == [*first, (OTHER, "halted", 2)]
    made.replica.fold(log[3:4])
    made.replica.clear_halt()
    made.replica.fold(log[2:])
    made.turn(1, 0)
    assert written(made) == [*first, (OTHER, "halted", 2), (OTHER, "resumed", 3), (OTHER, "rebaselined", 4)]


def test_each_lineage_tells_its_own_halt_at_one_position() -> None:
    made, log = world(4), log_of(examples(*finite(70), BAD))
    for name in (LINEAGE, OTHER, LINEAGE, OTHER):
        made.replica = Driver(log, lambda name=name: brittle()._replace(lineage=name)).run()  # type: ignore[misc]
        made.turn(1, 0)
        made.crash()
    assert written(made) == [(LINEAGE, "halted", 70), (OTHER, "halted", 70)]


def test_a_watch_that_comes_back_tells_nothing_again() -> None:
    made, log = world(4), [LogRecord(0, command("freeze"))]
    for name in ("watch", OTHER, "watch", OTHER):
        made.replica = Replica(fold_settings()._replace(watch=name))
        made.replica.fold(log)
        made.turn(1, 0)
        made.crash()
    assert written(made) == [("watch", "frozen", 0), (OTHER, "frozen", 0)]

"""Seals of training-log entries: what they hold, and orders that come once more."""

from typing import Any

import pytest

from stream_ml.core.fold.replica import Replica
from stream_ml.core.log.seals import SEAL, LogSeal
from stream_ml.kafka.reading.log_reader import log_value
from stream_ml.records import NOT_SEALED, NOT_UNPACKED, LogRecord, Record
from tests.core.fold.test_fold import examples
from tests.support.partition import EVENTS, command, example, fold_settings, log_of

KEY, OLD, OTHER = b"k" * 16, b"o" * 16, b"x" * 16
VALUE = b"an entry"


def seal(*keys: bytes, topic_id: str = "log", since: int = 0) -> LogSeal:
    return LogSeal(keys, topic_id, since)


def test_an_entry_holds_with_the_key_that_sealed_it() -> None:
    assert seal(KEY).holds(0, VALUE, [seal(KEY).header(VALUE)])


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(SEAL, b"")],
        [(SEAL, None)],
        [("other", seal(KEY).header(VALUE)[1])],
        [seal(OTHER).header(VALUE)],
        [seal(KEY).header(VALUE + b"!")],
        [seal(KEY, topic_id="log2").header(VALUE)],
        [(SEAL, seal(KEY).header(VALUE)[1][:-1])],
        [(SEAL, b""), seal(KEY).header(VALUE)],
    ],
)
def test_nothing_else_holds(headers: Any) -> None:
    assert not seal(KEY).holds(0, VALUE, headers)


def test_an_older_key_is_believed_and_seals_nothing() -> None:
    both = seal(KEY, OLD)
    assert both.holds(0, VALUE, [seal(OLD).header(VALUE)])
    assert both.header(VALUE) == seal(KEY).header(VALUE)


def test_entries_before_the_first_that_has_to_be_sealed_are_believed() -> None:
    since = seal(KEY, since=5)
    assert [since.holds(offset, VALUE, []) for offset in (0, 4, 5, 6)] == [True, True, False, False]


def folded(*values: bytes, sealed_from: int | None = 0) -> Replica:
    replica = Replica(fold_settings()._replace(sealed_from=sealed_from))
    replica.fold(log_of(values))
    return replica


def test_an_entry_that_is_not_sealed_halts_and_says_why() -> None:
    halt = folded(*examples(1.0), NOT_SEALED.encode()).halt
    assert halt is not None
    assert (halt.position, halt.reason) == (1, "not_an_entry")
    assert "it is not sealed with the key of training_log.key_file" in halt.message


def test_one_among_many_halts_at_its_place() -> None:
    values = examples(*map(float, range(40)))
    halt = folded(*values[:30], NOT_SEALED.encode(), *values[30:]).halt
    assert halt is not None and halt.position == 30


@pytest.mark.parametrize("name", ["freeze", "rebaseline"])
def test_an_order_that_was_written_once_more_halts(name: str) -> None:
    first = command(name, seen=1)
    replica = folded(*examples(1.0), first, command("resume", seen=2), first)
    assert replica.halt is not None and replica.halt.position == 3
    assert f"{name} says that the log ended at 1 when it was written, and a command stands at 2" in replica.halt.message


@pytest.mark.parametrize("seen", [{}, {"seen": "2"}, {"seen": True}, {"seen": None}, {"seen": 99}, {"seen": -1}])
def test_an_order_that_does_not_say_what_was_seen_halts(seen: dict[str, Any]) -> None:
    halt = folded(*examples(1.0), command("freeze", **seen)).halt
    assert halt is not None and halt.position == 1


def test_orders_of_before_sealing_are_obeyed_as_they_are() -> None:
    assert folded(command("freeze"), command("resume"), sealed_from=2).halt is None
    assert folded(command("freeze"), command("freeze"), sealed_from=None).book.facts.frozen


def test_orders_one_after_the_other_are_obeyed_also_from_a_checkpoint_between_them() -> None:
    values = [command("freeze", seen=0), command("resume", seen=1), command("freeze", seen=2)]
    replica = folded(*values[:2])
    again = Replica(fold_settings()._replace(sealed_from=0))
    again.restore(replica.state())
    again.fold([LogRecord(2, values[0])])
    assert again.halt is not None
    third = Replica(fold_settings()._replace(sealed_from=0))
    third.restore(replica.state())
    third.fold([LogRecord(2, values[2])])
    assert third.halt is None and third.book.facts.frozen


def test_a_skip_helps_at_an_order_that_came_again() -> None:
    freeze = command("freeze", seen=0)
    replica = folded(freeze, command("resume", seen=1), freeze, *examples(1.0))
    assert replica.halt is not None
    replica.fold([LogRecord(4, command("skip", position=2))])
    assert replica.book.halts.refold_from == 2
    replica.clear_halt()
    replica.fold(log_of([freeze, *examples(1.0), command("skip", position=2)], 2))
    assert replica.halt is None and not replica.book.facts.frozen
    assert replica.only.examples_learned == 1


def test_skip_of_an_old_example_that_came_again_leaves_the_triggers_as_they_are() -> None:
    """After offsets that were set back, triggers begin anew: the old one would make all that follow disagree."""
    values = [
        example(0, trigger=(EVENTS, 100)),
        example(1, trigger=(EVENTS, 200)),
        command("rebase", partition=0, back=True, seen=2),
        example(1, trigger=(EVENTS, 200)),
        command("skip", position=3),
        example(2, trigger=(EVENTS, 100)),
    ]
    replica = Replica(fold_settings()._replace(sealed_from=0))
    replica.fold(log_of(values))
    assert replica.book.halts.refold_from == 3
    replica.clear_halt()
    replica.fold(log_of(values)[3:])
    assert replica.halt is None
    assert replica.only.examples_learned == 3


def test_a_header_that_anybody_may_write_makes_no_entry_unreadable() -> None:
    record = Record("log", 0, 3, 0, None, VALUE, [seal(KEY).header(VALUE), (NOT_UNPACKED, b"")])
    assert log_value(record, seal(KEY)) == VALUE
    assert log_value(record._replace(value=None), seal(KEY)) == NOT_UNPACKED.encode()
    assert log_value(record, seal(OTHER)) == NOT_SEALED.encode()

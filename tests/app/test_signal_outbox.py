"""Signals of one worker wait until the transaction that holds them is committed."""

from typing import Any

from stream_ml.core.drift.signals import Signal, decode_signal
from stream_ml.records import Clock
from stream_ml.worker.report.signals import SIGNALS_MAX, SignalOutbox

CLOCK = Clock(1_000, 0)


class Counts:
    """What the outbox counts."""

    def __init__(self) -> None:
        self.kinds: list[Any] = []

    def count(self, name: str, amount: float, **labels: Any) -> None:
        """Note a count."""
        self.kinds += [labels["kind"]] * int(amount)


def signal(position: int) -> Signal:
    """A signal, by its position."""
    return Signal("w1", "drift", "score", position, "warning", 1, {"psi": 0.5}, "moved", "stream-ml top CONFIG")


def outbox() -> tuple[SignalOutbox, Counts]:
    """An empty one."""
    counts = Counts()
    return SignalOutbox("shop.signals", counts), counts  # type: ignore[arg-type]


def positions(box: SignalOutbox) -> list[int]:
    """What the next transaction would hold."""
    return [decode_signal(value or b"").position for value in box.block(CLOCK).values]


def test_a_signal_that_was_found_while_a_transaction_was_under_way_is_written_by_the_next() -> None:
    box, counts = outbox()
    box.add(signal(1))
    assert positions(box) == [1]
    box.add(signal(2))
    box.committed()
    assert [one.position for one in box.written] == [1]
    assert positions(box) == [2]
    assert counts.kinds == ["drift"]


def test_after_an_abort_the_same_signals_are_written_again() -> None:
    box, _ = outbox()
    box.add(signal(1))
    assert positions(box) == positions(box) == [1]
    box.committed()
    assert positions(box) == []


def test_what_waits_is_handed_on_to_the_next_process_and_the_oldest_goes() -> None:
    box, _ = outbox()
    for position in range(SIGNALS_MAX + 3):
        box.add(signal(position))
    following, _ = outbox()
    following.restore(box.state())
    assert positions(following) == list(range(3, SIGNALS_MAX + 3))

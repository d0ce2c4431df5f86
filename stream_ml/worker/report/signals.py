"""Signals that one worker found, until the transaction that holds them is committed."""

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

from stream_ml.core.drift.signals import Signal, encode_signal
from stream_ml.observe.metrics import Metrics
from stream_ml.records import Block, Clock

SIGNALS_MAX = 100  # that are shown; and that wait to be written: then the oldest is dropped, and logged

log = logging.getLogger(__name__)


class SignalOutbox:
    """What one worker alone sees goes out with its next transaction. `written` are the newest that did."""

    def __init__(self, topic: str, metrics: Metrics) -> None:
        self._topic, self._metrics = topic, metrics
        self._waiting: list[Signal] = []
        self._offered: list[Signal] = []  # those of them that the transaction under way holds
        self.written: deque[Signal] = deque(maxlen=SIGNALS_MAX)

    def add(self, signal: Signal) -> None:
        """Log a signal, and have it written."""
        log.warning("%s", signal.message, extra={"hint": signal.suggestion})
        self._waiting.append(signal)
        if len(self._waiting) > SIGNALS_MAX:
            log.warning("signal %s is dropped: nothing was committed for long", self._waiting.pop(0).key)

    def block(self, clock: Clock) -> Block:
        """What waits to be written, for the next transaction; empty where nothing does."""
        block = Block.empty(self._topic, 0)
        for signal in self._waiting:
            block.add(signal.key.encode(), encode_signal(signal, clock))
        self._offered = list(self._waiting)
        return block

    def committed(self) -> None:
        """The transaction that held them was committed."""
        for signal in self._offered:
            self.written.append(signal)
            self._metrics.count("signals", 1, kind=signal.kind)
        self._waiting = [signal for signal in self._waiting if signal not in self._offered]
        self._offered = []

    def state(self) -> list[dict[str, Any]]:
        """What the next process of this name has to write."""
        return [signal.plain() for signal in self._waiting]

    def restore(self, state: Sequence[dict[str, Any]]) -> None:
        """Take back what `state` gave.

        Raises
        ------
        TypeError, ValueError, AttributeError
            A signal cannot be written: it is not one of ours.
        """
        self._waiting = [Signal(**signal) for signal in state][-SIGNALS_MAX:]
        for signal in self._waiting:
            encode_signal(signal, Clock(0, 0))
            signal.key.encode()

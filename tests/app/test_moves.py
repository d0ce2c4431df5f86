"""A claim that fails is begun anew, and is said to have failed."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from stream_ml.worker.partitions.assignment import ClaimFailed
from stream_ml.worker.partitions.moves import Moves


def test_a_claim_that_failed_is_reported_and_begun_anew() -> None:
    """Whoever drives it pauses then, and gives up after many: else it would be tried without end and without a word."""
    attempts: list[int] = []

    def take_up(group: Callable[[], object]) -> Iterator[bool]:
        attempts.append(len(attempts))
        yield True
        if len(attempts) < 3:
            raise ClaimFailed
        ownership.wanted = []

    ownership: Any = SimpleNamespace(wanted=[0], owned={}, suspended={}, take_up=take_up)
    group: Any = SimpleNamespace(moved=lambda: False, metadata=None)
    intake: Any = SimpleNamespace(start=lambda: None)
    moves = Moves(group, ownership, intake, SimpleNamespace(), lambda: None)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(ClaimFailed):
            moves.go_on()
    moves.go_on()
    assert (attempts, ownership.wanted) == ([0, 1, 2], [])

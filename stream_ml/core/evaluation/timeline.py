"""In which order events are asked about and their labels revealed: River's `simulate_qa`, without its copies.

Before a question at time t, all labels that are due by then are revealed. Where the delay is a function of the event
the one that is due first comes first, of two at one moment that of the earlier event. A constant delay is a queue,
first in, first out, also where times run backwards.
"""

import datetime
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

Moment = str | Callable[[dict[str, Any]], Any] | None
Delay = str | int | datetime.timedelta | Callable[[dict[str, Any], Any], Any] | None


class Step(NamedTuple):
    """Number of an event, and whether its label is revealed here; else it is asked about."""

    number: int
    is_answer: bool


def steps(times: Iterable[tuple[Any, Any]], *, in_line: bool = False) -> Iterator[Step]:
    """The order of questions and answers.

    Parameters
    ----------
    times
        Of each event, in the order in which it is asked about: its moment, and when its label is due.
    in_line
        Whether labels come in the order of their events, as with a constant delay.
    """
    waiting: deque[tuple[Any, int]] | list[tuple[Any, int]] = deque() if in_line else []
    add: Any = waiting.append if in_line else lambda one: heapq.heappush(waiting, one)  # type: ignore[arg-type]
    take: Any = waiting.popleft if isinstance(waiting, deque) else lambda: heapq.heappop(waiting)
    for number, (moment, due) in enumerate(times):
        while waiting and waiting[0][0] <= moment:
            yield Step(take()[1], True)
        add((due, number))
        yield Step(number, False)
    while waiting:
        yield Step(take()[1], True)


def questions_and_answers(
    dataset: Iterable[Sequence[Any]], moment: Moment = None, delay: Delay = None
) -> Iterator[tuple[int, dict[str, Any], Any, bool]]:
    """Events and labels of a stream in the order in which they arrive.

    Equal to River's `stream.simulate_qa`, tests/offline/replay/test_river.py; features are not copied.

    Parameters
    ----------
    dataset
        Pairs of features and label, as River's datasets are.
    moment, delay
        As River has them: a field, a function, or nothing; the delay also a constant.

    Raises
    ------
    ValueError
        A row has more than features and label.

    Yields
    ------
    tuple
        Number of the event, its features, its label, and whether the label is revealed here.
    """
    if moment is None and delay is None:
        for number, (x, y) in enumerate(map(_pair, dataset)):
            yield number, x, y, False
            yield number, x, y, True
        return
    held: dict[int, tuple[dict[str, Any], Any]] = {}
    counter = itertools.count()

    def times() -> Iterator[tuple[Any, Any]]:
        for x, y in map(_pair, dataset):
            number = next(counter)
            held[number] = (x, y)
            at = _moment(moment, number, x)
            yield at, at + _delay(delay, x, y)

    for number, is_answer in steps(times(), in_line=not (callable(delay) or isinstance(delay, str))):
        x, y = held.pop(number) if is_answer else held[number]
        yield number, x, y, is_answer


def _pair(row: Sequence[Any]) -> tuple[dict[str, Any], Any]:
    """Features and label; ValueError where a row has more, which would be lost."""
    if len(row) != 2 and any(row[2:]):
        raise ValueError("a row with arguments of its own, such as a weight, is not replayed")
    return row[0], row[1]


def _moment(moment: Moment, number: int, x: dict[str, Any]) -> Any:
    if isinstance(moment, str):
        return x[moment]
    return number if moment is None else moment(x)


def _delay(delay: Delay, x: dict[str, Any], y: Any) -> Any:
    if isinstance(delay, str):
        return x[delay]
    return delay(x, y) if callable(delay) else delay

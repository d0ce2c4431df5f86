"""Charts as SVG, drawn here: a report is one file without a script."""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

from stream_ml.units import time_text

WIDTH, HEIGHT = 900, 260
LEFT, RIGHT, TOP, BOTTOM = 70, 12, 12, 28
COLOURS = 6


class Curve(NamedTuple):
    """A line through points."""

    name: str
    points: Sequence[tuple[float, float]]


class Dots(NamedTuple):
    """Points alone."""

    name: str
    points: Sequence[tuple[float, float]]


class Band(NamedTuple):
    """An area between two lines: x, low, high."""

    points: Sequence[tuple[float, float, float]]


class _Scale(NamedTuple):
    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        return round(self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first), 1)


def chart(
    series: Sequence[Curve | Dots],
    *,
    band: Band | None = None,
    zero: bool = False,
    diagonal: bool = False,
    of_time: bool = True,
) -> str:
    """A chart with its legend.

    Parameters
    ----------
    zero
        Whether there is a line at 0.
    diagonal
        Whether both axes go from 0 to 1, with a line where they are equal.
    of_time
        Whether x is a time in ms.
    """
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    if band is not None:
        inner = [*band.points[len(band.points) // 5 :]] or [*band.points]  # the first ones reach from here to there
        ys += [y for _, *both in inner for y in both]
    if not xs or not ys:
        return "<p class=note>There is nothing to draw.</p>"
    if diagonal:
        xs, ys = [0.0, 1.0], [0.0, 1.0]
    if zero:
        ys.append(0.0)
    x, y = _scale(xs, LEFT, WIDTH - RIGHT), _scale(ys, HEIGHT - BOTTOM, TOP)
    drawn = [_axes(x, y, of_time=of_time)]
    if band is not None:
        upper = [f"{x(at)},{y(min(high, y.high))}" for at, _, high in band.points]
        lower = [f"{x(at)},{y(max(low, y.low))}" for at, low, _ in reversed(band.points)]
        drawn.append(f'<polygon points="{" ".join(upper + lower)}" fill="var(--c0)" opacity=".16"/>')
    if zero:
        drawn.append(_line(x(x.low), y(0.0), x(x.high), y(0.0)))
    if diagonal:
        drawn.append(_line(x(0), y(0), x(1), y(1)))
    for number, one in enumerate(series):
        colour = f"var(--c{number % COLOURS})"
        places = [(x(at), y(min(max(value, y.low), y.high))) for at, value in one.points]
        if isinstance(one, Curve):
            points = " ".join(f"{a},{b}" for a, b in places)
            drawn.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        else:
            drawn += [f'<circle cx="{a}" cy="{b}" r="4" fill="{colour}"/>' for a, b in places]
    names = "".join(
        f'<span><i style="background:var(--c{number % COLOURS})"></i>{html.escape(one.name)}</span>'
        for number, one in enumerate(series)
    )
    label = html.escape(", ".join(one.name for one in series))
    return (
        f'<div class="legend note">{names}</div>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(drawn)}</svg>'
    )


def _scale(values: Sequence[float], first: float, last: float) -> _Scale:
    low, high = min(values), max(values)
    room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return _Scale(low - room, high + room, first, last)


def _axes(x: _Scale, y: _Scale, *, of_time: bool) -> str:
    found = []
    for value in _ticks(y.low, y.high):
        at = y(value)
        found.append(_line(LEFT, at, WIDTH - RIGHT, at, dim=True))
        found.append(f'<text x="{LEFT - 8}" y="{at + 4}" text-anchor="end">{value:g}</text>')
    even = [x.low + (x.high - x.low) * (number + 0.5) / 5 for number in range(5)]
    for value in even if of_time else _ticks(x.low, x.high):
        text = time_text(int(value))[:10] if of_time else f"{value:g}"
        if of_time and x.high - x.low < 5 * 86_400_000:
            text = time_text(int(value))[5:16]
        found.append(f'<text x="{x(value)}" y="{HEIGHT - 8}" text-anchor="middle">{text}</text>')
    return "".join(found)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers."""
    step = 10 ** math.floor(math.log10((high - low) / 4)) if high > low else 1.0
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    return [round(number * step, 12) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _line(x1: float, y1: float, x2: float, y2: float, *, dim: bool = False) -> str:
    stroke = "var(--line)" if dim else "var(--dim)"
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{stroke}"/>'

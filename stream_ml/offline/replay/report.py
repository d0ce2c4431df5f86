"""What came of a replay, as JSON and as one HTML file that needs nothing else."""

import datetime
import html
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from stream_ml.app.overlay import environment_of
from stream_ml.core.evaluation.blocks import AUTOCORRELATED
from stream_ml.offline.replay.charts import Band, Curve, Dots, chart
from stream_ml.offline.replay.compare import BASELINE, SERVED, Comparison, Measured, Pair
from stream_ml.offline.replay.replay import Entrant
from stream_ml.units import duration_text, duration_words, time_text

FORMAT = 1
FEEDBACK = (
    "Labels are taken as they came. Where a prediction changes what comes true (a loan that was refused is never paid "
    "back), a replay cannot know what would have come of another one."
)


class Source(NamedTuple):
    """What was replayed.

    Parameters
    ----------
    what
        Topic or files.
    timeline
        served, or moment/delay.
    notes
        What is to be said of it: rows that were refused, a log that is halted.
    """

    what: str
    timeline: str
    entries: int
    examples: int
    notes: Sequence[str]


class Assumed(NamedTuple):
    """Measures of each model, had every label taken so long."""

    delay_ms: int
    measures: Mapping[str, Mapping[str, float]]


class Outcome(NamedTuple):
    """All that a report says."""

    app: str
    source: Source
    comparison: Comparison
    measured: Sequence[Measured]
    entrants: Mapping[str, Entrant]
    pairs: Sequence[Pair]
    failed: Sequence[str]
    took_s: float
    assumed: Sequence[Assumed] = ()

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        comparison, source = self.comparison, self.source
        times = comparison.facts.event_ms[comparison.counts]
        return {
            "format": FORMAT,
            "app": self.app,
            "made_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "source": {**source._asdict(), "notes": list(source.notes)},
            "compared": {
                "examples": int(comparison.counts.sum()),
                "from": time_text(int(times.min())) if len(times) else None,
                "to": time_text(int(times.max())) if len(times) else None,
                "left_out": comparison.left_out,
                "delay_seconds": comparison.delays(),
                "mature_ms": comparison.mature_ms,
            },
            "specs": [self._spec(one) for one in self.measured],
            "stopped": {name: one.stopped for name, one in self.entrants.items() if one.stopped},
            "pairs": [_pair(one) for one in self.pairs],
            "assumed": [{"delay_ms": one.delay_ms, "measures": one.measures} for one in self.assumed],
            "failed": list(self.failed),
            "environment": {**environment_of(), "stream_ml": version("stream-ml")},
            "took_seconds": round(self.took_s, 1),
        }

    def _spec(self, one: Measured) -> dict[str, Any]:
        entrant = self.entrants.get(one.name)
        found: dict[str, Any] = {
            "name": one.name,
            "measures": one.measures,
            "reliability": [list(of) for of in one.reliability],
            "loss_over_time": [list(of) for of in one.course],
        }
        if entrant is not None:
            ran = entrant.ran
            found |= {
                "lineage": entrant.spec.recipe.lineage,
                "factory": entrant.spec.recipe.parts.config.model.factory,
                "params": entrant.spec.recipe.spec["params"],
                "examples_learned": ran.examples_learned,
                "halted": ran.halted,
                "failed": ran.failed,
                "cpu_us_an_example": round(ran.cpu_s / max(1, self.source.examples) * 1e6, 2),
            }
        if entrant is not None and SERVED in self.comparison.names:
            found["equal_to_served"] = list(self.comparison.equal(one.name, entrant.spec.recipe.lineage))
        return found


def _pair(one: Pair) -> dict[str, Any]:
    verdict = {name: _finite(value) for name, value in one.verdict._asdict().items()}
    course = [[end, *map(_finite, rest)] for end, *rest in one.course]
    return {"first": one.first, "second": one.second, **verdict, "course": course, **one.blocks.state()}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- for people ---


def words_of(pair: Pair) -> str:
    """A comparison in one line."""
    verdict = pair.verdict
    interval = f"[{verdict.low:+.4f}, {verdict.high:+.4f}]" if math.isfinite(verdict.low) else "[no interval yet]"
    mean = f"{verdict.mean:+.4f} " if math.isfinite(verdict.mean) else ""
    more = f" ({verdict.why})" if verdict.why else ""
    if verdict.blocks_more and verdict.autocorrelation <= AUTOCORRELATED:
        more += f", about {verdict.blocks_more:,} block{'s' * (verdict.blocks_more > 1)} more would decide"
    blocks = f"{verdict.blocks:,} blocks of {duration_text(pair.blocks.block_ms)}"
    return f"{pair.first} - {pair.second}: {mean}{interval} over {blocks}: {verdict.decision}{more}"


def table_of(outcome: Outcome) -> list[str]:
    """The measures, a line for each model."""
    names = _names(outcome)
    width = max([len(one.name) for one in outcome.measured] + [8])
    lines = [f"{'':<{width}} " + " ".join(f"{name:>17}" for name in names) + f" {'us/example':>11}"]
    for one in outcome.measured:
        entrant = outcome.entrants.get(one.name)
        cost = "-" if entrant is None else f"{entrant.ran.cpu_s / max(1, outcome.source.examples) * 1e6:.1f}"
        values = " ".join(f"{one.measures[name]:>17.5f}" if name in one.measures else f"{'-':>17}" for name in names)
        equal = ""
        if entrant is not None and SERVED in outcome.comparison.names:
            same, of = outcome.comparison.equal(one.name, entrant.spec.recipe.lineage)
            equal = f"   says what it has served in {same:,} of {of:,}" if of else ""
        lines.append(f"{one.name:<{width}} {values} {cost:>11}{equal}")
    return lines


def assumed_of(outcome: Outcome) -> list[str]:
    """The loss of each model had labels taken so long, a line for each delay."""
    key, lines = _loss_of(outcome), []
    for one in outcome.assumed:
        said = ", ".join(
            f"{name} {measures[key]:.5f}" if key in measures else f"{name} says nothing: nothing was learned by then"
            for name, measures in one.measures.items()
            if name != BASELINE
        )
        lines.append(f"{key}, had labels come {_when(one.delay_ms)}: {said}")
    return lines


def _loss_of(outcome: Outcome) -> str:
    return "loss" if outcome.comparison.domain.task == "regression" else "brier"


def _when(delay_ms: int) -> str:
    return f"after {duration_text(delay_ms)}" if delay_ms else "at once"


def page(outcome: Outcome) -> str:
    """The report as one HTML file."""
    said = outcome.plain()
    compared = said["compared"]
    title = f"Replay of {outcome.app}"
    half, most = (duration_words(1000 * compared["delay_seconds"].get(name, 0.0)) for name in ("p50", "p90"))
    intro = (
        f"{compared['examples']:,} of {outcome.source.examples:,} examples of {html.escape(outcome.source.what)}, "
        f"{compared['from']} to {compared['to']}, timeline {html.escape(outcome.source.timeline)}. "
        + (f"Labels took {half} (median), {most} (nine of ten)." if compared["delay_seconds"] else "")
    )
    notes = [*outcome.source.notes, *(f"{why}: {count:,}" for why, count in compared["left_out"].items())]
    notes += [f"{name}: {why}" for name, why in said["stopped"].items()]
    notes += [f"{name} stopped learning {one.ran.halted}" for name, one in outcome.entrants.items() if one.ran.halted]
    failed = "".join(f"<li class=bad>{html.escape(one)}</li>" for one in outcome.failed)
    parts = [
        f"<h1>{html.escape(title)}</h1><p>{intro}</p>",
        f"<section><h2>Failed bounds</h2><ul>{failed}</ul></section>" if failed else "",
        f"<section><h2>Measures</h2>{_measures(outcome)}</section>",
        f"<section><h2>Which is better</h2>{_verdicts(outcome)}</section>",
        f"<section><h2>Loss over time</h2>{_losses(outcome)}</section>",
        f"<section><h2>Reliability</h2>{_reliability(outcome)}</section>",
        f"<section><h2>How long labels took</h2>{_delays(outcome)}</section>",
        f"<section><h2>Quality, had labels taken so long</h2>{_assumed(outcome)}</section>" if outcome.assumed else "",
        f"<section><h2>What is left out, and noted</h2><ul>{''.join(f'<li>{html.escape(n)}</li>' for n in notes)}"
        f"<li>{html.escape(FEEDBACK)}</li></ul></section>",
    ]
    return _PAGE.format(title=html.escape(title), body="".join(parts))


def _names(outcome: Outcome) -> list[str]:
    """Of all measures that one of the models has, in the order of the one that has most."""
    longest = max((one.measures for one in outcome.measured), key=len, default={})
    return list(dict.fromkeys([*longest, *(name for one in outcome.measured for name in one.measures)]))


def _measures(outcome: Outcome) -> str:
    names = _names(outcome)
    rows = []
    for one in outcome.measured:
        cells = "".join(f"<td>{one.measures[n]:.4f}</td>" if n in one.measures else "<td>-</td>" for n in names)
        rows.append(f"<tr><th>{html.escape(one.name)}</th>{cells}</tr>")
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in names)
    return f"<div class=wide><table><tr><th></th>{head}</tr>{''.join(rows)}</table></div>"


def _verdicts(outcome: Outcome) -> str:
    found = []
    for pair in outcome.pairs:
        verdict = pair.verdict
        curve = [(end, mean) for end, mean, _, _ in pair.course if math.isfinite(mean)]
        band = [(end, low, high) for end, _, low, high in pair.course if math.isfinite(low)][1:]
        drawn = chart([Curve("difference", curve[len(curve) // 20 :])], band=Band(band), zero=True) if band else ""
        note = (
            f"Autocorrelation of blocks {verdict.autocorrelation:+.2f}. Were pairs taken as units, their variance "
            f"would be too small by a factor of {verdict.inflation:.1f}."
        )
        words = html.escape(words_of(pair))
        found.append(f"<p class={verdict.decision}><strong>{words}</strong></p>{drawn}<p class=note>{note}</p>")
    return "".join(found) or "<p>There is one model alone.</p>"


def _losses(outcome: Outcome) -> str:
    curves = [
        Curve(one.name, [(at, mean) for at, mean in one.course if mean is not None])
        for one in outcome.measured
        if one.name != BASELINE
    ]
    return chart(curves)


def _reliability(outcome: Outcome) -> str:
    dots = [
        Dots(one.name, [(said, true) for said, true, _ in one.reliability])
        for one in outcome.measured
        if one.reliability and one.name != BASELINE
    ]
    if not dots:
        return "<p>Of a binary task with probabilities alone.</p>"
    return chart(dots, diagonal=True, of_time=False)


def _delays(outcome: Outcome) -> str:
    comparison = outcome.comparison
    delays = comparison.facts.delay_ms[comparison.counts]
    if not len(delays):
        return "<p>No example is compared.</p>"
    if delays.min() == delays.max():
        return f"<p>Each took {duration_words(int(delays.max()))}.</p>"
    unit, name = _unit(int(delays.max()))
    shares = np.linspace(0.0, 1.0, 101)
    late = np.quantile(delays, shares) / unit
    points = list(zip(late.tolist(), shares.tolist(), strict=True))
    return chart([Curve(f"share of labels that had come, by {name}", points)], of_time=False)


def _assumed(outcome: Outcome) -> str:
    key = _loss_of(outcome)
    unit, of = _unit(max(one.delay_ms for one in outcome.assumed))
    names = [name for name in outcome.assumed[0].measures if name != BASELINE]

    def dots(name: str) -> Dots:
        there = [one for one in outcome.assumed if key in one.measures[name]]
        return Dots(name, [(one.delay_ms / unit, one.measures[name][key]) for one in there])

    real = {one.name: one.measures for one in outcome.measured}
    head = "<th>as they came</th>" + "".join(f"<th>{_when(one.delay_ms)}</th>" for one in outcome.assumed)
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{_number_of(real.get(name, {}), key)}</td>"
        + "".join(f"<td>{_number_of(one.measures[name], key)}</td>" for one in outcome.assumed)
        + "</tr>"
        for name in names
    )
    note = f"<p class=note>Mean loss ({key}), by the {of} that each label takes.</p>"
    drawn = chart([dots(name) for name in names], of_time=False)
    return f"{drawn}{note}<div class=wide><table><tr><th></th>{head}</tr>{rows}</table></div>"


def _number_of(measures: Mapping[str, float], key: str) -> str:
    return f"{measures[key]:.4f}" if key in measures else "nothing learned"


def _unit(ms: int) -> tuple[int, str]:
    """The largest unit of which this is several, in milliseconds, and its name."""
    return next((unit, name) for unit, name in _UNITS if unit == 1_000 or ms >= 3 * unit)


_UNITS = ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes"), (1_000, "seconds"))
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>
:root {{ color-scheme: light dark; --ink: #1d2329; --dim: #5c6670; --paper: #fff; --line: #d9dee3; --good: #14713a;
  --bad: #b3261e; --c0: #1f5fbf; --c1: #b4530a; --c2: #14713a; --c3: #8b3fa8; --c4: #0b7285; --c5: #97690a; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6e9ec; --dim: #9aa5af; --paper: #14181c; --line: #333b43;
  --good: #63d391; --bad: #ff8a80; --c0: #7fb2ff; --c1: #ffb071; --c2: #63d391; --c3: #d99bf0; --c4: #5fd0e6;
  --c5: #e6c15c; }} }}
body {{ margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.6rem; margin: 0 0 .3rem; }} h2 {{ font-size: 1.1rem; margin: 2rem 0 .6rem; }}
p {{ margin: .4rem 0; }} .note, .axis {{ color: var(--dim); font-size: .875rem; }}
.wide {{ overflow-x: auto; }} table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .3rem .8rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }}
th:first-child {{ text-align: left; }} .better strong {{ color: var(--good); }}
.worse strong, .bad {{ color: var(--bad); }}
svg {{ width: 100%; height: auto; display: block; margin: .4rem 0; }} svg text {{ fill: var(--dim); font-size: 12px; }}
ul {{ padding-left: 1.2rem; }} .legend span {{ margin-right: 1rem; white-space: nowrap; }}
.legend i {{ display: inline-block; width: .8rem; height: .8rem; margin-right: .35rem; vertical-align: -1px; }}
</style></head><body>{body}</body></html>
"""

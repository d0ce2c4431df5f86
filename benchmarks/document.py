"""The results as one document, for machines as it is, for people as tables: ratios first, then absolute figures."""

from typing import Any

from benchmarks.cases import CASES
from benchmarks.reach import ratios, reached
from benchmarks.results import Results, Spread

COLUMNS = {  # of the table of throughput: value, heading, format
    "rate": ("events/s", "{:,.0f}"),
    "learned_rate": ("with learning", "{:,.0f}"),
    "cpu_us": ("CPU us/event", "{:.1f}"),
    "memory_mb": ("memory MB", "{:.0f}"),
    "early_share": ("labels early", "{:.0%}"),
}
STAGES = {name: (name.removesuffix("_us"), "{:.1f}") for name in ("fold_us", "process_us", "commit_us")}
LATENCY = {
    "p50_ms": ("p50", "{:.1f}"),
    "p90_ms": ("p90", "{:.1f}"),
    "p99_ms": ("p99", "{:.1f}"),
    "p99.9_ms": ("p99.9", "{:.1f}"),
    "label_p50_ms": ("label p50", "{:.1f}"),
    "sender_late_ms": ("sender late", "{:.1f}"),
}
Table = tuple[str, list[str], list[list[str]]]
"""Title, headings, rows."""


def document(results: Results, facts: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Everything, in one JSON object."""
    cases = {}
    for case in CASES:
        if case.name in results.rounds or case.name in results.failed:
            values = {name: _said(results.spread(case.name, name)) for name in results.names(case.name)}
            counts = [result.counts for result in results.rounds.get(case.name, {}).values()]
            cases[case.name] = {"values": values, "counts": counts, "problems": results.problems(case.name)}
    told = {"reach": reached(results), "ratios": ratios(results), "cases": cases}
    return {**told, "machine": facts, "seconds": round(seconds, 1)}


def tables(results: Results, facts: dict[str, Any]) -> list[Table]:
    """A document of results as tables."""
    names = [case.name for case in CASES]
    throughput = [name for name in names if "rate" in results.names(name)]
    found = [
        ("Reach", ["measure", "median", "range", "at least", "aim", ""], [_reach(row) for row in reached(results)]),
        ("Ratios", ["of events/s", "median", "range"], [_ratio(row) for row in ratios(results)]),
        _table("Throughput, one core; median (range)", throughput, COLUMNS, results),
        _table(
            "The service's stages as /metrics has them, us/event",
            [n for n in throughput if "fold_us" in results.names(n)],
            STAGES,
            results,
        ),
        _table("Latency, ms", [n for n in names if n.startswith("latency")], LATENCY, results),
        _soak(results),
        ("Machine", ["", ""], [[name, str(value)] for name, value in facts.items()]),
        ("Problems", ["case", "problem"], [[name, said] for name in names for said in results.problems(name)]),
    ]
    return [table for table in found if table[2]]


def as_text(found: list[Table]) -> str:
    """Columns in line, for a terminal."""
    parts = []
    for title, headings, rows in found:
        widths = [max(len(row[at]) for row in [headings, *rows]) for at in range(len(headings))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [headings, *rows]
        ]
        parts.append("\n".join([title, *(line.rstrip() for line in lines)]))
    return "\n\n".join(parts) + "\n"


def as_markdown(found: list[Table]) -> str:
    """Tables of Markdown under headings."""
    parts = []
    for title, headings, rows in found:
        lines = [headings, ["---"] * len(headings), *rows]
        parts.append("\n".join([f"## {title}", "", *("| " + " | ".join(cells) + " |" for cells in lines)]))
    return "\n\n".join(parts) + "\n"


def _said(value: Spread | None) -> dict[str, Any]:
    return value._asdict() if value else {}


def _reach(row: dict[str, Any]) -> list[str]:
    unit = row["unit"] if row["unit"] == "x" else f" {row['unit']}".rstrip()
    bounds = [f"{row[name]:g}{unit}" for name in ("floor", "aim")]
    return [row["measure"], *_figures(row, unit), *bounds, row["verdict"]]


def _ratio(row: dict[str, Any]) -> list[str]:
    return [row["ratio"], *_figures(row, "x")]


def _figures(row: dict[str, Any], unit: str) -> list[str]:
    if row["median"] is None:
        return ["-", "-"]
    return [f"{_short(row['median'])}{unit}", f"{_short(row['least'])}-{_short(row['most'])}"]


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"


def _table(title: str, names: list[str], columns: dict[str, tuple[str, str]], results: Results) -> Table:
    used = {name: column for name, column in columns.items() if any(name in results.names(case) for case in names)}
    rows = []
    for case in names:
        cells = [_cell(results.spread(case, name), style) for name, (_, style) in used.items()]
        if any(cells):
            rows.append([case, *cells])
    return title, ["case", *(heading for heading, _ in used.values())], rows


def _cell(value: Spread | None, style: str) -> str:
    if value is None:
        return ""
    median, least, most = (style.format(figure) for figure in value[:3])
    return median if least == most else f"{median} ({least}-{most})"


def _soak(results: Results) -> Table:
    rows = []
    for result in results.rounds.get("soak", {}).values():
        minutes = result.counts["memory_mb"]
        rows += [[str(minute), f"{memory:.1f}"] for minute, memory in enumerate(minutes)]
    return "Soak: memory at each minute", ["minute", "MB"], rows

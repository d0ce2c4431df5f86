"""Every case several times, interleaved, then the tables.

Ratios are what to compare between machines. Progress goes to standard error, the result to standard output. The exit
code is 0 unless a case failed to run: a floor that is missed, or a peer that cannot be installed here, is shown.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import document
from benchmarks.backlog import limit
from benchmarks.cases import CASES, Case
from benchmarks.cluster import Cluster
from benchmarks.environments import PEERS, Missing, python_of, versions
from benchmarks.machine import cores, facts
from benchmarks.process import ROOT
from benchmarks.results import Result, Results
from benchmarks.stand import Stand

QUICK_S, FULL_S = 330.0, 3_480.0  # no case begins that would, by its last duration, end later: 6 minutes, an hour
SLOWER = 1.1  # a case may take so much longer than it did before


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="limit, service, loop by hand, Quix, one latency case")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    parser.add_argument("--markdown", action="store_true", help="the tables in Markdown")
    parser.add_argument("--only", metavar="CASE,...", help="cases whose names begin so; --list names them")
    parser.add_argument("--list", action="store_true", help="names of all cases")
    parser.add_argument("--rounds", type=int, help="how often each case runs (3 quick, 5 else), while time allows")
    parser.add_argument("--events", type=int, help="events of a throughput run (100,000 quick, 200,000 else)")
    parser.add_argument("--live", type=float, default=20.0, metavar="S", help="seconds of a latency run")
    parser.add_argument("--soak", type=float, default=600.0, metavar="S", help="seconds of the soak")
    parser.add_argument(
        "--environments", type=Path, default=ROOT / ".bench", metavar="DIR", help="where the peers are installed"
    )
    return parser.parse_args()


def chosen(told: argparse.Namespace) -> list[Case]:
    """The cases that run."""
    if told.only:
        names = [name.strip() for name in told.only.split(",")]
        found = [case for case in CASES if any(case.name.startswith(name) for name in names)]
        unknown = [name for name in names if not any(case.name.startswith(name) for case in CASES)]
        if unknown:
            sys.exit(f"no case is named {', '.join(unknown)}; --list names all")
        return found
    return [case for case in CASES if case.quick or not told.quick]


def run(cases: list[Case], stand: Stand, rounds: int, budget_s: float) -> Results:
    """Round by round, each case once in each, as long as there is time."""
    results, lasted_s, began_s = Results(), dict[str, float](), time.monotonic()
    for number in range(1, rounds + 1):
        for case in cases:
            left_s = budget_s - (time.monotonic() - began_s)
            if number > case.rounds or lasted_s.get(case.name, 0.0) * SLOWER > left_s:
                continue
            with _told(f"round {number}/{rounds}  {case.name}", lasted_s, case.name) as said:
                _one(case, stand, number, results, said)
    return results


def _one(case: Case, stand: Stand, number: int, results: Results, said: list[str]) -> None:
    try:
        result = case.run(stand)
    except Missing as error:
        results.add(case.name, number, Result({}, [str(error)]))
        said.append(str(error))
    except Exception as error:  # one case that fails is reported, and the others go on
        results.fail(case.name, f"failed: {error!r}")
        said.append(f"failed: {error!r}")
    else:
        results.add(case.name, number, result)
        said += [f"{name} {value:,.1f}" for name, value in list(result.values.items())[:4]]
        said += [f"PROBLEM: {problem}" for problem in result.problems]


@contextlib.contextmanager
def _told(what: str, lasted_s: dict[str, float], name: str) -> Iterator[list[str]]:
    started_s, said = time.monotonic(), list[str]()
    yield said
    lasted_s[name] = time.monotonic() - started_s
    sys.stderr.write(f"{what:42} {lasted_s[name]:5.1f} s  {', '.join(said)}\n")


def install(cases: list[Case], folder: Path) -> dict[str, Any]:
    """Make the environments that the cases need before anything is measured; versions of the peers."""
    found = {}
    for peer in (path.stem for path in sorted(PEERS.glob("*.txt"))):
        if any(case.name.startswith(peer) for case in cases):
            with contextlib.suppress(Missing):  # said again by the case itself
                python_of(folder, peer)
            found[peer] = ", ".join(f"{name} {number}" for name, number in versions(peer).items())
    return found


def main() -> int:
    told = parsed()
    if told.list:
        sys.stdout.write("".join(f"{case.name}\n" for case in CASES))
        return 0
    began_s, cases = time.monotonic(), chosen(told)
    machine = facts()
    peers = install(cases, told.environments)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores().others})
    with tempfile.TemporaryDirectory(prefix="stream-ml-bench-") as name, Cluster(Path(name) / "kafka") as cluster:
        events = told.events or (100_000 if told.quick else 200_000)
        stand = Stand(cluster, Path(name), told.environments, events, told.live, told.soak)
        limit(stand, "transactions", 2.0)  # java compiles what it will need; not counted
        budget_s = (QUICK_S if told.quick else FULL_S) - (time.monotonic() - began_s)
        results = run(cases, stand, told.rounds or (3 if told.quick else 5), budget_s)
    show(told, results, {**machine, **peers}, time.monotonic() - began_s)
    return 1 if results.failed else 0


def show(told: argparse.Namespace, results: Results, machine: dict[str, Any], seconds: float) -> None:
    """Print the document in the form that was asked for."""
    if told.json:
        sys.stdout.write(json.dumps(document.document(results, machine, seconds), indent=1) + "\n")
        return
    made = document.tables(results, machine)
    sys.stdout.write(document.as_markdown(made) if told.markdown else document.as_text(made))


if __name__ == "__main__":
    sys.exit(main())

"""Run schedules: ``python -m tests.system.simulation --seed 123`` tells what happened, ``--seeds 0 1000`` counts."""

import argparse
import gc
import sys
import time
from collections import Counter

from tests.system.simulation.judge import judged
from tests.system.simulation.plan import Plan, plan_of
from tests.system.simulation.world import Schedule


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.system.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run one schedule and print its trace")
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "END"), default=(0, 1000))
    parser.add_argument("--records", type=int, help="only so many records")
    parser.add_argument("--faults", type=int, help="only so many faults")
    parser.add_argument("--late", action="store_true", help="with EndTxn requests that meet the next transaction")
    parser.add_argument("--shrink", action="store_true", help="look for the fewest faults and records that still fail")
    chosen = parser.parse_args()
    if chosen.seed is None:
        return _many(*chosen.seeds, late=chosen.late)
    records, faults = chosen.records, chosen.faults
    if chosen.shrink:
        records, faults = _shrunk(chosen.seed, chosen.late)
        print(f"--seed {chosen.seed} --records {records} --faults {faults}\n")
    return _one(plan_of(chosen.seed, records=records, faults=faults, late=chosen.late))


def _one(plan: Plan) -> int:
    schedule = Schedule(plan, tracing=True)
    found = _findings(schedule)
    print(f"{plan._replace(inputs=[])}\n")
    print("\n".join(schedule.sim.trace))
    print("\n" + ("\n".join(found) or "all is well"))
    return bool(found)


def _many(first: int, end: int, *, late: bool) -> int:
    _findings(Schedule(plan_of(first, late=late)))  # imports and caches
    gc.freeze()  # what was imported is large, and every full collection would walk it
    started, failed = time.perf_counter(), Counter[str]()
    steps = records = 0
    for seed in range(first, end):
        schedule = Schedule(plan_of(seed, late=late))
        found = _findings(schedule)
        steps, records = steps + schedule.sim.steps, records + len(schedule.given)
        if found:
            failed[_brief(found[0])] += 1
            print(f"seed {seed}: {_brief(found[0])}", flush=True)
    took, count = time.perf_counter() - started, end - first
    print(
        f"{count} schedules, {failed.total()} failed; {records / count:.0f} records, {steps / count:.0f} steps each; "
        f"{60 * count / took:.0f} schedules a minute"
    )
    return bool(failed)


def _findings(schedule: Schedule) -> list[str]:
    try:
        schedule.run()
    except Exception as error:  # the schedule itself did not come to its end
        return [f"{type(error).__name__}: {error}", *schedule.sim.failures]
    return judged(schedule)


def _brief(finding: str) -> str:
    return finding.strip().splitlines()[-1][:150]


def _shrunk(seed: int, late: bool) -> tuple[int, int]:
    """The fewest faults, then the fewest records, with which the schedule of a seed still fails."""
    plan = plan_of(seed, late=late)
    records, faults = len(plan.inputs), len(plan.faults)
    if not _findings(Schedule(plan)):
        sys.exit(f"seed {seed} does not fail")
    faults = next(n for n in range(faults + 1) if n == faults or _fails(seed, records, n, late))
    records = next(n for n in range(records + 1) if n == records or _fails(seed, n, faults, late))
    return records, faults


def _fails(seed: int, records: int, faults: int, late: bool) -> bool:
    return bool(_findings(Schedule(plan_of(seed, records=records, faults=faults, late=late))))


if __name__ == "__main__":
    sys.exit(main())

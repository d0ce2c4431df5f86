"""``make upgrade FROM=REF``: workers and APIs of another commit are replaced by this one's, one at a time, under load.

And back again, as an operator does whom the new ones do not please. The last line is JSON; exit code 1 where anything
was lost, twice, not answered, or not derived again.
"""

import argparse
import io
import itertools
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.api_process import ApiProcess
from tests.support.brokers import embedded
from tests.support.paths import ROOT
from tests.support.service import T0, Service, service
from tests.system.chaos.traffic import Traffic
from tests.system.containers.asking import Asker

WORKERS, APIS = ("w1", "w2"), ("api1", "api2")
STEADY_S = 8.0  # between two stages
INSTANCE = {"id": "asked", "at": T0, "x": 3.0, "kind": "k1", "note": None}


def checked_out(ref: str, folder: Path) -> Path:
    """The package as it was at a commit."""
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", ref, "stream_ml", "schemas"]
    packed = subprocess.run(command, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as files:
        files.extractall(folder, filter="data")
    return folder


class Rolled:
    """A service whose processes are replaced one at a time.

    Attributes
    ----------
    apis
        Those that run, the one to ask first in front.
    """

    def __init__(self, made: Service) -> None:
        self.made = made
        self.apis: dict[str, ApiProcess] = {}
        self._workers: dict[str, Any] = {}

    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", api.port) for api in self.apis.values()]

    def onto(self, code: Path | None) -> float:
        """Replace all of them by processes that run this code; seconds that it took."""
        began_s, self.made.code = time.monotonic(), code
        for name in WORKERS:
            if name in self._workers:
                assert self._workers[name].stop() == 0, self._workers[name].log
            worker = self._workers[name] = self.made.start(name, checkpoints={"directory": f"of-{name}"})
            self.made.wait_for(lambda worker=worker: bool(worker.owned), f"{name} owning")  # type: ignore[misc]
        for name in APIS:
            before = self.apis.pop(name, None)
            if before is not None:
                assert before.stop() == 0, before.log
            self.apis[name] = ApiProcess(self.made, name=name).wait_ready()
        return round(time.monotonic() - began_s, 1)

    def stop(self) -> None:
        for api in self.apis.values():
            assert api.stop() == 0, api.log
        for worker in self._workers.values():
            assert worker.stop() == 0, worker.log


def rolled(ref: str, folder: Path) -> dict[str, Any]:
    """The whole of it: counts, pauses, and what the audit of this commit's code finds."""
    old = checked_out(ref, folder / "old")
    (folder / "app").mkdir()
    with (
        embedded(folder / "kafka") as kafka,
        service(folder / "app", kafka.bootstrap_servers, "rolled", partitions=2) as made,
    ):
        (folder / "app/checkpoints.key").write_text("k" * 32, "utf-8")
        made.settings["checkpoints"] = {"key_file": "checkpoints.key", "interval": "2s"}
        made.write()
        service_of = Rolled(made)
        service_of.onto(old)
        traffic, asker = Traffic(made, 1), Asker(service_of.addresses, "", INSTANCE)
        traffic.start()
        asker.start()
        took: dict[str, float] = {}
        for stage, code in (("upgrade_s", None), ("back_s", old), ("upgrade_again_s", None)):
            time.sleep(STEADY_S)  # what is measured: work between two stages
            took[stage] = service_of.onto(code)
            say(f"{stage}: {took[stage]}")
        time.sleep(STEADY_S)  # as above
        traffic.stop()
        made.wait_until_done()
        asker.end()
        service_of.stop()
        audit = made.audited(sample=1_000)
        return {
            "from": ref,
            "events": audit["events"],
            "predictions": audit["predictions"],
            "examples": audit["examples"],
            "lost": audit["counts"].get("lost", 0) + audit["unread"],
            "duplicated": audit["counts"].get("repeated", 0) + audit["counts"].get("sequence", 0),
            "findings": audit["findings"],
            "rescored": audit["rescored"]["checked"],
            **asker.result,
            **took,
            "longest_pause_s": {"predictions": longest_pause_s(made), "answers": round(asker.longest_s, 1)},
        }


def longest_pause_s(made: Service) -> float:
    """Between two predictions of a partition, by the times at which they were made."""
    times = [sorted(one["scored_at"] for one in made.predictions(number)) for number in range(made.partitions)]
    return max(round((b - a).total_seconds(), 1) for of_one in times for a, b in itertools.pairwise(of_one))


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="ref", required=True, help="a commit or tag whose workers are replaced")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = rolled(arguments.ref, Path(folder))
    sys.stdout.write(json.dumps(result) + "\n")
    right = not (result["lost"] or result["duplicated"] or result["failed_requests"] or result["findings"])
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()

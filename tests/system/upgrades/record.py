"""Makes a recording of a service as it is now: ``python -m tests.system.upgrades.record FILE.tar.xz``.

A recording is made once for each format, by the code that wrote that format, and never again: it is what an upgrade
has to live with. In it stand the folder of a broker (topics, committed offsets, transactions), the configuration, the
model with its store, checkpoints, keys made for it, and `said.json` with what was true when it ended.
"""

import json
import platform
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stream_ml.embedded.broker import free_port
from tests.support.api_process import ApiProcess
from tests.support.brokers import embedded
from tests.support.service import T0, Service, until
from tests.system.upgrades.recording import APP, BROKER, SERVICE, SETTINGS, digests

KEYS = ("log.key", "models.key", "answers.key", "checkpoints.key")
TREE = """
from river import tree

from recorded_helper import GRACE


def build():
    return tree.HoeffdingTreeClassifier(grace_period=GRACE)
"""


def recorded(folder: Path) -> dict[str, Any]:
    """Play everything that leaves a trace in a topic, a commit or a file; what was true in the end."""
    (folder / SERVICE).mkdir()
    with embedded(folder / BROKER, SETTINGS) as kafka:
        made = _service(folder / SERVICE, kafka.bootstrap_servers)
        try:
            return _played(made)
        finally:
            made.close()


def _service(folder: Path, servers: str) -> Service:
    for name in KEYS:
        (folder / name).write_text(name.partition(".")[0] * 8, "utf-8")
        (folder / name).chmod(0o600)
    return Service(
        folder,
        servers,
        APP,
        partitions=2,
        predictions={"topic": f"{APP}-predictions", "carry": ["kind", "note"]},
        training_log={"key_file": "log.key"},
        models={"key_file": "models.key"},
        checkpoints={"key_file": "checkpoints.key", "interval": "2s"},
        serve={"provenance_key_file": "answers.key"},
        http={"port": free_port()},
    )


def _played(made: Service) -> dict[str, Any]:
    made.create_topics()
    _start_both(made)
    made.pairs(range(300))
    made.visit(5)  # an id that comes twice
    for value in (b"no avro", None):
        made.raw_visit(value)
        made.raw_truth(value)
    for number in range(300, 340):
        made.visit(number)  # their labels come behind the upgrade
    for number in range(1000, 1005):
        made.truth(number)  # and their events
    made.truth(299, y=False)  # a second label
    made.wait_until_done()
    made.typed("freeze", "CONFIG")
    made.pairs(range(340, 360))
    made.wait_until_done()
    made.typed("resume", "CONFIG")
    _answer(made)
    _skip_what_nobody_wrote(made)
    for worker in made.workers:
        assert worker.stop() == 0, worker.log
    (made.folder / "recorded_helper.py").write_text("GRACE = 20\n", "utf-8")
    (made.folder / f"model_{APP}.py").write_text(TREE, "utf-8")
    _start_both(made)
    (old,) = {one["lineage"] for one in made.predictions(0)}
    made.wait_for(lambda: made.status().get("models", {}).get("answers") not in (None, "", old), "taking over", 120)
    made.pairs(range(400, 500))
    made.wait_until_done()
    lineages = {one["lineage"] for one in made.predictions(0)}
    assert len(lineages) == 2, lineages
    for worker in made.workers[-2:]:
        assert worker.stop() == 0, worker.log
    found = made.audited(sample=400)
    assert found["counts"] == {"foreign": 1}, found
    return {
        "made_by": {"python": platform.python_version(), "river": version("river")},
        "lineage": made.predictions(0)[-1]["lineage"],
        "audit": {"counts": found["counts"], "examples": found["examples"], "rescored": found["rescored"]},
        "digests": digests(made),
    }


def _start_both(made: Service) -> None:
    workers = [
        made.start(name, checkpoints={"directory": f"of-{name}"}, http={"port": port})
        for name, port in (("w1", made.settings["http"]["port"]), ("w2", 0))
    ]
    made.wait_for(lambda: all(len(worker.owned) == 1 for worker in workers), "a partition for each")


def _answer(made: Service) -> None:
    """Forty answers of the scoring API, which workers publish; labels for half of them."""
    with ApiProcess(made, record="ack", provenance_key_file="answers.key") as api:
        api.wait_ready(1)
        for number in range(40):
            event = {"id": f"r{number}", "at": T0 + 1000 * number, "x": float(number), "kind": "k1", "note": None}
            api.predict(event)
        for number in range(0, 40, 2):
            label = {"id": f"r{number}", "at": T0 + 1000 * (number + 30), "y": number % 4 == 0}
            assert api.ask("POST", "/v1/feedback", {"labels": [label]})[0] == 202
        assert api.stop() == 0, api.log
    made.wait_until_done()


def _skip_what_nobody_wrote(made: Service) -> None:
    made.raw_log(b"nobody's entry")
    made.flush()
    made.wait_for(lambda: made.status()["model"]["halted"] is not None, "the halt")
    at = made.status()["model"]["halted"]["position"]
    assert until(lambda: made.ended("skip", "CONFIG", str(at))[0] == 0, 30), made.ended("skip", "CONFIG", str(at))
    made.wait_for(lambda: made.status()["model"]["halted"] is None, "the halt's end")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        said = recorded(folder)
        (folder / "said.json").write_text(json.dumps(said, indent=1), "utf-8")
        with tarfile.open(sys.argv[1], "w:xz", preset=9) as packed:
            for path in sorted(folder.rglob("*")):
                within = path.relative_to(folder)
                if path.is_file() and not _is_left_out(within):
                    packed.add(path, str(within), filter=_anonymous)
    sys.stdout.write(f"{sys.argv[1]}: {Path(sys.argv[1]).stat().st_size / 1000:.0f} kB\n{json.dumps(said)}\n")


def _is_left_out(path: Path) -> bool:
    """Logs, settings that a start writes anew, compiled code, indexes that Kafka makes anew."""
    return (path.suffix in (".log", ".pyc") and path.parts[:2] != (BROKER, "data")) or (
        len(path.parts) == 2 and (path.parts[0] == BROKER)
    )


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main()

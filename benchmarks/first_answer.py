"""From nothing to the first answer of the scoring API, its model out of a checkpoint in an object store.

Run it as ``python -m benchmarks.first_answer [IMAGE]``: a Kafka and a SeaweedFS of its own, a worker that has learned
5,000 examples and ended, and `stream-ml serve` in folders without a checkpoint, as a process or, where an image is
named, as a container (``make image`` makes stream-ml:latest) on this machine's network. Seconds until a prediction was
answered with 200, for each start; the first container start of an image reads it from the disk.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from stream_ml.embedded.broker import free_port
from tests.support.brokers import embedded
from tests.support.object_store import object_store
from tests.support.service import T0, Service, any_hash_seed, service
from tests.system.containers.asking import ask

LEARNED, STARTS, MOST_S = 5_000, 5, 60.0
EVENT = {"id": "a", "at": T0, "x": 1.0, "kind": "k1", "note": None}


@contextlib.contextmanager
def learned(folder: Path) -> Iterator[Service]:
    """A service whose checkpoints are in a bucket; no process of it runs."""
    (folder / "app").mkdir()
    with (
        embedded(folder / "kafka") as kafka,
        object_store(folder / "s3") as store,
        service(folder / "app", kafka.bootstrap_servers, "first") as made,
    ):
        (made.folder / "c.key").write_text("k" * 32)
        bucket = store.settings("first")
        made.settings["checkpoints"] = {"key_file": "c.key", "interval": "1s", "bucket": bucket}
        made.write()
        worker = made.start()
        made.pairs(range(LEARNED))
        made.wait_until_done()
        assert worker.stop() == 0, worker.log
        yield made


def first_answer_s(made: Service, number: int, image: str) -> float:
    """Seconds from the start of the API in an empty folder to its first answer."""
    port = free_port()
    serve = {"port": port, "admin_port": free_port(but=port), "drain": "0s"}
    made.write(
        "api", serve=serve, checkpoints={"directory": f"/tmp/checkpoints-{number}" if image else f"new-{number}"}
    )
    command = [sys.executable, "-m", "stream_ml", "serve", str(made.folder / "api.yaml")]
    name = f"stream-ml-first-{os.getpid()}"
    if image:
        mounted = f"{made.folder}:{made.folder}:ro"
        command = ["docker", "run", "--rm", "--name", name, "--network", "host", "--read-only", "--tmpfs", "/tmp"]
        command += ["-v", mounted, "-e", "PYTHONDONTWRITEBYTECODE=1", image, "serve", str(made.folder / "api.yaml")]
    env = any_hash_seed() | {"XDG_CACHE_HOME": str(made.folder / f"cache-{number}")}
    began_s = time.monotonic()
    with (made.folder / "api.log").open("ab") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        while ask(("127.0.0.1", port), "", EVENT).problem:
            assert process.poll() is None and time.monotonic() - began_s < MOST_S, made.logs()
            time.sleep(0.01)  # between two looks: how exact the measurement is
        return round(time.monotonic() - began_s, 2)
    finally:
        if image:
            subprocess.run(["docker", "kill", name], capture_output=True, check=False)
        process.kill()
        process.wait()


def main() -> None:
    image = sys.argv[1] if len(sys.argv) > 1 else ""
    with tempfile.TemporaryDirectory(prefix="stream-ml-first-") as folder:
        Path(folder).chmod(0o755)
        with learned(Path(folder)) as made:
            for path in made.folder.rglob("*"):
                path.chmod(path.stat().st_mode | 0o044 | (0o011 if path.is_dir() else 0))  # of another user
            took = [first_answer_s(made, number, image) for number in range(STARTS)]
    sys.stdout.write(json.dumps({"image": image or None, "first_answer_s": took}) + "\n")


if __name__ == "__main__":
    main()

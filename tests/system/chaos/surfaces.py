"""What every surface says while something is wrong, second by second: six troubles under load, each for a while.

``python -m tests.system.chaos.surfaces --seconds 120``: a line for each change of what a surface says, with the
seconds since the trouble began; a negative time lies before it. Alerts want Debian's Prometheus, the page its Chromium.
"""

import argparse
import contextlib
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions
from typer.testing import CliRunner

from deploy.prometheus import SERVER, Prometheus, prometheus
from stream_ml.cli.app import app
from stream_ml.embedded.broker import EmbeddedKafka, free_port
from tests.support.browser import MISSING, browser, url
from tests.support.service import Service, service, until

PAIRS_PER_S = 50
BEFORE_S = 10.0  # of peace, seen by all surfaces
AFTER_S = 60.0  # until all is well again, at most
SHOWN = 300  # characters of what a surface says

Trouble = contextlib.AbstractContextManager[None]


class Load:
    """Pairs at a steady rate from a thread of its own; with `wrong_ids` labels name events that there never were."""

    def __init__(self, made: Service) -> None:
        self.wrong_ids = False
        self._made, self._ended = made, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)

    def _run(self) -> None:
        number = 0
        while not self._ended.wait(1 / PAIRS_PER_S):
            self._made.visit(number)
            self._made.truth(number, **({"id": f"other-{number}"} if self.wrong_ids else {}))
            self._made.producer.poll(0)
            number += 1


class Watching:
    """Looks at every surface again and again, and prints what changed."""

    def __init__(self, made: Service, alerts: Prometheus | None, page: Any) -> None:
        self._made, self._alerts, self._page = made, alerts, page
        self._said: dict[str, str] = {}
        self._read = 0
        self.began_s = time.monotonic() + 1e6

    def look(self) -> None:
        """Ask all of them; about once a second."""
        code, ready = self._made.asked("/readyz")
        self._say("readyz", f"{code} {'' if code == 200 else ready}")
        status = self._made.status()
        self._say("status", " | ".join([*status.get("reasons", ()), *(p["text"] for p in status.get("problems", ()))]))
        metrics = self._made.asked("/metrics")[1]
        gauges = re.findall(r"^stream_ml_(ready|brokers_up) (\S+)$", metrics, re.M)
        self._say("metrics", ", ".join(f"{name} {value}" for name, value in gauges))
        shown = CliRunner().invoke(app, ["top", str(self._made.folder / "w1.yaml"), "--once"])
        last = [line.strip() for line in shown.output.splitlines() if "not ready" in line or line.startswith("WRONG")]
        self._say("top", f"exit {shown.exit_code} {' '.join(last)}")
        if self._page is not None:
            words = "return ['state', 'words'].map((id) => document.getElementById(id).innerText).join(': ')"
            self._say("page", str(self._page.execute_script(words)))
        if self._alerts is not None:
            found = self._alerts.ask("ALERTS")
            names = sorted(f"{one['metric']['alertname']} {one['metric']['alertstate']}" for one in found)
            self._say("alerts", ", ".join(names))
        log = self._made.workers[-1].log
        for line in log[self._read :].splitlines():
            if re.search(r"WARNING|ERROR|CRITICAL", line):
                self._print("log", re.sub(r"^\S+ ", "", line))
        self._read = len(log)

    def _say(self, surface: str, said: str) -> None:
        said = re.sub(r"\s+", " ", said).strip()
        if _gist(surface, said) != _gist(surface, self._said.get(surface, "")):
            self._print(surface, said or "nothing")
        self._said[surface] = said

    def _print(self, surface: str, said: str) -> None:
        seconds = time.monotonic() - self.began_s
        when = "before" if seconds < 0 else f"{seconds:5.1f}s"
        print(f"  {when}  {surface:<8} {said[:SHOWN]}", flush=True)


def _gist(surface: str, said: str) -> str:
    """What it says without the numbers that grow with each second; gauges and codes are all there is of theirs."""
    return said if surface == "metrics" else re.sub(r"(?<!exit )(?<!^)\b\d[\d,.]*", "#", said)


@contextlib.contextmanager
def outage(made: Service, kafka: EmbeddedKafka, load: Load) -> Iterator[None]:
    """The only broker dies, and is started again."""
    kafka.kill()
    try:
        yield
    finally:
        kafka.start()


@contextlib.contextmanager
def open_transaction(made: Service, kafka: EmbeddedKafka, load: Load) -> Iterator[None]:
    """A producer that is none of ours does not end its transaction."""
    servers, name = kafka.bootstrap_servers, f"{made.config.app.id}-hangs"
    settings = {"bootstrap.servers": servers, "transactional.id": name, "transaction.timeout.ms": 900_000}
    producer = Producer(settings)
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(made.config.events.topic, b"never committed", partition=0)
    producer.flush(10)
    try:
        yield
    finally:
        producer.abort_transaction(10)


@contextlib.contextmanager
def deleted_topic(made: Service, kafka: EmbeddedKafka, load: Load) -> Iterator[None]:
    """The topic of predictions is deleted, and made again."""
    client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    client.delete_topics([made.config.predictions.topic])[made.config.predictions.topic].result()
    try:
        yield
    finally:
        made.create_topics()


@contextlib.contextmanager
def grown_topic(made: Service, kafka: EmbeddedKafka, load: Load) -> Iterator[None]:
    """Events get a second partition, and the other topics only later."""
    client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    client.create_partitions([NewPartitions(made.config.events.topic, 2)])[made.config.events.topic].result()
    try:
        yield
    finally:
        CliRunner().invoke(app, ["topics", "grow", str(made.folder / "w1.yaml"), "--partitions", "2"])


@contextlib.contextmanager
def read_only_checkpoints(made: Service, kafka: EmbeddedKafka, load: Load) -> Iterator[None]:
    """The directory takes nothing (a file stands in its place: no mode would keep root out), and then it does."""
    place = made.folder / "checkpoints"
    shutil.rmtree(place)
    place.write_bytes(b"")
    try:
        yield
    finally:
        place.unlink()


@contextlib.contextmanager
def wrong_id(made: Service, kafka: EmbeddedKafka, load: Load) -> Iterator[None]:
    """Labels name events that there never were, and then the right ones."""
    load.wrong_ids = True
    try:
        yield
    finally:
        load.wrong_ids = False


TROUBLES: dict[str, Callable[[Service, EmbeddedKafka, Load], Trouble]] = {
    "outage": outage,
    "open transaction": open_transaction,
    "deleted topic": deleted_topic,
    "grown topic": grown_topic,
    "read-only checkpoints": read_only_checkpoints,
    "wrong id": wrong_id,
}


def _seen(name: str, kafka: EmbeddedKafka, folder: Path, seconds: float, page: Any) -> None:
    """One trouble and its end, with a service of its own."""
    folder.mkdir()
    port = free_port()
    changes: dict[str, Any] = {"http": {"port": port}, "checkpoints": {"interval": "1s"}}
    app_id = re.sub(r"\W", "_", name)
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(service(folder, kafka.bootstrap_servers, app_id, **changes))
        made.start()
        made.wait_for(lambda: made.ready, "readiness")
        load = stack.enter_context(Load(made))
        target = f"127.0.0.1:{port}"
        alerts = stack.enter_context(prometheus(folder / "prometheus", target)) if SERVER else None
        if page is not None:
            page.get(url(made))
        watching = Watching(made, alerts, page)
        made.wait_for(lambda: made.status()["per_second"]["events"] > PAIRS_PER_S / 2, "the load")
        _look_until(watching, BEFORE_S)
        print(f"\n{name}: {TROUBLES[name].__doc__}", flush=True)
        watching.began_s = time.monotonic()
        with TROUBLES[name](made, kafka, load):
            _look_until(watching, seconds)
            print(f"  {time.monotonic() - watching.began_s:5.1f}s  ends", flush=True)
        _look_until(watching, AFTER_S)
        if made.workers[-1].process.poll() is not None:
            print(f"  the worker has ended with {made.workers[-1].process.returncode}; a supervisor starts it again")
            made.start()
            made.wait_for(lambda: made.ready, "readiness")


def _look_until(watching: Watching, seconds: float) -> None:
    ended = time.monotonic() + seconds
    while time.monotonic() < ended:
        began = time.monotonic()
        watching.look()
        until(lambda began=began: time.monotonic() >= began + 1, 1)  # type: ignore[misc]


def main() -> None:
    """All of them, or those that are named."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--seconds", type=float, default=120.0, help="how long each lasts (default: %(default)s)")
    arguments.add_argument("troubles", nargs="*", metavar="TROUBLE", help=", ".join(TROUBLES))
    given = arguments.parse_args()
    print(f"page: {'no, ' + ', '.join(MISSING) if MISSING else 'yes'}; alerts: {'yes' if SERVER else 'no prometheus'}")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        page = None if MISSING else stack.enter_context(browser())
        kafka = stack.enter_context(EmbeddedKafka(Path(folder) / "kafka"))
        for name in given.troubles or TROUBLES:
            _seen(name, kafka, Path(folder) / name.replace(" ", "-"), given.seconds, page)


if __name__ == "__main__":
    main()

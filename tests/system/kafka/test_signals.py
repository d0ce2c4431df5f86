"""Signals on a real broker: each once, by whoever sees it; and what a worker alone sees."""

import itertools
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from stream_ml.core.drift.signals import Signal, decode_signal
from stream_ml.embedded.broker import free_port
from stream_ml.kafka.writing.commands import write_command
from tests.support.service import Service, service, until

pytestmark = pytest.mark.kafka

WAIT_S = 60.0
SMALL = {"inputs": {"reference": 1_000, "window": 500}}


def signals(made: Service) -> list[Signal]:
    """All but those about which models there are."""
    found = [decode_signal(record.value or b"") for record in made.read(made.config.signals)]
    return [signal for signal in found if signal.subject != "models"]


def told(made: Service) -> list[tuple[str, str]]:
    return [(signal.kind, signal.subject) for signal in signals(made)]


def status(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/status", timeout=10) as answer:
        return json.load(answer)  # type: ignore[no-any-return]


def _answers(port: int) -> bool:
    try:
        return bool(status(port)["ready"])
    except OSError:
        return False


def test_drift_of_an_input_is_told_once_survives_a_restart_and_is_accepted(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    port = free_port()
    with service(tmp_path, kafka, app_id, drift=SMALL, http={"port": port}) as made:
        worker = made.start()
        numbers = itertools.count()

        def more(**values: Any) -> None:
            """A hundred events by themselves: of a large batch only some would be looked at."""
            for number in itertools.islice(numbers, 100):
                made.visit(number, **values)
            made.wait_until_done()

        def referenced() -> bool:
            more()
            return bool(status(port)["drift"]["referenced"])

        def drifted() -> bool:
            more(x=500.0)
            return ("drift", "feature:x") in told(made)

        made.wait_until_done()
        made.wait_for(lambda: _answers(port), "readiness")
        assert until(referenced, WAIT_S)
        assert worker.stop() == 0, worker.log
        made.start()
        assert until(drifted, WAIT_S), told(made)
        drift = next(signal for signal in signals(made) if signal.subject == "feature:x")
        assert drift.origin == "w1" and drift.evidence["psi"] > drift.evidence["threshold"]
        assert drift.suggestion == "stream-ml rebaseline CONFIG"
        moved = "feature x has moved away"
        assert until(lambda: any(moved in one["text"] for one in status(port)["problems"]), WAIT_S)
        write_command(made.config, "rebaseline", {})
        assert until(lambda: ("rebaselined", "learning") in told(made), WAIT_S)

        def referenced_anew() -> bool:
            more(x=500.0)
            drift = status(port)["drift"]  # one that was made before the command says that the old reference holds
            return drift["referenced"] and not drift["subjects"].get("feature:x", {}).get("drifted")

        assert until(referenced_anew, WAIT_S)
        assert told(made).count(("drift", "feature:x")) == 1


def test_labels_that_stay_away_are_told_and_their_return_too(kafka: str, app_id: str, tmp_path: Path) -> None:
    port = free_port()
    with service(tmp_path, kafka, app_id, drift={"label_starvation": "10m"}, http={"port": port}) as made:
        made.start()
        made.pairs(range(300))
        made.wait_until_done()
        for number in range(300, 2_000):
            made.visit(number)  # a second apart: half an hour without a label
        made.wait_until_done()
        assert until(lambda: ("label_starvation", "labels:0") in told(made) or _nudge(made), WAIT_S)
        assert until(lambda: any("labels stay away" in one["text"] for one in status(port)["problems"]), WAIT_S)
        for number in range(1_900, 2_000):
            made.truth(number)
        made.wait_until_done()
        assert until(lambda: ("recovered", "labels:0") in told(made) or _nudge(made), WAIT_S)
        assert told(made).count(("label_starvation", "labels:0")) == 1
        assert until(lambda: status(port)["problems"] == [], WAIT_S)


def test_an_event_that_comes_late_is_no_label_that_stays_away(kafka: str, app_id: str, tmp_path: Path) -> None:
    port = free_port()
    with service(tmp_path, kafka, app_id, drift={"label_starvation": "10m"}, http={"port": port}) as made:
        made.start()
        made.pairs(range(3_000))  # fifty minutes
        made.wait_until_done()
        made.visit(20_000, at=1_600_000_000_000)  # as old as the first one
        made.wait_until_done()
        made.visit(3_000)
        made.wait_until_done()
        assert until(lambda: status(port)["since_start"].get("predictions") == 3_002, WAIT_S)
        assert status(port)["starving"] == [] and told(made) == []


_nudges = iter(range(10_000, 20_000))


def _nudge(made: Service) -> bool:
    """A signal goes with the next transaction, so one more event and label have to come."""
    made.visit(next(_nudges), at=1_600_000_000_000 + 1_000 * 2_000)
    made.producer.flush()
    return False


def test_halt_and_commands_are_told_once_however_many_replicas_see_them(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, partitions=2) as made:
        workers = [made.start("w1"), made.start("w2", http={"port": 0})]
        made.pairs(range(200))
        made.wait_until_done()
        at = write_command(made.config, "freeze", {})
        assert until(lambda: ("frozen", "learning") in told(made), WAIT_S)
        for worker in workers:
            worker.kill()
        made.start("w1")
        made.pairs(range(200, 300))
        made.wait_until_done()
        resumed = write_command(made.config, "resume", {})
        assert until(lambda: ("resumed", "learning") in told(made), WAIT_S)
        assert [(signal.kind, signal.position) for signal in signals(made)] == [("frozen", at), ("resumed", resumed)]


@pytest.mark.long
def test_halts_are_told_once_by_each_who_watches_and_another_model_tells_them_not_again(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id) as made:
        made.start()
        made.pairs(range(30))
        made.wait_until_done()
        made.forge(5)
        assert until(lambda: "learning halted at" in made.workers[-1].log or _nudge(made), WAIT_S)
        assert until(lambda: ("halted", "learning") in told(made) or _nudge(made), WAIT_S)
        (halted,) = signals(made)
        resumed = write_command(made.config, "skip", {"position": halted.position})
        assert until(lambda: ("resumed", "learning") in told(made) or _nudge(made), WAIT_S)
        useless = write_command(made.config, "skip", {"position": halted.position})
        models, watches = [{"model": {"seed": seed}} for seed in (8, 7, 8)], [{"quality": {"window": 200}}, {}]
        for changes in [*models, *watches, *watches]:
            assert made.workers[-1].stop() == 0
            made.start(**changes)
            before = len(made.predictions())
            assert until(lambda: len(made.predictions()) > before or _nudge(made), WAIT_S)  # noqa: B023
        one, other = dict.fromkeys(signal.origin for signal in signals(made))
        expected = [("halted", halted.position), ("resumed", resumed)]
        assert resumed < useless
        for watch in (one, other):
            assert [(s.kind, s.position) for s in signals(made) if s.origin == watch] == expected


def test_the_audit_finds_a_signal_of_the_fold_that_stands_twice(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        worker = made.start()
        made.pairs(range(50))
        made.wait_until_done()
        write_command(made.config, "freeze", {})
        assert until(lambda: ("frozen", "learning") in told(made), WAIT_S)
        assert worker.stop() == 0
        assert made.audit().findings == []
        record = made.read(made.config.signals)[-1]
        made.producer.produce(made.config.signals, record.value, record.key, 0)
        made.flush()
        (finding,) = made.audit().findings
        assert f"stands at {record.offset} already" in str(finding)

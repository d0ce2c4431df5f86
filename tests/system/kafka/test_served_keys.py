"""The key that seals answers is replaced while the API answers and workers publish."""

import signal
from pathlib import Path
from typing import Any

import pytest

from stream_ml.app.assemble import assemble
from stream_ml.core.partition.answered import FLAG, HEADER, AnswerSeal
from stream_ml.embedded.broker import free_port
from tests.support.api_process import ApiProcess
from tests.support.service import Service, Worker, service, until
from tests.system.kafka.test_serve_recorded import whole
from tests.system.kafka.test_served_headers import Forger, ends

pytestmark = pytest.mark.kafka

OLD, NEW = "old.key", "new.key"
OLD_ONLY: dict[str, Any] = {"provenance_key_file": OLD}
BOTH: dict[str, Any] = {"provenance_key_file": NEW, "old_provenance_key_files": [OLD]}
NEW_ONLY: dict[str, Any] = {"provenance_key_file": NEW}


def with_keys(folder: Path, servers: str, app_id: str) -> Any:
    for name in (OLD, NEW):
        (folder / name).write_text(name * 8, "utf-8")
    return service(folder, servers, app_id, http={"port": free_port()})


def restarted(made: Service, keys: dict[str, Any]) -> Worker:
    """A worker with these keys in the place of the one before."""
    if made.workers:
        assert made.workers[-1].stop() == 0, made.logs()
    worker = made.start(serve=keys)
    made.wait_for(lambda: bool(worker.owned), "owning")
    return worker


def told(api: ApiProcess, numbers: range) -> dict[str, tuple[str, int]]:
    """Score and position by id, as they were answered."""
    found = api.predict(*map(whole, numbers))
    return {one["id"]: (one["score"].hex(), found["model"]["position"]) for one in found["predictions"]}


def served(made: Service) -> dict[str, tuple[str, int]]:
    """The same, as they are published for the API."""
    found = [one for one in made.predictions() if FLAG in one["flags"].split(",")]
    return {one["event_id"]: (one["score"].hex(), one["position"]) for one in found}


@pytest.mark.long
def test_a_key_is_replaced_and_what_the_old_one_sealed_is_published_as_long_as_workers_know_it(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with with_keys(tmp_path, kafka, app_id) as made:
        restarted(made, OLD_ONLY)
        made.pairs(range(100))
        made.wait_until_done()
        with ApiProcess(made, record="ack", **OLD_ONLY) as api:
            api.wait_ready()
            answered = told(api, range(5))
            made.wait_until_done()
            assert made.workers[-1].stop() == 0
            answered |= told(api, range(5, 10))  # nobody reads them before the worker that has the new key
            made.workers[-1] = made.start(serve=BOTH)
            made.wait_until_done()
            answered |= told(api, range(10, 15))  # the old key still, beside a worker that seals nothing with it
            made.wait_until_done()
            assert served(made) == answered
            made.write("api", serve=api.settings | BOTH)
            api.process.send_signal(signal.SIGHUP)
            assert until(lambda: "all processes are replaced" in api.log, 60), api.log
            answered |= told(api, range(15, 20))
            made.wait_until_done()
            assert served(made) == answered
            restarted(made, NEW_ONLY)
            answered |= told(api, range(20, 25))
            made.wait_until_done()
            assert served(made) == answered and +ends(made) == {"honoured": 5}
            assert api.stop() == 0
        late = Forger(made, "late", AnswerSeal(app_id, ((OLD * 8).encode(),), assemble(made.config).domain))
        made.raw_visit(late.value, key=late.key, headers=[(HEADER, late.header())])
        made.wait_until_done()
        assert served(made) == answered and made.predictions()[-1]["event_id"] == "late"
        assert +ends(made) == {"honoured": 5, "unknown_key": 1}
        assert made.workers[-1].stop() == 0
        assert made.audited(sample=1_000)["findings"] == []


@pytest.mark.long
def test_an_api_with_the_old_key_starts_beside_workers_that_still_believe_it(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    """Between the restart of the workers and its own it may die, and its configuration is the old one."""
    with with_keys(tmp_path, kafka, app_id) as made:
        restarted(made, BOTH)
        made.pairs(range(20))
        made.wait_until_done()
        with ApiProcess(made, record="ack", **OLD_ONLY) as api:
            assert until(lambda: bool(api.status().get("ready")) or api.process.poll() is not None, 60)
            assert api.process.poll() is None, api.log


@pytest.mark.long
def test_a_key_that_the_workers_do_not_have_is_not_taken_up_by_a_rolling_restart(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with with_keys(tmp_path, kafka, app_id) as made:
        restarted(made, OLD_ONLY)
        made.pairs(range(20))
        made.wait_until_done()
        with ApiProcess(made, record="ack", **OLD_ONLY) as api:
            api.wait_ready()
            (before,) = api.pids
            made.write("api", serve={**api.settings, "record": "ack", **BOTH})
            api.process.send_signal(signal.SIGHUP)
            assert until(lambda: "the old ones stay" in api.log, 60), api.log
            assert "do not have the key" in api.log and api.pids == [before]
            assert api.ask("GET", "/readyz")[0] == 200

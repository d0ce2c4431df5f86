"""A commit of which the worker does not hear how it ended: it finds out, goes on, and nothing is lost or twice."""

from pathlib import Path

import pytest

from tests.support.proxy import Fault, Proxy
from tests.support.service import Service, Worker, service

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120), pytest.mark.long]

WAVE = 300  # events, and as many labels
DELAY = 50
UNKNOWN = "commit of unknown outcome"
NONE_COMMITTED = f"{UNKNOWN}: partitions [] were committed"


def wave(made: Service, number: int) -> None:
    """Events with their labels behind them, all read and committed."""
    for event in range(number * WAVE, (number + 1) * WAVE):
        made.visit(event)
        if event >= DELAY:
            made.truth(event - DELAY, delay_s=DELAY)
    made.wait_until_done()


def harmed(kafka: str, app_id: str, folder: Path, fault: Fault) -> tuple[str, Proxy]:
    """What the worker logged while one of its commits met the fault; the topics are audited."""
    settings = {"delivery": {"batch_max_records": 100}}
    with Proxy(kafka) as proxy, service(folder, kafka, app_id, partitions=2, **settings) as made:
        worker: Worker = made.start(kafka={"bootstrap_servers": proxy.bootstrap_servers})
        wave(made, 0)
        proxy.harm_next_commit(fault)
        wave(made, 1)
        assert proxy.done == [fault]
        wave(made, 2)
        assert worker.stop() == 0, worker.log
        found = made.audited()
        assert not found["findings"], found["findings"][:5]
        assert not found["waiting"] and not found["unread"], found
        assert (found["events"], found["predictions"]) == (3 * WAVE, 3 * WAVE)
        assert found["examples"] == 3 * WAVE - DELAY
        return worker.log, proxy


def test_commit_whose_answer_is_lost_is_found_committed(kafka: str, app_id: str, tmp_path: Path) -> None:
    log, _ = harmed(kafka, app_id, tmp_path, Fault.ANSWER_LOST)
    assert UNKNOWN in log and NONE_COMMITTED not in log


def test_commit_that_never_arrives_is_found_aborted_and_done_again(kafka: str, app_id: str, tmp_path: Path) -> None:
    log, _ = harmed(kafka, app_id, tmp_path, Fault.REQUEST_LOST)
    assert NONE_COMMITTED in log


def test_commit_that_arrives_in_the_next_transaction_is_refused(kafka: str, app_id: str, tmp_path: Path) -> None:
    log, proxy = harmed(kafka, app_id, tmp_path, Fault.REQUEST_LATE)
    assert NONE_COMMITTED in log
    assert proxy.late_errors and 0 not in proxy.late_errors, "the new producer fences the old one's requests"


def test_commit_whose_connection_breaks_is_asked_again_and_certain(kafka: str, app_id: str, tmp_path: Path) -> None:
    log, _ = harmed(kafka, app_id, tmp_path, Fault.CONNECTION_LOST)
    assert UNKNOWN not in log

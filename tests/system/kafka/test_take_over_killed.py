"""Killed at every place of a take-over: the log says who serves, and every prediction is by that one, or flagged."""

import signal
from pathlib import Path

import pytest

from stream_ml.embedded.broker import free_port
from tests.support.service import service
from tests.system.kafka.test_failpoints import MODELS
from tests.system.kafka.test_take_over import change_model, lineages, ready, roles_hold, status

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300), pytest.mark.long]


@pytest.mark.parametrize("place", MODELS)
def test_killed_at_every_place_of_a_take_over_the_new_model_serves_in_the_end(
    kafka: str, app_id: str, tmp_path: Path, place: str
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        worker = made.start()
        made.pairs(range(200))
        made.wait_until_done()
        assert worker.stop() == 0
        (old,) = set(lineages(made))
        change_model(made)
        made.pairs(range(200, 260))
        made.flush()
        worker = made.start(fail=f"{place}:kill")
        assert worker.wait() == -signal.SIGKILL, f"{place} was never passed\n{worker.log}"
        worker = made.start()
        made.pairs(range(260, 320))
        made.wait_for(lambda: status(made)["serves"] not in ("", old), "taking over")
        made.wait_for(lambda: status(made)["answers"] == status(made)["serves"], "obeying")
        made.pairs(range(320, 380))
        made.wait_until_done()
        new = lineages(made)[-1]
        assert new == status(made)["serves"] and new in ready(made)
        assert {flag for _, _, flag in roles_hold(made)} == {""}
        assert worker.stop() == 0, worker.log
        found = made.audited(sample=100)
        assert not found["findings"] and found["predictions"] == found["examples"] == 380, found

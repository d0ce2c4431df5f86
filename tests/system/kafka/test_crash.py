"""kill -9 at any moment, workers that come and go: nothing lost, nothing twice, the same model bit for bit."""

from pathlib import Path

import pytest

from tests.support.service import Service, service

pytestmark = pytest.mark.kafka

EVENTS = 6000
DELAY = 200  # labels come so many events after theirs


def produce(made: Service, first: int, last: int) -> None:
    """Events with their labels behind them; every 33rd label twice."""
    for number in range(first, last):
        made.visit(number)
        if number >= DELAY:
            made.truth(number - DELAY, delay_s=DELAY)
            if number % 33 == 0:
                made.truth(number - DELAY, delay_s=DELAY)


def check(made: Service, events: int) -> None:
    """What must hold in the topics, and between the last checkpoint and a fold from the beginning."""
    found = made.audited()
    assert not found["findings"], found["findings"][:5]
    assert not found["waiting"] and not found["unread"], found
    assert (found["events"], found["predictions"]) == (events, events)
    assert found["examples"] == events - DELAY
    assert found["outcomes"] == {"duplicate": found["feedback"] - found["examples"]}
    assert (found["rescored"]["checked"], found["rescored"]["unchecked"]) == (100, 0)
    header = made.newest_checkpoint()
    again = made.refold(header["position"])
    assert again["equal"] and again["quality_equal"] and not again["dropped"] and not again["halt"], again
    assert again["examples"] == header["examples_learned"] == events - DELAY


def test_killed_in_the_middle_and_started_again_nothing_is_lost_or_twice(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, partitions=2, delivery={"batch_max_records": 50}) as made:
        produce(made, 0, EVENTS)
        made.flush()
        for share in (0.1, 0.3, 0.5):
            worker = made.start(checkpoints={"interval": "1s"})
            made.wait_for(lambda share=share: made.progress()[0] > share * 2 * EVENTS, f"{share} of the work")
            worker.kill()
        worker = made.start(delivery={"batch_max_records": 5000})
        made.wait_until_done()
        assert worker.stop() == 0, worker.log
        check(made, EVENTS)


@pytest.mark.long
def test_workers_join_leave_and_die_under_load_and_nothing_is_lost_or_twice(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, partitions=4, delivery={"batch_max_records": 100}) as made:
        first = made.start("w1")
        produce(made, 0, 2000)
        made.flush()
        made.wait_for(lambda: made.progress()[0] > 500, "the first worker's work")
        second = made.start("w2")
        made.wait_for(lambda: len(second.owned) == 2, "the second worker's share")
        produce(made, 2000, 4000)
        made.flush()
        made.wait_for(lambda: made.progress()[0] > 4500, "the work of both")
        second.kill()
        produce(made, 4000, EVENTS)
        made.wait_until_done()
        assert first.stop() == 0, made.logs()
        check(made, EVENTS)

"""The scoring API in a short storm of its own: what was answered is what is published, whoever dies."""

import sys
from pathlib import Path

import pytest

from tests.system.chaos import serving
from tests.system.chaos.storm import passed, storm

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.timeout(900)]

ROUNDS, SEED = 8, 1  # the API is killed thrice and rolled once, workers at places, the broker dies
KINDS = (*serving.WEIGHTS, "kill", "kill-at", "broker-dies", "bytes-flip", "promote", "declare")


def test_a_storm_publishes_exactly_what_the_api_answered_and_answers_every_request_in_the_end(tmp_path: Path) -> None:
    result = storm(
        ROUNDS, SEED, tmp_path, lambda line: print(line, file=sys.stderr), KINDS, serve=True, recovery_max_s=180
    )
    assert passed(result, ROUNDS), result
    assert result["published_as_served"] == result["recorded"] - result["published_as_scored"] > 300, result
    assert result["answered"] > 300 and result["asked_again"] > 0, result
    assert result["rescored"] == result["predictions"], "all are derived again from the log"

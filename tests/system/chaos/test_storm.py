"""The bounded part of the storm that every change has to pass; the long one is ``make chaos``."""

import sys
from pathlib import Path

import pytest

from tests.system.chaos.storm import passed, storm

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

ROUNDS, SEED = 6, 26  # a worker joins, one dies, one is a zombie, a checkpoint is damaged, the broker restarts


def test_a_storm_leaves_nothing_lost_nothing_twice_and_every_model_the_same(tmp_path: Path) -> None:
    result = storm(ROUNDS, SEED, tmp_path, lambda line: print(line, file=sys.stderr))
    assert passed(result, ROUNDS), result
    assert result["rescored"] == 100 and result["predictions"] > 1_000 and result["examples"] > 1_000

"""The bounded part of the storm that every change has to pass; the long one is ``make chaos``."""

import sys
from pathlib import Path

import pytest

from tests.support.service import brothers
from tests.system.chaos.storm import passed, storm

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

STORMS = (  # rounds and seed: a worker is killed at a place, the broker dies, a checkpoint is damaged, a worker leaves
    (4, 97),
    (6, 26),  # the broker dies twice, a model is to be promoted
)


@pytest.mark.parametrize(("rounds", "seed"), brothers(*STORMS))
def test_a_storm_leaves_nothing_lost_nothing_twice_and_every_model_the_same(
    tmp_path: Path, rounds: int, seed: int
) -> None:
    result = storm(rounds, seed, tmp_path, lambda line: print(line, file=sys.stderr))
    assert passed(result, rounds), result
    assert result["rescored"] == 100 and result["predictions"] > 1_000 and result["examples"] > 1_000

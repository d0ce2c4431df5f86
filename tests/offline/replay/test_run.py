"""What a model says as numbers: many at once as one by one."""

import numpy as np
import pytest

from stream_ml.core.model.estimator import COLD, Scored
from stream_ml.offline.replay.run import Reckoner
from tests.support.partition import parts

SCORES = [Scored("true", 0.75, None, None), Scored("false", 0.1234567, None, None), Scored("false", 0.0, None, None)]


@pytest.mark.parametrize(
    ("task", "scored", "ys"),
    [
        ("binary", SCORES, [1.0, 0.0, 1.0]),
        ("binary", [*SCORES, COLD], [1.0, 0.0, 1.0, 0.0]),
        ("binary", SCORES, [1.0, None, 0.0]),
        ("binary", [Scored("true", None, None, None)], [0.0]),
        ("regression", [Scored(None, None, None, 2.5), COLD], [1.0, 2.0]),
    ],
)
def test_many_are_equal_to_one_by_one(task: str, scored: list[Scored], ys: list[float | None]) -> None:
    reckoner = Reckoner(parts(task).domain)
    one_by_one = np.array([reckoner.numbers(one, y) for one, y in zip(scored, ys, strict=True)])
    np.testing.assert_array_equal(reckoner.numbers_of(scored, ys), one_by_one)

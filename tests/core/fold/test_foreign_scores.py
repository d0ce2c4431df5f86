"""Scores that somebody else published reach the log in a correct entry: they count for nothing, and stop nothing."""

import pytest

from stream_ml.records import NOT_SERVED
from tests.core.fold.test_foreign_entries import XS, both_ways
from tests.support.partition import example

STRANGE = ["nope", '{"true":1' + "0" * 400 + "}", '{"true":NaN}', '{"true":"x"}', "[" * 5_000, '{"true":2.0}', "{}"]


@pytest.mark.parametrize("scores", STRANGE, ids=lambda text: text[:12])
def test_strange_scores_are_left_out_of_quality_and_learning_goes_on(scores: str) -> None:
    served = NOT_SERVED._replace(class_name="true", score=0.5, scores=scores, lineage="l", position=0)
    values = [example(n, x, x > 0, served=served if n in (3, 70) else NOT_SERVED) for n, x in enumerate(XS)]
    replica = both_ways(*values)
    assert (replica.halt, replica.only.examples_learned) == (None, len(XS))

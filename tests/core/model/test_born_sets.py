"""A model that comes back from a checkpoint goes through its sets in the order of one that was never away."""

import os
import pickle
import subprocess
import sys
from itertools import combinations
from typing import Any

import pytest
from river import linear_model

from stream_ml.core.fold.replica import Replica
from stream_ml.core.model.born_sets import keep_born_sets
from tests.support.partition import fold_settings

SHUFFLED = next(  # a set whose copy from a pickle has another order; numbers, for their hashes are the same everywhere
    list(numbers)
    for numbers in combinations(range(7, 80, 8), 3)
    if list(pickle.loads(pickle.dumps(set(numbers)))) != list(set(numbers))
)


class Part:
    """Something with a set, as River's selectors have it."""

    def __init__(self, *numbers: int) -> None:
        self.keys = set(numbers)
        self.learned: set[int] = set()


def model() -> Any:
    """Sets in attributes, lists, dicts and tuples."""
    return {"parts": [Part(*SHUFFLED), (Part(*SHUFFLED), frozenset(SHUFFLED))], "sets": [set(SHUFFLED)]}


def orders(made: Any) -> list[list[int]]:
    """The orders of its three sets that belong to something that can be changed."""
    first, (second, _) = made["parts"]
    return [list(first.keys), list(second.keys), list(made["sets"][0])]


def test_sets_that_a_model_was_born_with_keep_their_order_through_a_pickle() -> None:
    copied = pickle.loads(pickle.dumps(model()))
    assert orders(copied) != orders(model())
    assert orders(keep_born_sets(copied, model())) == orders(model())


def test_what_was_learned_into_a_set_stays() -> None:
    learned = model()
    learned["parts"][0].learned.add(7)
    learned["sets"][0].add(1)
    copied = keep_born_sets(pickle.loads(pickle.dumps(learned)), model())
    assert (copied["parts"][0].learned, copied["sets"][0]) == ({7}, {*SHUFFLED, 1})


def test_a_part_that_holds_itself_or_that_became_another_is_left_alone() -> None:
    found, born = model(), model()
    found["self"], born["self"] = found, born
    found["parts"][0] = "something else"
    assert keep_born_sets(found, born)["parts"][0] == "something else"


def born() -> Any:
    """A model that River makes, with a set of its own."""
    made = linear_model.LogisticRegression()
    made.born = set(SHUFFLED)
    return made


def test_a_replica_from_a_checkpoint_has_the_sets_of_a_new_model() -> None:
    settings = fold_settings()._replace(build=born)
    again = Replica(settings)
    again.restore(pickle.loads(pickle.dumps(Replica(settings).state())))
    assert list(again.only.model.learner.estimator.born) == list(born().born)


CHECK = """
import sys
from pathlib import Path
from stream_ml import formats
from stream_ml.app.assemble import assemble
from stream_ml.app.trial import checked
from stream_ml.config import load_config
from stream_ml.demo.run import _CONFIG
file = Path(sys.argv[1])
of = {"servers": "127.0.0.1:1", "schemas": formats.FOLDER, "port": 1}
file.write_text(_CONFIG.format(**of, api_port=8000, factory="stream_ml.demo.model:build"))
checked(assemble(load_config(file)))
"""


@pytest.mark.parametrize("seed", ["0", "8", "9", "10"])  # with which keys of its selectors collide
def test_the_demos_model_is_no_other_after_a_checkpoint_whatever_the_hash_seed(seed: str, tmp_path: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(tmp_path / "stream_ml.yaml")],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]

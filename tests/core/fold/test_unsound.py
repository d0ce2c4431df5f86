"""A model that is corrupted and not yet found to be: what it says is published flagged, and counts for nothing."""

import math
from collections import deque
from typing import Any

import numpy as np
import pytest
from river import linear_model

from stream_ml.app.parts import Parts
from stream_ml.audit.coordinates import Findings
from stream_ml.audit.rescore import _Rescorer
from stream_ml.core.evaluation.progressive import Quality
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.health import CHECK_EVERY
from stream_ml.core.fold.replica import Replica
from stream_ml.core.partition.predictions import Published
from stream_ml.follower.recipes import Recipe
from stream_ml.records import Served, Target
from tests.core.fold.test_fold import SPOILS, Driver, brittle, examples, facts
from tests.support.partition import (
    EVENTS,
    LINEAGE,
    ROOMY,
    T0,
    World,
    event_record,
    example,
    fold_settings,
    log_of,
    partition_settings,
    parts,
)

XS = [float(number % 5 - 2) for number in range(70)]
SPOILT_AT = 70  # found by the fold at the next multiple of CHECK_EVERY


class Half(linear_model.LogisticRegression):
    """SPOILS turns its answers for x above zero into NaN; for others it goes on with finite ones."""

    asked = 0
    corrupted = False

    def learn_one(self, x: dict[str, Any], y: bool, w: float = 1.0) -> None:
        super().learn_one(x, y, w)
        self.corrupted = self.corrupted or x["x"] == SPOILS

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        Half.asked += 1
        nan = self.corrupted and x["x"] > 0
        return {True: math.nan, False: math.nan} if nan else super().predict_proba_one(x)

    def predict_proba_many(self, table: Any) -> Any:
        found = super().predict_proba_many(table)
        if not self.corrupted:
            return found
        corrupted = np.asarray(table.column("x")) > 0
        columns = {str(name): np.where(corrupted, math.nan, np.asarray(found[name])) for name in found.columns}
        return type(found)(columns) if not hasattr(found, "from_pydict") else found.from_pydict(columns)


def half() -> FoldSettings:
    return fold_settings()._replace(build=Half)


def corrupted_log(after: int) -> list[bytes]:
    """70 good examples, the one that spoils the model, and so many more."""
    return examples(*XS, SPOILS, *[1.0] * after)


def world(count: int, using: FoldSettings, log: list[bytes], x: float = -1.0) -> World:
    """Events that a replica which has folded this log is about to score."""
    made = World(ROOMY, partition_settings(), [event_record(n, f"e{n}", T0 + n, x) for n in range(count)], [])
    made.replica = Replica(using)
    made.replica.fold(log_of(log))
    assert made.replica.halt is None
    return made


def flags(made: World, count: int) -> set[tuple[str, ...]]:
    """Flags of what the next turn publishes."""
    before = len(made.predicted())
    made.turn(count, 0)
    return set(list(made.predicted().values())[before:])


@pytest.mark.parametrize("count", [1, 3, 200])
@pytest.mark.parametrize("after", [0, 5, CHECK_EVERY - 8])
@pytest.mark.parametrize("x", [-1.0, 1.0])
@pytest.mark.parametrize("using", [half, brittle])
def test_what_a_corrupted_model_says_is_flagged_unsound(using: Any, x: float, after: int, count: int) -> None:
    assert flags(world(count, using(), examples(*XS)), count) == {()}
    found = flags(world(count, using(), corrupted_log(after), x), count)
    assert found and all("unsound" in of for of in found), found


def test_flagged_is_what_is_said_between_the_spoiling_and_the_halt_and_nothing_else() -> None:
    made = world(400, half(), [])
    log = log_of(corrupted_log(100))
    said = {}
    for number, record in enumerate(log[:127]):
        made.replica.fold([record])
        said[number + 1] = flags(made, 2)
    assert [position for position, of in said.items() if of == {("unsound",)}] == list(range(SPOILT_AT + 1, 128))
    driver = Driver(log, half)
    made.replica = driver.run(1)
    assert flags(made, 2) == {("learning_halted",)}
    assert made.replica.position == SPOILT_AT


def test_a_batch_is_probed_once_and_not_again_before_something_is_learned() -> None:
    made = world(40, half(), examples(*XS))
    probes = len(made.replica.only.health.probes)
    asked = []
    for learns in (False, False, True, False):
        if learns:
            made.replica.fold(log_of(examples(1.0, first=70), 70))
        Half.asked = 0
        made.turn(4, 0)
        asked.append(Half.asked - 4)
    assert asked == [probes, 0, probes, 0]


# --- what follows from the flag ---


def said(score: float, *names: str) -> Served:
    return Served("true" if score >= 0.5 else "false", score, None, None, LINEAGE, 5, names)


@pytest.mark.parametrize("flag", ["unsound", "cold"])
def test_a_score_with_this_flag_counts_for_no_quality(flag: str) -> None:
    quality = Quality(parts().domain)
    assert quality.update(Target("true", None), said(0.9, flag), T0, T0) is None
    assert quality.update(Target("true", None), said(0.9, "stale", flag, "imputed"), T0, T0) is None
    assert (quality.count, quality.left_out, quality.report()) == (0, 2, {})
    assert quality.update(Target("true", None), said(0.9, "stale"), T0, T0) is not None


@pytest.mark.parametrize("flag", ["unsound", "cold"])
def test_a_run_leaves_out_the_same_scores_as_singles(flag: str) -> None:
    log = [
        example(n, 1.0, n % 3 == 0, served=said(n % 10 / 10, *(("stale", flag) if n % 4 == 0 else ())))
        for n in range(400)
    ]
    at_once, singly = (Driver(log_of(log), fold_settings).run(chunk) for chunk in (1_000, 1))
    assert facts(at_once) == facts(singly)
    assert (at_once.watch.quality.count, at_once.watch.quality.left_out) == (300, 100)
    assert at_once.watch.concept.losses.mean() == singly.watch.concept.losses.mean()


@pytest.mark.parametrize("count", [1, 200])
def test_the_flag_is_read_back_from_the_prediction(count: int) -> None:
    assert flags(world(count, half(), corrupted_log(3)), count) == {("unsound",)}


def test_the_audit_does_not_derive_an_unsound_score_again() -> None:
    app: Parts = parts()
    found = Findings()
    rescorer = _Rescorer(Recipe(LINEAGE, {}, fold_settings(), app), fold_settings(), found, None)
    rescorer.replica.fold(log_of(examples(*XS)))
    record = event_record(0, "e0", T0)
    published = Published(EVENTS, 0, 0, "e0", T0, said(0.4, "unsound")._replace(position=75))
    rescorer.score(deque([(published, record)]), 80)
    assert (found.kept, rescorer.checked) == ([], 0)

"""Many events at once are scored as one by one, to 1e-12, whatever the model; where that fails the model says so."""

import math
from typing import Any

import pyarrow as pa
import pytest
from river import linear_model, naive_bayes, preprocessing

from stream_ml.core.avro.schema import load_schema
from stream_ml.core.avro.texts import scores_texts
from stream_ml.core.inputs.events import Events, Features, Taken
from stream_ml.core.model.estimator import COLD, Learner, Scored
from stream_ml.core.model.scoring import ROWS_MIN, Scorer, same
from stream_ml.core.partition.predictions import PredictionCodec, Said, prediction_schema, served_of
from stream_ml.records import Clock, Record, Records, Version
from tests.support.catalogue import CATALOGUE, Given, examples
from tests.support.partition import EVENT, NOW_MS, T0, event_record

COUNT = ROWS_MIN + 40
SCALED = Given(lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(), "binary")


def taught(given: Given, count: int = 60) -> Learner:
    """A learner that has seen some examples."""
    learner = Learner(given.build(), given.domain)
    for features, target in examples(given.task, 0, count):
        learner.learn(features, target)
    return learner


def batch_of(rows: list[dict[str, Any]]) -> Features:
    """Features of a batch, as columns."""
    return Features(pa.Table.from_pylist(rows), range(len(rows)), {})


def asked(task: str) -> list[dict[str, Any]]:
    """Features that the model has not seen."""
    return [features for features, _ in examples(task, 60, 60 + COUNT)]


@pytest.mark.parametrize("name", CATALOGUE)
def test_many_are_scored_as_one_by_one(name: str) -> None:
    given = CATALOGUE[name]
    learner, rows = taught(given), asked(given.task)
    scorer = Scorer(learner)
    found = scorer.score_many(batch_of(rows), COUNT)
    for row, features in enumerate(rows):
        one, many = learner.score_one(features), found.of(row)
        assert same(one, many)
        assert one.class_name == many.class_name
    assert not scorer.fallback_reason or "raised" in scorer.fallback_reason or "it has no" in scorer.fallback_reason


@pytest.mark.parametrize("name", ["scaled logistic", "linear", "one vs rest"])
def test_a_model_with_a_many_is_asked_for_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = CATALOGUE[name]
    learner = taught(given)
    asked_singly: list[Any] = []
    score = learner.score_one
    monkeypatch.setattr(learner, "score_one", lambda features: asked_singly.append(features) or score(features))
    Scorer(learner).score_many(batch_of(asked(given.task)), COUNT)
    assert len(asked_singly) == 1, "one row to compare"


def test_an_untrained_model_says_of_many_what_it_says_of_one() -> None:
    learner = taught(SCALED, 0)
    found = Scorer(learner).score_many(batch_of(asked("binary")), COUNT)
    assert found.of(7) == learner.score_one(asked("binary")[7])
    blank = Learner(naive_bayes.GaussianNB(), SCALED.domain)
    assert Scorer(blank).score_many(batch_of(asked("binary")), COUNT).of(7) == COLD


class Lies(linear_model.LogisticRegression):
    """Its many is not its one."""

    def predict_proba_many(self, X: Any) -> Any:
        return pa.table({"False": [0.4] * X.num_rows, "True": [0.6] * X.num_rows})


class Raises(linear_model.LogisticRegression):
    """It has a many that fails."""

    def predict_proba_many(self, X: Any) -> Any:
        raise RuntimeError("no such column")


@pytest.mark.parametrize(("build", "why"), [(Lies, "differ"), (Raises, "RuntimeError: no such column")])
def test_a_many_that_lies_or_raises_is_not_asked_again_and_costs_no_prediction(build: Any, why: str) -> None:
    given = Given(build, "binary")
    learner = taught(given)
    scorer, rows = Scorer(learner), asked("binary")
    for _ in range(2):
        found = scorer.score_many(batch_of(rows), COUNT)
        assert [found.of(row) for row in range(COUNT)] == [learner.score_one(features) for features in rows]
    assert why in scorer.fallback_reason


class NotFinite(linear_model.LogisticRegression):
    """Not a number for large a, from either."""

    def predict_proba_one(self, x: Any) -> Any:
        return {False: math.nan, True: math.nan} if x["a"] > 3 else super().predict_proba_one(x)

    def predict_proba_many(self, X: Any) -> Any:
        found = super().predict_proba_many(X).to_pydict()
        large = [a > 3 for a in X["a"].to_pylist()]
        return pa.table({k: [math.nan if is_ else v for v, is_ in zip(of, large)] for k, of in found.items()})  # noqa: B905


def test_what_is_not_finite_is_cold_in_a_column_too() -> None:
    learner = taught(Given(NotFinite, "binary"))
    scorer, rows = Scorer(learner), asked("binary")
    found = scorer.score_many(batch_of(rows), COUNT)
    assert all(same(found.of(row), learner.score_one(features)) for row, features in enumerate(rows))
    assert not scorer.fallback_reason
    assert [found.of(row) == COLD for row in range(COUNT)] == [features["a"] > 3 for features in rows]


def test_rows_of_no_column_and_rows_at_which_the_model_raises_keep_their_places() -> None:
    learner, rows = taught(SCALED), asked("binary")
    others = {1: rows[1], 3: {"a": "text", "b": 1.0, "c": 1.0}}
    columns = [row for row in range(COUNT) if row not in others]
    features = Features(pa.Table.from_pylist([rows[row] for row in columns]), columns, others)
    found = Scorer(learner).score_many(features, COUNT)
    assert list(found.failed) == [3]
    assert (found.class_names[3], found.scores[3]) == (None, None)
    assert all(same(found.of(row), learner.score_one(rows[row])) for row in range(COUNT) if row != 3)


# --- predictions as bytes ---

CARRYING = {**EVENT, "fields": [*EVENT["fields"], {"name": "note", "type": ["null", "string"]}]}
SCORED = {
    "binary": [Scored("true", 0.75, None, None), Scored("false", 0.1, None, None), COLD],
    "multiclass": [Scored("b", 0.5, {"a": 0.25, "b": 0.5, "c": 0.25}, None), COLD],
    "regression": [Scored(None, None, None, -1.5), COLD],
}


@pytest.mark.parametrize("carry", [[], ["x", "note"]])
@pytest.mark.parametrize("task", SCORED)
def test_predictions_are_the_same_bytes_from_either_lane(task: str, carry: list[str]) -> None:
    codec = PredictionCodec("p", "single-object", None, prediction_schema(load_schema_of(CARRYING), carry))
    count = 30
    records = Records.of("visits", 0, [event_record(n, f"é{n}", T0 + n, n / 7) for n in range(count)])
    carried = [{"x": n / 7, "note": None if n % 2 else f"n{n}"} for n in range(count)] if carry else None
    ids, times = [f"é{n}" for n in range(count)], [T0 + n for n in range(count)]
    events = Events(records, [Taken(range(count), ids, times, 5, pa.table({"x": [0.0] * count}), set(), carried)], {})
    said = [SCORED[task][n % len(SCORED[task])] for n in range(count)]
    scores = scores_of(said)
    flags = [(("cold",), (), ("stale", "imputed"))[n % 3] for n in range(count)]
    rows = [n for n in range(count) if n % 5]
    chosen = [flags[n] for n in rows]
    many = codec.encode_many(events, rows, scores, chosen, Said(Version("lineage", 12), 34, Clock(NOW_MS, 0), 7))
    assert codec._columns is not None
    for value, row in zip(many, rows, strict=True):
        published = codec.decode(value)
        assert (published.offset, published.event_id, published.event_time_ms) == (row, f"é{row}", T0 + row)
        assert published.served == served_of(said[row], Version("lineage", 12), flags[row])._replace(epoch=7)
    codec._columns = None
    assert many == codec.encode_many(
        events, rows, scores, chosen, Said(Version("lineage", 12), 34, Clock(NOW_MS, 0), 7)
    )


def scores_of(said: list[Scored]) -> Any:
    """Columns of scores."""
    from stream_ml.core.model.scoring import Scores

    names, scores, maps, values = (list(column) for column in zip(*said, strict=True))
    texts = scores_texts(maps)
    return Scores(names, scores, texts if any(texts) else None, values if any(values) else None, {})


def load_schema_of(raw: Any) -> Any:
    """A schema from Python values."""
    import json

    return load_schema(json.dumps(raw), where="visit.avsc")


def test_a_prediction_of_a_record_is_where_its_event_is() -> None:
    record = Record("visits", 4, 9, NOW_MS, b"k", b"v")
    assert Records.of("visits", 4, [record]).record(0) == record

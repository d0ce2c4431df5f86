"""Models: the contract that they must pass, how they are asked, their lineage, and where they come from."""

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from river import base, compose, drift, forest, linear_model, preprocessing, tree

from stream_ml.app.assemble import assemble
from stream_ml.app.factory import load_factory
from stream_ml.app.parts import Parts
from stream_ml.app.trial import checked
from stream_ml.config import Config, load_config
from stream_ml.core.model.checks import check_model, unseeded
from stream_ml.core.model.estimator import COLD, Learner, Scored, bits
from stream_ml.core.model.lineage import Covered, describe, digest_of, lineage_of
from stream_ml.errors import ConfigError
from tests.support.catalogue import CATALOGUE, KINDS, answers, taught
from tests.support.inputs import domain_of, run_python

BINARY = domain_of("binary")
MULTICLASS = domain_of("multiclass", labels=["a", "b", "c"])
REGRESSION = domain_of("regression")


# --- the contract ---


@pytest.mark.parametrize("name", CATALOGUE)
def test_model_of_the_catalogue_passes(name: str) -> None:
    given = CATALOGUE[name]
    assert check_model(given.build, KINDS, given.domain) == []


def test_model_of_the_demo_passes_on_text_and_booleans() -> None:
    kinds = {"carrier": "text", "distance": "number", "delayed": "boolean"}
    assert check_model(CATALOGUE["union"].build, kinds, BINARY) == []


class Peeking(base.Classifier):
    """Counts how often it was asked: it learns while it predicts."""

    def __init__(self) -> None:
        self.asked = 0

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        """Learn nothing."""

    def predict_proba_one(self, x: dict[str, Any]) -> dict[Any, float]:
        """Say how often it was asked."""
        self.asked += 1
        return {True: 1 / (1 + self.asked), False: self.asked / (1 + self.asked)}


class Raising(base.Classifier):
    """Raises when it is asked before it has learned."""

    def __init__(self, error: type[Exception] = ValueError) -> None:
        self.error = error

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        """Learn nothing."""

    def predict_proba_one(self, x: dict[str, Any]) -> dict[Any, float]:
        """Raise."""
        raise self.error("not fitted yet")


class Saying(base.Classifier):
    """Says what it was told to say."""

    def __init__(self, said: dict[Any, float]) -> None:
        self.said = said

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        """Learn nothing."""

    def predict_proba_one(self, x: dict[str, Any]) -> dict[Any, float]:
        """Repeat it."""
        return dict(self.said)


class SayingValue(base.Regressor):
    """Says the value that it was told to say."""

    def __init__(self, said: float | None) -> None:
        self.said = said

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        """Learn nothing."""

    def predict_one(self, x: dict[str, Any]) -> Any:
        """Repeat it."""
        return self.said


class SayingClass(base.Classifier):
    """Knows classes, no probabilities."""

    def __init__(self, said: Any) -> None:
        self.said = said

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        """Learn nothing."""

    def predict_one(self, x: dict[str, Any], **kwargs: Any) -> Any:
        """Repeat it."""
        return self.said


SHARED = linear_model.LogisticRegression()


def _raise() -> Any:
    raise RuntimeError("no weights at hand")


@pytest.mark.parametrize(
    ("build", "domain", "words"),
    [
        (forest.ARFClassifier, BINARY, "ARFClassifier.seed has no seed"),
        (
            lambda: preprocessing.StandardScaler() | forest.ARFClassifier(),
            BINARY,
            "Pipeline.steps.ARFClassifier.seed has no seed",
        ),
        (
            lambda: compose.FuncTransformer(lambda x: x) | linear_model.LogisticRegression(),
            BINARY,
            "cannot be pickled",
        ),
        (Peeking, BINARY, "predicting changes it"),
        (lambda: SHARED, BINARY, "one object that all replicas would share"),
        (object, BINARY, "object is not a River estimator"),
        (linear_model.LogisticRegression, REGRESSION, "is a classifier, and model.task is regression"),
        (linear_model.LinearRegression, BINARY, "is a regressor, and model.task is binary"),
        (linear_model.LogisticRegression, MULTICLASS, "knows two classes only"),
        (preprocessing.StandardScaler, BINARY, "is not a River estimator"),
        (_raise, BINARY, "cannot be built: RuntimeError: no weights at hand"),
        (Raising, BINARY, "it fails on features"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_model_that_breaks_the_contract_is_refused_in_words(build: Callable[[], Any], domain: Any, words: str) -> None:
    assert words in "\n".join(check_model(build, KINDS, domain))


@pytest.mark.parametrize("error", [AssertionError, OSError, StopIteration, type("OwnError", (Exception,), {})])
def test_model_that_raises_anything_is_refused_in_words(error: type[Exception]) -> None:
    assert "it fails on features" in "\n".join(check_model(lambda: Raising(error), KINDS, BINARY))


def test_all_unseeded_parts_are_named() -> None:
    model = preprocessing.StandardScaler() | tree.HoeffdingAdaptiveTreeClassifier()
    assert unseeded(model) == ["Pipeline.steps.HoeffdingAdaptiveTreeClassifier.seed"]
    assert unseeded(CATALOGUE["forest"].build()) == []


def test_check_leaves_no_trace_in_what_is_built() -> None:
    given = CATALOGUE["forest"]
    before = answers(taught("forest"), given.task)
    check_model(given.build, KINDS, given.domain)
    assert answers(taught("forest"), given.task) == before


# --- the learner ---


@pytest.mark.parametrize("name", ["tree", "adaptive tree", "forest", "naive bayes", "bagging", "softmax"])
def test_cold_model_says_nothing(name: str) -> None:
    given = CATALOGUE[name]
    assert Learner(given.build(), given.domain).score_one({"a": 1.0, "b": 2.0, "c": 3.0}) == COLD


@pytest.mark.parametrize("said", [None, math.nan, math.inf])
def test_regression_without_a_finite_value_is_cold(said: float | None) -> None:
    assert Learner(SayingValue(said), REGRESSION).score_one({}).cold


def test_regression_gives_a_float() -> None:
    found = Learner(SayingValue(3), REGRESSION).score_one({})
    assert found == Scored(None, None, None, 3.0)
    assert type(found.value) is float


@pytest.mark.parametrize(
    ("said", "class_name", "score"),
    [
        ({True: 0.75, False: 0.25}, "true", 0.75),
        ({True: 0.5, False: 0.5}, "true", 0.5),
        ({True: 0.49, False: 0.51}, "false", 0.49),
        ({False: 1.0}, "false", 0.0),
        ({True: 1.0}, "true", 1.0),
    ],
)
def test_binary_score_is_the_probability_of_the_positive_label(
    said: dict[Any, float], class_name: str, score: float
) -> None:
    assert Learner(Saying(said), BINARY).score_one({}) == Scored(class_name, score, None, None)


def test_threshold_decides_the_class_and_leaves_the_score() -> None:
    for threshold, class_name in ((0.75, "true"), (0.76, "false"), (0.0, "true")):
        domain = domain_of("binary", threshold=threshold)
        assert Learner(Saying({True: 0.75}), domain).score_one({}) == Scored(class_name, 0.75, None, None)


def test_positive_label_false_is_what_the_score_is_about() -> None:
    domain = domain_of("binary", positive=False)
    assert Learner(Saying({True: 0.9, False: 0.1}), domain).score_one({}).class_name == "false"


@pytest.mark.parametrize("said", [{}, {True: math.nan}, {True: math.inf, False: 0.0}])
@pytest.mark.parametrize("domain", [BINARY, MULTICLASS])
def test_probabilities_that_are_not_finite_are_cold(said: dict[Any, float], domain: Any) -> None:
    assert Learner(Saying(said), domain).score_one({}) == COLD


@pytest.mark.parametrize("order", [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]])
def test_multiclass_tie_goes_to_the_first_name(order: list[str]) -> None:
    found = Learner(Saying(dict.fromkeys(order, 0.25)), MULTICLASS).score_one({})
    assert (found.class_name, found.score) == ("a", 0.25)
    assert list(found.scores or {}) == ["a", "b", "c"]


def test_multiclass_score_is_of_the_class() -> None:
    found = Learner(Saying({"a": 0.2, "c": 0.7, "b": 0.1}), MULTICLASS).score_one({})
    assert found == Scored("c", 0.7, {"a": 0.2, "b": 0.1, "c": 0.7}, None)


def test_classifier_without_probabilities_gives_its_class_alone() -> None:
    assert Learner(SayingClass(True), BINARY).score_one({}) == Scored("true", None, None, None)
    assert Learner(SayingClass(False), BINARY).score_one({}) == Scored("false", None, None, None)
    assert Learner(SayingClass(None), BINARY).score_one({}) == COLD
    assert Learner(SayingClass("b"), MULTICLASS).score_one({}) == Scored("b", None, None, None)


def test_learned_binary_target_is_a_bool_of_the_positive_label() -> None:
    learner = taught("scaled logistic")
    found = learner.score_one({"a": 4.0, "b": 4.0, "c": 0.0})
    assert found.class_name == "true"
    assert found.score is not None
    assert found.score > 0.7


def test_sound_tells_a_model_that_is_spoilt() -> None:
    assert Learner(Saying({True: 0.5}), BINARY).sound([{}])
    assert Learner(Saying({}), BINARY).sound([{}])
    assert Learner(SayingClass(True), BINARY).sound([{}])
    assert Learner(SayingValue(None), REGRESSION).sound([{}])
    assert not Learner(Saying({True: math.nan}), BINARY).sound([{}])
    assert not Learner(SayingValue(math.inf), REGRESSION).sound([{}])


def test_bits_tell_neighbouring_floats_apart() -> None:
    one, next_ = Scored("a", 0.1, None, None), Scored("a", math.nextafter(0.1, 1), None, None)
    assert bits(one) != bits(next_)
    assert bits(one) == bits(Scored("a", 0.1, None, None))
    assert bits(Scored(None, None, None, 0.0)) != bits(Scored(None, None, None, -0.0))


# --- the lineage ---


def _lineage(build: Callable[[], Any], **settings: Any) -> str:
    return lineage_of("topic", Covered("m:build", {}, settings, build(), {}))


@pytest.mark.parametrize("name", CATALOGUE)
def test_two_builds_have_one_lineage(name: str) -> None:
    assert _lineage(CATALOGUE[name].build) == _lineage(CATALOGUE[name].build)


def test_models_of_the_catalogue_have_different_lineages() -> None:
    assert len({_lineage(given.build) for given in CATALOGUE.values()}) == len(CATALOGUE)


def test_lineage_is_the_same_in_a_process_with_another_hash_seed() -> None:
    code = """
from tests.support.catalogue import CATALOGUE
from stream_ml.core.model.lineage import Covered, lineage_of
print(*(lineage_of("topic", Covered("m:build", {}, {}, g.build(), {})) for g in CATALOGUE.values()))
"""
    here = [_lineage(given.build) for given in CATALOGUE.values()]
    ended = run_python(code, hash_seed=4_242)
    assert ended.stdout.split() == here, ended.stderr


def test_set_of_texts_is_described_in_one_order() -> None:
    words = {"alpha", "beta", "gamma", "delta", "epsilon"}
    code = f"from stream_ml.core.model.lineage import describe; print(describe(set({sorted(words)!r})))"
    assert {run_python(code, hash_seed=seed).stdout.strip() for seed in (1, 2)} == {str(describe(words))}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: linear_model.LogisticRegression(l2=0.1), lambda: linear_model.LogisticRegression(l2=0.2)),
        (lambda: forest.ARFClassifier(seed=1), lambda: forest.ARFClassifier(seed=2)),
        (lambda: forest.ARFClassifier(n_models=3, seed=1), lambda: forest.ARFClassifier(n_models=4, seed=1)),
        (
            lambda: compose.Select("a") | linear_model.LinearRegression(),
            lambda: compose.Select("b") | linear_model.LinearRegression(),
        ),
        (
            lambda: preprocessing.StandardScaler() | linear_model.LinearRegression(),
            lambda: preprocessing.MinMaxScaler() | linear_model.LinearRegression(),
        ),
        (
            lambda: forest.ARFClassifier(seed=1, drift_detector=drift.ADWIN(0.5)),
            lambda: forest.ARFClassifier(seed=1),
        ),
        (
            lambda: compose.FuncTransformer(functools.partial(_scaled, by=2)) | linear_model.LinearRegression(),
            lambda: compose.FuncTransformer(functools.partial(_scaled, by=3)) | linear_model.LinearRegression(),
        ),
    ],
    ids=["parameter", "seed", "size", "selected field", "step", "nested part", "argument of a partial"],
)
def test_parameter_changes_the_lineage(one: Callable[[], Any], other: Callable[[], Any]) -> None:
    assert _lineage(one) != _lineage(other)


def _scaled(x: dict[str, Any], by: int) -> dict[str, Any]:
    return {name: value * by for name, value in x.items()}


class Slotted:
    """A part that keeps its parameter in a slot."""

    __slots__ = ("rate",)

    def __init__(self, rate: float) -> None:
        self.rate = rate


def test_part_with_slots_has_one_description() -> None:
    first, second = Slotted(0.5), Slotted(0.5)
    assert describe(first) == describe(second)
    assert describe(first) != describe(Slotted(0.25))


def test_another_log_is_another_lineage() -> None:
    model = CATALOGUE["tree"].build
    assert lineage_of("one", Covered("m:build", {}, {}, model(), {})) != lineage_of(
        "two", Covered("m:build", {}, {}, model(), {})
    )


# --- from the configuration ---

FILE = """
app: {{id: app}}
kafka: {{bootstrap_servers: "localhost:9092"}}
events: {{topic: events, schema: event.avsc, id: key}}
feedback: {{topic: feedback, schema: label.avsc, id: key, label: late, ttl: 2d}}
predictions: {{topic: predictions}}
features: {features}
model: {{factory: "{factory}", task: binary, {model}}}
"""


def _config(folder: Path, factory: str, model: str = "", features: str = "{}", event: str = "double") -> Config:
    fields = [{"name": "x", "type": event}, {"name": "y", "type": ["null", "double"]}]
    label = [{"name": "late", "type": "boolean"}]
    (folder / "event.avsc").write_text(json.dumps({"type": "record", "name": "E", "fields": fields}), "utf-8")
    (folder / "label.avsc").write_text(json.dumps({"type": "record", "name": "L", "fields": label}), "utf-8")
    (folder / "stream_ml.yaml").write_text(FILE.format(factory=factory, model=model, features=features), "utf-8")
    return load_config(folder / "stream_ml.yaml")


def _parts(folder: Path, factory: str, **changes: str) -> Parts:
    return assemble(_config(folder, factory, **changes))


LOGISTIC = "river.linear_model:LogisticRegression"


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "seed: 8"},
        {"model": "threshold: 0.25"},
        {"model": "positive: false"},
        {"model": "params: {l2: 0.5}"},
        {"features": "{include: [x]}"},
        {"features": "{missing: {default: drop}}"},
        {"features": "{missing: {y: {impute: 1.0}}}"},
        {"event": "float"},
    ],
    ids=str,
)
def test_setting_of_the_fold_changes_the_lineage(tmp_path: Path, changes: dict[str, str]) -> None:
    assert _parts(tmp_path, LOGISTIC, **changes).lineage("t") != _parts(tmp_path, LOGISTIC).lineage("t")


def test_two_assemblies_have_one_lineage_of_16_hex_digits(tmp_path: Path) -> None:
    lineage = _parts(tmp_path, LOGISTIC).lineage("t")
    assert lineage == _parts(tmp_path, LOGISTIC).lineage("t")
    assert len(lineage) == 16
    assert int(lineage, 16) >= 0
    assert lineage != _parts(tmp_path, LOGISTIC).lineage("u")


def test_what_people_say_in_a_schema_makes_no_other_model(tmp_path: Path) -> None:
    first = _parts(tmp_path, LOGISTIC).lineage("t")
    file = tmp_path / "event.avsc"
    schema = json.loads(file.read_text("utf-8"))
    schema["doc"] = "Said by a person."
    schema["fields"][0]["doc"] = "Said by another one."
    file.write_text(json.dumps(schema, indent=4), "utf-8")
    assert assemble(load_config(tmp_path / "stream_ml.yaml")).lineage("t") == first


def test_spec_is_json_and_names_what_the_lineage_covers(tmp_path: Path) -> None:
    spec = _parts(tmp_path, LOGISTIC).spec("t")
    assert json.loads(json.dumps(spec)) == spec
    assert spec["log_id"] == "t"
    assert (spec["format"], spec["seed"]) == (2, 7)
    assert digest_of(spec)[:16] == _parts(tmp_path, LOGISTIC).lineage("t")
    assert {"river", "numpy", "python", "fold_format", "estimator", "sources"} <= spec.keys()


OWN = """
from river import compose, linear_model

def doubled(x):
    return {{name: value * {factor} for name, value in x.items()}}

def build():
    return compose.FuncTransformer({function}) | linear_model.LogisticRegression()
"""

LINEAGES = """
import importlib, sys
from pathlib import Path
from stream_ml.app.assemble import assemble
from stream_ml.config import load_config
for file in sys.argv[1:]:
    print(assemble(load_config(Path(file))).lineage("t"))
    sys.path.remove(str(Path(file).parent.resolve()))
    importlib.invalidate_caches()
"""


def _lineages_of_own(folder: Path, function: str) -> list[str]:
    files = []
    for name, factor in (("one", 2), ("same", 2), ("other", 3)):
        (folder / name).mkdir()
        _config(folder / name, "own_model:build")
        text = OWN.format(factor=factor, function=function)
        (folder / name / "own_model.py").write_text(f"import functools\n{text}", "utf-8")
        files.append(str(folder / name / "stream_ml.yaml"))
    ended = run_python(LINEAGES, *files)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split()


def test_source_of_a_users_function_changes_the_lineage(tmp_path: Path) -> None:
    one, same, other = _lineages_of_own(tmp_path, "doubled")
    assert (one == same, one == other) == (True, False)


def test_source_of_a_function_in_a_partial_changes_the_lineage(tmp_path: Path) -> None:
    one, same, other = _lineages_of_own(tmp_path, "functools.partial(doubled)")
    assert (one == same, one == other) == (True, False)


def test_module_beside_the_configuration_is_found(tmp_path: Path) -> None:
    (tmp_path / "model_beside.py").write_text(
        "from river import linear_model\n\n\ndef build():\n    return linear_model.LogisticRegression(l2=0.25)\n",
        "utf-8",
    )
    build = load_factory(_config(tmp_path, "model_beside:build"))
    assert build().l2 == 0.25
    assert build() is not build()


def test_attribute_that_is_an_estimator_gives_a_new_one_each_time(tmp_path: Path) -> None:
    (tmp_path / "model_made.py").write_text(
        "from river import linear_model\nmodel = linear_model.LogisticRegression(l2=0.25)\n", "utf-8"
    )
    build = load_factory(_config(tmp_path, "model_made:model"))
    first, second = build(), build()
    assert first is not second
    assert (first.l2, second.l2) == (0.25, 0.25)


def test_params_cannot_reach_an_estimator(tmp_path: Path) -> None:
    (tmp_path / "model_with_params.py").write_text(
        "from river import linear_model\nmodel = linear_model.LogisticRegression()\n", "utf-8"
    )
    with pytest.raises(ConfigError, match=r"model\.params cannot reach it"):
        load_factory(_config(tmp_path, "model_with_params:model", model="params: {l2: 1.0}"))


def test_params_and_seed_reach_the_factory(tmp_path: Path) -> None:
    build = load_factory(_config(tmp_path, "river.forest:ARFClassifier", model="seed: 11, params: {n_models: 4}"))
    assert (build().n_models, build().seed) == (4, 11)


def test_factory_without_a_seed_gets_none(tmp_path: Path) -> None:
    assert load_factory(_config(tmp_path, LOGISTIC))().l2 == 0.0


@pytest.mark.parametrize(
    ("factory", "hint"),
    [
        ("no_such_module:build", "is no_such_module.py beside the configuration, or its package installed?"),
        ("river.no_such:build", "is river.no_such.py beside the configuration, or its package installed?"),
        ("river.linear_model:NoSuch", "river.linear_model was found; look into it"),
        ("math:pi.real.none", "math was found; look into it"),
    ],
)
def test_factory_that_cannot_be_imported_is_refused_with_a_hint(tmp_path: Path, factory: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="cannot be imported") as refused:
        load_factory(_config(tmp_path, factory))
    assert refused.value.hint == hint


def test_module_that_raises_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_raising.py").write_text("raise ZeroDivisionError('while imported')\n", "utf-8")
    with pytest.raises(ConfigError, match="ZeroDivisionError: while imported"):
        load_factory(_config(tmp_path, "model_raising:build"))


def test_attribute_that_is_neither_function_nor_estimator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no function"):
        load_factory(_config(tmp_path, "math:pi"))


def test_broken_contract_is_a_config_error_that_lists_everything(tmp_path: Path) -> None:
    parts = _parts(tmp_path, "river.linear_model:LinearRegression")
    with pytest.raises(ConfigError, match=r"is a regressor, and model\.task is binary"):
        checked(parts)


def test_unknown_param_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be built"):
        checked(_parts(tmp_path, LOGISTIC, model="params: {no_such: 1}"))


@pytest.mark.parametrize("function", ["doubled", "functools.partial(doubled)"])
def test_model_that_checkpoints_will_refuse_is_refused_at_start(tmp_path: Path, function: str) -> None:
    module = f"own_refused_{len(function)}"
    text = OWN.format(factor=2, function=function)
    (tmp_path / f"{module}.py").write_text(f"import functools\n{text}", "utf-8")
    with pytest.raises(ConfigError, match="checkpoint"):
        checked(_parts(tmp_path, f"{module}:build"))

"""Every estimator that River ships: written to a checkpoint, read again, and it goes on with the same bits.

What cannot be is listed with its reason, in the words that `stream-ml check` says.
"""

import json
from pathlib import Path

import pytest

from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.model.born_sets import keep_born_sets
from stream_ml.core.model.checks import check_model, unseeded
from stream_ml.core.model.estimator import Learner, bits
from stream_ml.errors import CheckpointError
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore
from stream_ml.storage.pickling import dumps, through
from stream_ml.storage.unpickle import loads
from tests.storage.river_models import CASES, NO_TASK, Case, examples, shipped
from tests.support.inputs import domain_of, run_python

KINDS = {
    "numbers": {"a": "number", "b": "number", "c": "number"},
    "counts": {"a": "number", "b": "number", "c": "number"},
    "mixed": {"place": "text", "kind": "text", "a": "number", "b": "number"},
    "text": {"text": "text", "a": "number"},
}

REFUSED = {
    "KNN over SWINN": "predicting changes it",
    "KNN over SWINN as it is": "predicting changes it",
    "KNN over SWINN by minkowski distance": "predicting changes it",
    "KNNRegressor over SWINN": "predicting changes it",
    "KNNClassifier without an engine": "has no seed",
    "preprocessing.LDA": "predicting changes it",
    "feature_selection.PoissonInclusion": "predicting changes it",
    "feature_extraction.RandomTreesEmbedding": "its copy from a pickle",
    "active.EntropySampler": "it fails on features",
    "LeveragingBaggingClassifier me": "it fails on features",
    "LeveragingBaggingClassifier half": "it fails on features",
    "BanditClassifier by ThompsonSampling": "it fails on features",
    "window of MinMaxScaler": "it fails on features",
    "tree regressor of words with linear leaves": "texts need an encoder",
    "rules of words": "it fails on features",
}
WORKING = [name for name in CASES if name not in REFUSED]


def _domain(case: Case) -> LabelDomain:
    return domain_of(case.task, labels=["a", "b", "c"] if case.task == "multiclass" else None)


def _teach(learner: Learner, case: Case, first: int, last: int) -> None:
    for features, target in examples(case, first, last):
        learner.learn(features, target)


def _answers(learner: Learner, case: Case) -> list[tuple[str, ...]]:
    return [bits(learner.score_one(features)) for features, _ in examples(case, 1_000, 1_012)]


def test_every_class_that_river_ships_has_its_place() -> None:
    placed = {*CASES, *" ".join(NO_TASK.values()).split()}
    assert shipped() - placed == set()
    assert REFUSED.keys() <= CASES.keys()


@pytest.mark.parametrize("name", WORKING)
def test_model_goes_on_from_its_checkpoint_with_the_same_bits(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    learner, store = Learner(case.build(), _domain(case)), CheckpointStore(tmp_path, "abc", keep=1)
    assert unseeded(learner.estimator) == []
    _teach(learner, case, 0, 120)
    store.prepare()
    store.save(120, {}, {"estimator": learner.estimator}, checkpoint_types=[])
    checkpoint = next(iter(store.newest()))
    assert isinstance(checkpoint, Checkpoint)
    restored = Learner(keep_born_sets(store.content(checkpoint, [])["estimator"], case.build()), _domain(case))
    assert _answers(restored, case) == _answers(learner, case)
    for each in (restored, learner):
        _teach(each, case, 120, 170)
    assert _answers(restored, case) == _answers(learner, case)


RESTARTED = [
    *("feature_extraction.TFIDF", "BagOfWords and MultinomialNB", "text beside numbers", "linear_model.PAClassifier"),
    *(
        "neighbors.KNNClassifier",
        "BanditClassifier by UCB",
        "preprocessing.TargetStandardScaler",
        "splitter QOSplitter",
    ),
    *("feature_extraction.RBFSampler", "forest.OXTRegressor", "tree.HoeffdingAdaptiveTreeRegressor"),
]
RESTART = """
import json, sys
from pathlib import Path
from stream_ml.core.model.estimator import Learner
from stream_ml.storage.checkpoints import CheckpointStore
from tests.storage.river_models import CASES
from tests.storage.test_river_sweep import _answers, _domain, _teach
found = {}
for number, name in enumerate(sys.argv[3:]):
    case, store = CASES[name], CheckpointStore(Path(sys.argv[1]), str(number), keep=1)
    if sys.argv[2] == "write":
        learner = Learner(case.build(), _domain(case))
        _teach(learner, case, 0, 120)
        store.prepare()
        store.save(120, {}, {"estimator": learner.estimator}, checkpoint_types=[])
    else:
        learner = Learner(store.content(next(iter(store.newest())), [])["estimator"], _domain(case))
    _teach(learner, case, 120, 170)
    found[name] = _answers(learner, case)
print(json.dumps(found))
"""


def test_process_that_starts_again_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    wrote, read = (run_python(RESTART, str(tmp_path), what, *RESTARTED, hash_seed=5) for what in ("write", "read"))
    assert wrote.returncode == 0, wrote.stderr[-400:]
    assert json.loads(read.stdout) == json.loads(wrote.stdout)


@pytest.mark.parametrize("name", REFUSED)
def test_model_that_cannot_work_is_refused_in_words(name: str) -> None:
    case = CASES[name]
    assert REFUSED[name] in "\n".join(check_model(case.build, KINDS[case.data], _domain(case), through))


def _refusal(case: Case) -> str:
    learner = Learner(case.build(), _domain(case))
    _teach(learner, case, 0, 25)
    try:
        dumps(learner.estimator)
    except CheckpointError as error:
        return str(error)
    return ""


def test_no_refusal_proposes_what_would_open_the_door_to_anything() -> None:
    told = {}
    for name in WORKING:
        text = _refusal(CASES[name])
        if any(f": [{module}." in text for module in ("builtins", "operator", "numpy", "math", "river")):
            told[name] = text
    assert told == {}


CHANGED_BY_ASKING = ("facto.FMClassifier", "facto.FFMClassifier", "facto.FwFMClassifier", "facto.HOFMClassifier")


@pytest.mark.parametrize("name", CHANGED_BY_ASKING)
def test_model_that_draws_for_an_unseen_word_when_it_is_asked_is_refused_or_asking_changes_nothing(name: str) -> None:
    case = CASES[name]
    asked, straight = (Learner(case.build(), _domain(case)) for _ in range(2))
    for number, (features, target) in enumerate(examples(case, 0, 60)):
        asked.score_one({**features, "place": f"unseen {number}"})
        asked.learn(features, target)
        straight.learn(features, target)
    refused = "predicting changes it" in "\n".join(check_model(case.build, KINDS[case.data], _domain(case), through))
    assert refused or _answers(asked, case) == _answers(straight, case)


def test_refused_part_of_river_is_no_type_of_the_users() -> None:
    with pytest.raises(CheckpointError) as refused:
        loads(b"criver.datasets\nPhishing\n.")
    assert "if it is yours" not in str(refused.value)

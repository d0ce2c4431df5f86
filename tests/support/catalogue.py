"""Models that the service must bear, and deterministic examples to teach them."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from river import compose, ensemble, forest, linear_model, multiclass, naive_bayes, preprocessing, tree

from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.model.estimator import Learner, bits
from stream_ml.records import Target
from tests.support.inputs import domain_of

KINDS = {"a": "number", "b": "number", "c": "number"}


class Given(NamedTuple):
    """A model and its task."""

    build: Callable[[], Any]
    task: str

    @property
    def domain(self) -> LabelDomain:
        """The labels that it learns."""
        return domain_of(self.task, labels=["a", "b", "c"] if self.task == "multiclass" else None)


def _features_by_kind() -> Any:
    numbers = compose.SelectType(int, float) | preprocessing.StandardScaler()
    return (numbers + (compose.SelectType(str) | preprocessing.OneHotEncoder())) | linear_model.LogisticRegression()


CATALOGUE = {
    "scaled logistic": Given(lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(), "binary"),
    "union": Given(_features_by_kind, "binary"),
    "tree": Given(tree.HoeffdingTreeClassifier, "binary"),
    "adaptive tree": Given(lambda: tree.HoeffdingAdaptiveTreeClassifier(grace_period=20, seed=3), "binary"),
    "forest": Given(lambda: forest.ARFClassifier(n_models=3, seed=3), "binary"),
    "naive bayes": Given(naive_bayes.GaussianNB, "binary"),
    "linear": Given(lambda: preprocessing.StandardScaler() | linear_model.LinearRegression(), "regression"),
    "tree regressor": Given(lambda: tree.HoeffdingTreeRegressor(grace_period=20), "regression"),
    "one vs rest": Given(
        lambda: preprocessing.StandardScaler() | multiclass.OneVsRestClassifier(linear_model.LogisticRegression()),
        "multiclass",
    ),
    "softmax": Given(lambda: preprocessing.StandardScaler() | linear_model.SoftmaxRegression(), "multiclass"),
    "bagging": Given(
        lambda: ensemble.BaggingClassifier(tree.HoeffdingTreeClassifier(grace_period=20), n_models=3, seed=3), "binary"
    ),
    "random patches": Given(
        lambda: ensemble.SRPClassifier(tree.HoeffdingTreeClassifier(grace_period=20), n_models=3, seed=3), "binary"
    ),
}


def examples(task: str, first: int, last: int) -> Iterator[tuple[dict[str, Any], Target]]:
    """Examples numbered from `first` to before `last`, the same in every process."""
    for i in range(first, last):
        a, b, c = (((i * step) % 1_009) / 100 - 5 for step in (7_919, 104_729, 1_299_709))
        truth = a + 0.5 * b > 0.1 * c
        if task == "regression":
            target = Target(None, a - 2 * b + 0.25)
        elif task == "binary":
            target = Target("true" if truth else "false", None)
        else:
            target = Target("a" if truth else "b" if c > 0 else "c", None)
        yield {"a": a, "b": b, "c": c}, target


def taught(name: str, last: int = 200) -> Learner:
    """The model after its first examples."""
    given = CATALOGUE[name]
    learner = Learner(given.build(), given.domain)
    teach(learner, given.task, 0, last)
    return learner


def teach(learner: Learner, task: str, first: int, last: int) -> None:
    """Teach examples."""
    for features, target in examples(task, first, last):
        learner.learn(features, target)


def answers(learner: Learner, task: str) -> list[tuple[str, ...]]:
    """What the model says of twenty events, to the last bit."""
    return [bits(learner.score_one(features)) for features, _ in examples(task, 1_000, 1_020)]

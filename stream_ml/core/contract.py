"""What a model must hold before it may learn for good; checked at start, and by users in their own tests.

Each check trains on synthetic examples of the configured features, so it needs no data.
"""

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from river import base

from stream_ml.core.labels import LabelDomain
from stream_ml.core.learner import Learner, ModelFailed, bits
from stream_ml.records import Target

EXAMPLES = 60
_PROBES = 12


def check_model(
    build: Callable[[], Any],
    kinds: dict[str, str],
    domain: LabelDomain,
    reload: Callable[[bytes], Any] = pickle.loads,
) -> list[str]:
    """Everything that is wrong with a model, in words; empty where it may be used.

    Parameters
    ----------
    build
        Gives a new estimator each time.
    kinds
        Feature names in order, each with number, boolean or text.
    domain
        Task and labels.
    reload
        Unpickles as a checkpoint would be: it may refuse types.
    """
    try:
        first, second = build(), build()
    except Exception as error:
        return [f"it cannot be built: {type(error).__name__}: {error}"]
    wrong = [*_kind_problems(first, domain.task)]
    wrong += [f"{path} has no seed: give it one, or its replicas differ" for path in unseeded(first)]
    if first is second and not wrong:
        wrong.append("it is one object that all replicas would share: name a function that builds a new one")
    if wrong:
        return wrong
    examples = list(synthetic(kinds, domain))
    try:
        return list(_behaviour(build, domain, examples, reload))
    except ModelFailed as error:
        hint = (
            ": texts need an encoder (preprocessing.OneHotEncoder) or features.exclude"
            if "text" in kinds.values()
            else ""
        )
        return [f"it fails on features {examples[0][0]}: {error}{hint}"]


def _kind_problems(estimator: Any, task: str) -> Iterator[str]:
    if not hasattr(estimator, "learn_one") or not hasattr(estimator, "predict_one"):
        yield f"{type(estimator).__name__} is not a River estimator: it has no learn_one and predict_one"
        return
    last = estimator
    while hasattr(last, "steps"):
        last = list(last.steps.values())[-1]
    regressor, classifier = isinstance(last, base.Regressor), isinstance(last, base.Classifier)
    if task == "regression" and classifier and not regressor:
        yield f"{type(last).__name__} is a classifier, and model.task is regression"
    if task != "regression" and regressor and not classifier:
        yield f"{type(last).__name__} is a regressor, and model.task is {task}"
    if not (regressor or classifier):
        yield f"{type(last).__name__} is neither a classifier nor a regressor"
    if task == "multiclass" and classifier and not last._multiclass:  # noqa: SLF001 - River's own flag, no getter
        yield f"{type(last).__name__} knows two classes only: wrap it in multiclass.OneVsRestClassifier"


def _behaviour(
    build: Callable[[], Any],
    domain: LabelDomain,
    examples: list[tuple[dict[str, Any], Target]],
    reload: Callable[[bytes], Any],
) -> Iterator[str]:
    probes = [features for features, _ in examples[:_PROBES]]

    def answers(learner: Learner) -> list[tuple[str, ...]]:
        return [bits(learner.score(dict(features))) for features in probes]

    straight, looking = Learner(build(), domain), Learner(build(), domain)
    if answers(straight) != answers(looking):
        yield "two builds answer differently before they have learned"
    half = len(examples) // 2
    for features, target in examples[:half]:
        straight.learn(dict(features), target)
        answers(looking)
        looking.learn(dict(features), target)
    learned = answers(straight)
    if learned != answers(looking):
        yield "predicting changes it: a model that was asked in between learns something else"
    try:
        copied = Learner(reload(pickle.dumps(straight.estimator, protocol=5)), domain)
    except Exception as error:
        yield f"it cannot be pickled and loaded again (no lambdas or local functions), as checkpoints ask: {error}"
        return
    if answers(copied) != learned:
        yield "its copy from a pickle answers differently"
    again = Learner(build(), domain)
    for features, target in examples[:half]:
        again.learn(dict(features), target)
    for features, target in examples[half:]:
        for learner in (straight, copied, again):
            learner.learn(dict(features), target)
    if answers(copied) != answers(straight):
        yield "its copy from a pickle learns something else"
    if answers(again) != answers(straight):
        yield "two builds learn different things from the same examples: something in it is random and has no seed"


def unseeded(estimator: Any) -> list[str]:
    """Paths of all parts whose `seed` is None, for example ``ARFClassifier.seed``."""
    found: list[str] = []

    def walk(value: Any, path: str, depth: int) -> None:
        if depth > 12:
            return
        for name, part in _parts(value):
            if name == "seed" and part is None:
                found.append(f"{path}.seed")
            else:
                walk(part, f"{path}.{name}", depth + 1)

    walk(estimator, type(estimator).__name__, 0)
    return found


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(str(name), part) for name, part in value.items()]
    if isinstance(value, list | tuple):
        return [(str(number), part) for number, part in enumerate(value)]
    if type(value).__module__.startswith("river.") and hasattr(value, "__dict__"):
        return list(vars(value).items())
    return []


def synthetic(kinds: dict[str, str], domain: LabelDomain) -> Iterator[tuple[dict[str, Any], Target]]:
    """EXAMPLES made-up examples of the configured features and labels; always the same ones."""
    for i in range(EXAMPLES):
        features = {name: _value(kind, i, j) for j, (name, kind) in enumerate(kinds.items())}
        if domain.task == "regression":
            yield features, Target(None, ((i * 7919) % 100) / 10)
        else:
            yield features, Target(domain.classes[(i * 7919 // 3) % len(domain.classes)], None)


def _value(kind: str, i: int, j: int) -> Any:
    if kind == "text":
        return f"v{(i * 3 + j) % 5}"
    return (i + j) % 3 == 0 if kind == "boolean" else ((i * 7919 + j * 104_729) % 1000) / 100 - 5.0

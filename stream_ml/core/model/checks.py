"""What a model must hold before it may learn for good; checked at start, and by users in their own tests.

Each check trains on synthetic examples of the configured features, so it needs no data.
"""

import pickle
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from typing import Any

from river import base

from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.model.born_sets import keep_born_sets
from stream_ml.core.model.estimator import Learner, ModelFailed, bits
from stream_ml.records import Target

EXAMPLES = 60
_PROBES = 12


def pickled(estimator: Any) -> Callable[[], Any]:
    """Pickle an estimator; what loads its copy."""
    return partial(pickle.loads, pickle.dumps(estimator, protocol=5))


def check_model(
    build: Callable[[], Any],
    kinds: dict[str, str],
    domain: LabelDomain,
    through: Callable[[Any], Callable[[], Any]] = pickled,
    events: Sequence[dict[str, Any]] = (),
    open_texts: Collection[str] | None = None,
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
    through
        Pickles an estimator as a checkpoint would, and gives what loads the copy: it may refuse types.
    events
        Features of events to try it with; none: made-up ones of these kinds.
    open_texts
        Features that may be a text that was never seen before; None: all texts.
    """
    try:
        first, second = build(), build()
    except Exception as error:
        return [f"it cannot be built: {type(error).__name__}: {error}"]
    wrong = [*_kind_problems(first, domain.task)]
    wrong += [f"{path} has no seed: give it one, or its replicas differ" for path in unseeded(first)]
    wrong += [f"{path}: {why}" for path, why in _hopeless(first)]
    if first is second and not wrong:
        wrong.append("it is one object that all replicas would share: name a function that builds a new one")
    if wrong:
        return wrong
    examples = list(labelled(events, domain) if events else synthetic(kinds, domain))
    try:
        texts = [name for name, kind in kinds.items() if kind == "text"] if open_texts is None else open_texts
        return list(_behaviour(build, domain, examples, texts, through))
    except ModelFailed as error:
        hint = (
            ": texts need an encoder (preprocessing.OneHotEncoder) or features.exclude"
            if "text" in kinds.values()
            else ""
        )
        return [f"it fails on features like {examples[0][0]}: {error}{hint}"]


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
    open_texts: Collection[str],
    through: Callable[[Any], Callable[[], Any]],
) -> Iterator[str]:
    half, probes = len(examples) // 2, _probes(examples, open_texts)

    def answers(learner: Learner) -> list[tuple[str, ...]]:
        return [bits(learner.score_one(dict(features))) for features in probes]

    def learned(some: list[tuple[dict[str, Any], Target]], learner: Learner) -> Learner:
        for features, target in some:
            learner.learn(dict(features), target)
        return learner

    if answers(Learner(build(), domain)) != answers(Learner(build(), domain)):
        yield "two builds answer differently before they have learned"
    looking = Learner(build(), domain)
    for features, target in examples[:half]:
        answers(looking)
        looking.learn(dict(features), target)
    straight = learned(examples[:half], Learner(build(), domain))  # and not asked before
    copy_of = _tried(straight, through)
    before = answers(straight)
    if before != answers(looking):
        yield "predicting changes it: a model that was asked in between learns something else"
    try:
        if isinstance(copy_of, Exception):
            raise copy_of
        copied = Learner(keep_born_sets(copy_of(), build()), domain)
    except Exception as error:
        local = " (no lambdas or local functions)" if isinstance(error, pickle.PicklingError | AttributeError) else ""
        yield f"it cannot be pickled and loaded again{local}, as checkpoints ask: {error}"
        return
    try:
        if answers(copied) != before:
            yield "its copy from a pickle answers differently"
        learned(examples[half:], copied)
    except ModelFailed as error:
        yield f"its copy from a pickle fails: {error}"
        return
    learned(examples[half:], straight)
    again = learned(examples, Learner(build(), domain))
    if answers(copied) != answers(straight):
        yield "its copy from a pickle learns something else"
    if answers(again) != answers(straight):
        yield "two builds learn different things from the same examples: something in it is random and has no seed"


def _tried(learner: Learner, through: Callable[[Any], Callable[[], Any]]) -> Callable[[], Any] | Exception:
    try:
        return through(learner.estimator)
    except Exception as error:
        return error


def _probes(examples: list[tuple[dict[str, Any], Target]], open_texts: Collection[str]) -> list[dict[str, Any]]:
    """What the models are asked: the last examples, from behind, every second one with texts that none has learned.

    A model that makes room for a word when it is asked has it before it has learned it.
    """
    found = []
    for number, (features, _) in enumerate(reversed(examples[-_PROBES:])):
        unseen = {name: f"unseen {number}" for name in features if name in open_texts}
        found.append(features | unseen if number % 2 else features)
    return found


DEPTH_MAX = 12  # parts within parts
_HOPELESS = {
    "river.neighbors.ann.swinn.SWINN": "predicting changes it, because it draws where a search begins: "
    "take neighbors.LazySearch",
}


def walked(estimator: Any) -> Iterator[tuple[str, Any]]:
    """The estimator and all parts of which its user has a say, each with its path: ``ARFClassifier.seed`` is one."""

    def walk(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
        yield path, value
        if depth < DEPTH_MAX:
            for name, part in _parts(value):
                yield from walk(part, f"{path}.{name}", depth + 1)

    yield from walk(estimator, type(estimator).__name__, 0)


def _hopeless(estimator: Any) -> list[tuple[str, str]]:
    """The first part that cannot work, though a short trial does not show it: path and reason."""
    known = (
        (path, _HOPELESS.get(f"{type(part).__module__}.{type(part).__qualname__}")) for path, part in walked(estimator)
    )
    return [(path, why) for path, why in known if why is not None][:1]


def unseeded(estimator: Any) -> list[str]:
    """Paths of all parts whose `seed` is None, for example ``ARFClassifier.seed``."""
    return [path for path, part in walked(estimator) if part is None and path.endswith(".seed")]


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    """What a part is made of, as far as its user has a say: what a constructor makes for itself is its own matter."""
    if isinstance(value, dict):
        return [(str(name), part) for name, part in value.items()]
    if isinstance(value, list | tuple):
        return [(str(number), part) for number, part in enumerate(value)]
    if hasattr(value, "steps") or hasattr(value, "transformers"):
        return [(name, getattr(value, name)) for name in ("steps", "transformers") if hasattr(value, name)]
    if type(value).__module__.startswith("river.") and hasattr(value, "_get_params"):
        names = value._get_params()  # noqa: SLF001 - River's own list of a constructor's parameters
        return [(name, getattr(value, name)) for name in names if hasattr(value, name)]
    if type(value).__module__.startswith("river.") and hasattr(value, "__dict__"):
        return list(vars(value).items())
    return []


def synthetic(kinds: dict[str, str], domain: LabelDomain) -> Iterator[tuple[dict[str, Any], Target]]:
    """EXAMPLES made-up examples of features of these kinds; always the same ones."""
    made = ({name: _value(kind, i, j) for j, (name, kind) in enumerate(kinds.items())} for i in range(EXAMPLES))
    return labelled(list(made), domain)


def labelled(events: Sequence[dict[str, Any]], domain: LabelDomain) -> Iterator[tuple[dict[str, Any], Target]]:
    """EXAMPLES examples of these features, over and over, with made-up labels."""
    for i, features in enumerate(islice(cycle(events), EXAMPLES)):
        if domain.task == "regression":
            yield features, Target(None, ((i * 7919) % 100) / 10)
        else:
            yield features, Target(domain.classes[(i * 7919 // 3) % len(domain.classes)], None)


def _value(kind: str, i: int, j: int) -> Any:
    if kind == "text":
        return f"v{(i * 3 + j) % 5}"
    return (i + j) % 3 == 0 if kind == "boolean" else ((i * 7919 + j * 104_729) % 1000) / 100 - 5.0

"""River's progressive validation at this project's speed: the same scores, the same order, the same number."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from river import active, base, metrics

from stream_ml.core.evaluation.timeline import Delay, Moment, questions_and_answers


def progressive_val_score(
    dataset: Iterable[Sequence[Any]], model: Any, metric: Any, moment: Moment = None, delay: Delay = None
) -> Any:
    """Evaluate a model on a stream: each event is scored before its label is learned, which may come later.

    Equal to `river.evaluate.progressive_val_score`, scores to the bit and the metric to its last digit
    (tests/offline/replay/test_river.py); the speed is measured by benchmarks/replay.py.

    Parameters
    ----------
    dataset
        Pairs of features and label, as River's datasets are.
    metric
        One of River's; it is updated and returned.
    moment, delay
        As River has them.

    Raises
    ------
    ValueError
        The metric does not work with the model, as River says; or the model is an active learner, the metric one of
        clusters, or a row has arguments of its own (such as a weight): River has its own function for these.
    """
    for _, y, said in progressive_answers(dataset, model, metric, moment, delay):
        if said is not None and said != {}:
            metric.update(y, said)
    return metric


def progressive_answers(
    dataset: Iterable[Sequence[Any]], model: Any, metric: Any, moment: Moment = None, delay: Delay = None
) -> Iterator[tuple[int, Any, Any]]:
    """Number, label and prediction of each event, in the order in which labels are revealed; each learned then."""
    if not metric.works_with(model):
        raise ValueError(f"{metric.__class__.__name__} metric is not compatible with {model}")
    if isinstance(model, active.base.ActiveLearningClassifier) or isinstance(metric, metrics.base.ClusteringMetric):
        raise ValueError("neither active learners nor metrics of clusters are replayed here: take River's own")
    predict, learn = _predict(model, metric), _learn(model)
    said: dict[int, Any] = {}
    for number, x, y, is_answer in questions_and_answers(dataset, moment, delay):
        if is_answer:
            yield number, y, said.pop(number)
            learn(x, y)
        else:
            said[number] = predict(x)


def _predict(model: Any, metric: Any) -> Callable[[dict[str, Any]], Any]:
    """What River asks of a model of this kind, for this metric."""
    if isinstance(model, base.AnomalyFilter):
        return lambda x: model.classify(model.score_one(x))
    takes_probabilities = isinstance(model, base.Classifier) and not metric.requires_labels
    name = "score_one" if isinstance(model, base.AnomalyDetector) else "predict_one"
    found: Callable[[dict[str, Any]], Any] = getattr(model, "predict_proba_one" if takes_probabilities else name)
    return found


def _learn(model: Any) -> Callable[[dict[str, Any], Any], Any]:
    if model._supervised:  # noqa: SLF001 - as River asks it
        found: Callable[[dict[str, Any], Any], Any] = model.learn_one
        return found
    return lambda x, _: model.learn_one(x)

"""Every estimator that River ships, in a form that the service could run, with examples that fit it.

The classes are found by walking River: a release that brings a new one makes the sweep fail until it is placed here.
"""

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import river
from river import (
    active,
    anomaly,
    bandit,
    base,
    compose,
    conf,
    drift,
    dummy,
    ensemble,
    facto,
    feature_extraction,
    feature_selection,
    forest,
    imblearn,
    linear_model,
    metrics,
    model_selection,
    multiclass,
    naive_bayes,
    neighbors,
    optim,
    preprocessing,
    proba,
    rules,
    stats,
    tree,
    utils,
)
from river.tree import splitter

from stream_ml.records import Target


class Case(NamedTuple):
    """A model, its task, and which examples fit it: numbers, counts, mixed or text."""

    build: Callable[[], Any]
    task: str = "binary"
    data: str = "numbers"


# --- examples ---

_WORDS = [
    "late",
    "early",
    "parcel",
    "van",
    "lost",
    "found",
    "slow",
    "quick",
    "green",
    "red",
    "blue",
    "café",
    "the",
    "a",
    "of",
    "to",
]
_PLACES = ("oslo", "lund", "aarhus", "turku", "århus")


def examples(case: Case, first: int, last: int) -> Iterator[tuple[dict[str, Any], Target]]:
    """Examples numbered from `first` to before `last`, the same in every process."""
    for i in range(first, last):
        a, b, c = (((i * step) % 1_009) / 100 - 5 for step in (7_919, 104_729, 1_299_709))
        truth = a + 0.5 * b > 0.1 * c
        if case.task == "regression":
            target = Target(None, (a - 2 * b) / 5 + 4)
        elif case.task == "binary":
            target = Target("true" if truth else "false", None)
        else:
            target = Target("a" if truth else "b" if c > 0 else "c", None)
        yield _features(case.data, i, (a, b, c), truth), target


def _features(data: str, i: int, numbers: tuple[float, float, float], truth: bool) -> dict[str, Any]:
    a, b, c = numbers
    if data == "numbers":
        return {"a": a, "b": b, "c": c}
    if data == "counts":
        return {"a": i % 5 + 2 * truth, "b": (i * 7) % 3, "c": (i * 3) % 4}
    if data == "mixed":
        return {"place": _PLACES[i % 5], "kind": "xyz"[i % 3], "a": a, "b": b}
    words = [_WORDS[(i * step + truth) % len(_WORDS)] for step in (1, 3, 5, 7, 11)]
    return {"text": f"{' '.join(words).capitalize()}, {_WORDS[truth]}!", "a": a}


# --- what River ships ---

_OTHER_PACKAGES = {"api", "checks", "compat", "datasets", "evaluate", "stream"}


def shipped() -> set[str]:
    """Every estimator class that River names in public, as package.Class."""
    found = set()
    for module in pkgutil.iter_modules(river.__path__):
        if module.name in _OTHER_PACKAGES or module.name.startswith("_"):
            continue
        package = importlib.import_module(f"river.{module.name}")
        for name in getattr(package, "__all__", None) or vars(package):
            value = getattr(package, name, None)
            if inspect.isclass(value) and issubclass(value, base.Estimator) and not inspect.isabstract(value):
                found |= {f"{module.name}.{name}"} if value.__module__.startswith(package.__name__) else set()
    return found


NO_TASK = {
    "an answer is a cluster": "cluster.CluStream cluster.DBSTREAM cluster.DenStream cluster.KMeans cluster.ODAC "
    "cluster.STREAMKMeans cluster.TextClust",
    "an answer is an anomaly score; it stands before a model, in a filter": "anomaly.GaussianScorer "
    "anomaly.HalfSpaceTrees anomaly.LODA anomaly.LocalOutlierFactor anomaly.OneClassSVM "
    "anomaly.PredictiveAnomalyDetection anomaly.StandardAbsoluteDeviation",
    "a label is one value, not several": "multioutput.ClassifierChain multioutput.MonteCarloClassifierChain "
    "multioutput.ProbabilisticClassifierChain multioutput.RegressorChain multioutput.MultiClassEncoder "
    "multioutput.PerOutputRegressor multioutput.PerOutputClassifier tree.ISOUPTreeRegressor",
    "it learns users and items, not features": "reco.Baseline reco.BiasedMF reco.FunkMF reco.RandomNormal",
    "it forecasts a series and learns no features": "time_series.HoltWinters time_series.SNARIMAX",
    "it is a base class or a store of neighbours, no model": "base.Estimator neighbors.LazySearch neighbors.SWINN",
    "it needs Python 3.14": "misc.ZstdClassifier",
}


# --- models ---


def _scaled(model: Any) -> Any:
    return preprocessing.StandardScaler() | model


def _logistic(**params: Any) -> Any:
    return linear_model.LogisticRegression(**params)


def _linear(**params: Any) -> Any:
    return linear_model.LinearRegression(**params)


def _tree(**params: Any) -> Any:
    return tree.HoeffdingTreeClassifier(grace_period=20, **params)


def _tree_regressor(**params: Any) -> Any:
    return tree.HoeffdingTreeRegressor(grace_period=20, **params)


def _each(package: Any, names: str, task: str = "binary", data: str = "numbers", **params: Any) -> dict[str, Case]:
    """A case for each of these classes."""
    short = package.__name__.rpartition(".")[2]
    return {f"{short}.{name}": Case(partial(getattr(package, name), **params), task, data) for name in names.split()}


def _over(
    name: str, make: Callable[..., Any], values: Any, task: str = "binary", data: str = "numbers"
) -> dict[str, Case]:
    """A case for each value of one parameter."""
    dash = "" if name.endswith(".") else " "
    return {
        f"{name}{dash}{getattr(value, '__name__', value)}": Case(partial(make, value), task, data) for value in values
    }


def _factors(name: str) -> Any:
    """Of words alone: numbers as large as ours drive the factors out of what a double holds."""
    return compose.Select("place", "kind") | getattr(facto, name)(n_factors=3, seed=3)


def _final() -> dict[str, Case]:
    """Models that stand for themselves."""
    return {
        **_each(dummy, "NoChangeClassifier PriorClassifier"),
        "dummy.StatisticRegressor": Case(lambda: dummy.StatisticRegressor(stats.Mean()), "regression"),
        **_each(linear_model, "ALMAClassifier LogisticRegression Perceptron PAClassifier"),
        **_each(linear_model, "AdPredictor", data="counts"),
        **_each(linear_model, "LinearRegression PARegressor BayesianLinearRegression", "regression"),
        **_each(linear_model, "SoftmaxRegression", "multiclass"),
        **_over("PAClassifier mode", lambda mode: linear_model.PAClassifier(mode=mode), (0, 1, 2)),
        **_over("PARegressor mode", lambda mode: linear_model.PARegressor(mode=mode), (0, 1, 2), "regression"),
        **_each(tree, "HoeffdingTreeClassifier ExtremelyFastDecisionTreeClassifier SGTClassifier", grace_period=20),
        **_each(tree, "LASTClassifier"),
        **_each(tree, "SGTRegressor HoeffdingTreeRegressor", "regression", grace_period=20),
        **_each(tree, "HoeffdingAdaptiveTreeClassifier", grace_period=20, seed=3),
        **_each(tree, "HoeffdingAdaptiveTreeRegressor", "regression", grace_period=20, seed=3),
        **_each(forest, "ARFClassifier", n_models=3, grace_period=20, seed=3),
        **_each(forest, "ARFRegressor OXTRegressor", "regression", n_models=3, grace_period=20, seed=3),
        **_each(forest, "AMFClassifier", n_estimators=3, seed=3),
        **_each(forest, "AMFRegressor", "regression", n_estimators=3, seed=3),
        **_each(rules, "AMRules", "regression", n_min=20),
        **_each(naive_bayes, "GaussianNB"),
        **_each(naive_bayes, "MultinomialNB ComplementNB BernoulliNB", data="counts"),
        **_each(facto, "FFMClassifier FMClassifier FwFMClassifier HOFMClassifier", data="mixed", seed=3, n_factors=3),
        **_over(
            "facto.",
            _factors,
            ("FFMRegressor", "FMRegressor", "FwFMRegressor", "HOFMRegressor"),
            *("regression", "mixed"),
        ),
        "GaussianNB of three classes": Case(naive_bayes.GaussianNB, "multiclass"),
        "MultinomialNB of three classes": Case(naive_bayes.MultinomialNB, "multiclass", "counts"),
        "tree of three classes": Case(_tree, "multiclass"),
        "ARF of three classes": Case(partial(forest.ARFClassifier, 3, seed=3), "multiclass"),
        "AMF of three classes": Case(partial(forest.AMFClassifier, 3, seed=3), "multiclass"),
    }


def _distances() -> dict[str, Case]:
    lazy, swinn = neighbors.LazySearch, partial(neighbors.SWINN, seed=3, warm_up=40, graph_k=5, maxlen=100)
    minkowski = partial(utils.math.minkowski_distance, p=1)
    return {
        "neighbors.KNNClassifier": Case(lambda: neighbors.KNNClassifier(3, lazy(50))),
        "neighbors.KNNRegressor": Case(lambda: neighbors.KNNRegressor(3, lazy(50)), "regression"),
        "KNN of three classes": Case(lambda: neighbors.KNNClassifier(3, lazy(50)), "multiclass"),
        "KNNClassifier without an engine": Case(neighbors.KNNClassifier),
        "KNN by minkowski distance": Case(lambda: neighbors.KNNClassifier(3, lazy(50, dist_func=minkowski))),
        "KNN by euclidean distance": Case(
            lambda: neighbors.KNNClassifier(3, lazy(50, dist_func=utils.math._euclidean_distance))
        ),
        "KNN over SWINN as it is": Case(lambda: neighbors.KNNClassifier(3, neighbors.SWINN(seed=3))),
        "KNN over SWINN": Case(lambda: neighbors.KNNClassifier(3, swinn())),
        "KNN over SWINN by minkowski distance": Case(lambda: neighbors.KNNClassifier(3, swinn(dist_func=minkowski))),
        "KNNRegressor over SWINN": Case(lambda: neighbors.KNNRegressor(3, swinn()), "regression"),
    }


_LEVERAGING = ("bag", "me", "half", "wt", "subag")
_HALVES = {True: 0.5, False: 0.5}


def _leveraging(how: str) -> Any:
    return ensemble.LeveragingBaggingClassifier(_tree(), 3, bagging_method=how, seed=3)


def _ensembles() -> dict[str, Case]:
    voters = lambda: [_logistic(), _tree(), naive_bayes.GaussianNB()]  # noqa: E731 - three new ones each time
    experts = lambda: [_scaled(_linear()), _scaled(linear_model.PARegressor())]  # noqa: E731
    return {
        "ensemble.BaggingClassifier": Case(lambda: ensemble.BaggingClassifier(_tree(), 3, 3)),
        "ensemble.BaggingRegressor": Case(lambda: ensemble.BaggingRegressor(_tree_regressor(), 3, 3), "regression"),
        "ensemble.ADWINBaggingClassifier": Case(lambda: ensemble.ADWINBaggingClassifier(_tree(), 3, 3)),
        "ensemble.LeveragingBaggingClassifier": Case(partial(_leveraging, "bag")),
        **_over("LeveragingBaggingClassifier", _leveraging, _LEVERAGING[1:]),
        "LeveragingBaggingClassifier of three classes": Case(partial(_leveraging, "bag"), "multiclass"),
        "ensemble.AdaBoostClassifier": Case(lambda: ensemble.AdaBoostClassifier(_tree(), 3, 3)),
        "ensemble.ADWINBoostingClassifier": Case(lambda: ensemble.ADWINBoostingClassifier(_logistic(), 3, 3)),
        "ensemble.BOLEClassifier": Case(lambda: ensemble.BOLEClassifier(_tree(), 3, 3)),
        "ensemble.SRPClassifier": Case(lambda: ensemble.SRPClassifier(_tree(), 3, seed=3)),
        "ensemble.SRPRegressor": Case(lambda: ensemble.SRPRegressor(_tree_regressor(), 3, seed=3), "regression"),
        "ensemble.VotingClassifier": Case(lambda: ensemble.VotingClassifier(voters())),
        "ensemble.StackingClassifier": Case(lambda: ensemble.StackingClassifier(voters(), _logistic())),
        "ensemble.EWARegressor": Case(lambda: ensemble.EWARegressor(experts()), "regression"),
        "bagging of PAClassifier": Case(lambda: ensemble.BaggingClassifier(linear_model.PAClassifier(), 3, 3)),
    }


def _selections() -> dict[str, Case]:
    policies: dict[str, Callable[[], Any]] = {
        "EpsilonGreedy": lambda: bandit.EpsilonGreedy(0.2, seed=3),
        "Exp3": lambda: bandit.Exp3(0.5, seed=3),
        "UCB": lambda: bandit.UCB(1, seed=3),
        "BayesUCB": lambda: bandit.BayesUCB(seed=3),
        "ThompsonSampling": lambda: bandit.ThompsonSampling(reward_obj=proba.Beta(seed=3), seed=3),
        "RandomPolicy": lambda: bandit.RandomPolicy(seed=3),
    }

    def classifier(policy: str) -> Any:
        models = [_scaled(_logistic(optimizer=optim.SGD(lr))) for lr in (0.01, 0.1)]
        return model_selection.BanditClassifier(models, metrics.Accuracy(), policies[policy]())

    def regressors() -> list[Any]:
        return [_scaled(_linear(optimizer=optim.SGD(lr))) for lr in (0.001, 0.01)]

    def halving() -> Any:
        models = [_scaled(_logistic(optimizer=optim.SGD(lr))) for lr in (0.001, 0.01, 0.1, 1.0)]
        return model_selection.SuccessiveHalvingClassifier(models, metrics.Accuracy(), 400)

    greedy = policies["EpsilonGreedy"]
    return {
        "model_selection.BanditClassifier": Case(partial(classifier, "EpsilonGreedy")),
        **_over("BanditClassifier by", classifier, list(policies)[1:]),
        "model_selection.BanditRegressor": Case(
            lambda: model_selection.BanditRegressor(regressors(), metrics.MAE(), greedy()), "regression"
        ),
        "model_selection.GreedyRegressor": Case(lambda: model_selection.GreedyRegressor(regressors()), "regression"),
        "model_selection.SuccessiveHalvingClassifier": Case(halving),
        "model_selection.SuccessiveHalvingRegressor": Case(
            lambda: model_selection.SuccessiveHalvingRegressor(regressors(), metrics.MAE(), 400), "regression"
        ),
    }


def _wrappers() -> dict[str, Case]:
    scaled = lambda: _scaled(_linear())  # noqa: E731
    return {
        "drift.DriftRetrainingClassifier": Case(lambda: drift.DriftRetrainingClassifier(_tree())),
        "conf.RegressionJackknife": Case(lambda: conf.RegressionJackknife(scaled()), "regression"),
        "RegressionJackknife of a window": Case(lambda: conf.RegressionJackknife(scaled(), 0.9, 50), "regression"),
        "preprocessing.PredClipper": Case(lambda: preprocessing.PredClipper(scaled(), 0, 40), "regression"),
        "preprocessing.TargetStandardScaler": Case(lambda: preprocessing.TargetStandardScaler(scaled()), "regression"),
        "preprocessing.TargetMinMaxScaler": Case(lambda: preprocessing.TargetMinMaxScaler(scaled()), "regression"),
        "compose.TargetTransformRegressor": Case(
            lambda: compose.TargetTransformRegressor(scaled(), math.log, math.exp), "regression"
        ),
        "imblearn.HardSamplingClassifier": Case(lambda: imblearn.HardSamplingClassifier(_logistic(), 20, 0.2, seed=3)),
        "imblearn.HardSamplingRegressor": Case(
            lambda: imblearn.HardSamplingRegressor(scaled(), 20, 0.2, seed=3), "regression"
        ),
        "imblearn.ChebyshevOverSampler": Case(lambda: imblearn.ChebyshevOverSampler(scaled()), "regression"),
        "imblearn.ChebyshevUnderSampler": Case(lambda: imblearn.ChebyshevUnderSampler(scaled(), seed=3), "regression"),
        "imblearn.RandomOverSampler": Case(lambda: imblearn.RandomOverSampler(_logistic(), _HALVES, seed=3)),
        "imblearn.RandomUnderSampler": Case(lambda: imblearn.RandomUnderSampler(_logistic(), _HALVES, seed=3)),
        "imblearn.RandomSampler": Case(lambda: imblearn.RandomSampler(_logistic(), _HALVES, 1.2, seed=3)),
        "multiclass.OneVsOneClassifier": Case(lambda: multiclass.OneVsOneClassifier(_logistic()), "multiclass"),
        "multiclass.OneVsRestClassifier": Case(lambda: multiclass.OneVsRestClassifier(_logistic()), "multiclass"),
        "multiclass.OutputCodeClassifier": Case(
            lambda: multiclass.OutputCodeClassifier(_logistic(), 10, "random", seed=3), "multiclass"
        ),
        "OutputCodeClassifier exact": Case(
            lambda: multiclass.OutputCodeClassifier(_logistic(), 3, "exact", seed=3), "multiclass"
        ),
        "active.EntropySampler": Case(lambda: active.EntropySampler(_tree(), seed=3)),
    }


def _filters() -> dict[str, Case]:
    detectors: dict[str, Callable[[], Any]] = {
        "HalfSpaceTrees": lambda: preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(3, 3, 50, seed=3),
        "OneClassSVM": lambda: preprocessing.StandardScaler() | anomaly.OneClassSVM(nu=0.2),
        "LODA": lambda: anomaly.LODA(n_random_cuts=5, seed=3),
        "LocalOutlierFactor": lambda: anomaly.LocalOutlierFactor(5),
    }

    def filtered(name: str) -> Any:
        return anomaly.QuantileFilter(detectors[name](), q=0.95) | _logistic()

    return {
        "anomaly.QuantileFilter": Case(partial(filtered, "OneClassSVM")),
        **_over("QuantileFilter over", filtered, ("HalfSpaceTrees", "LODA", "LocalOutlierFactor")),
        "anomaly.ThresholdFilter": Case(
            lambda: anomaly.ThresholdFilter(detectors["HalfSpaceTrees"](), 0.95) | _logistic()
        ),
        "ThresholdFilter over GaussianScorer": Case(
            lambda: anomaly.ThresholdFilter(anomaly.GaussianScorer(grace_period=20), 0.99) | _scaled(_linear()),
            "regression",
        ),
    }


def _steps() -> dict[str, Case]:
    """Transformers, each before a model that bears what it gives."""
    pp, fx, fs = preprocessing, feature_extraction, feature_selection

    def before(make: Callable[[], Any], data: str = "numbers") -> Case:
        return Case(lambda: make() | _logistic(), "binary", data)

    def numbers_too(make: Callable[[], Any]) -> Case:
        return Case(lambda: (compose.SelectType(float) + make()) | _logistic(), "binary", "mixed")

    numbers = "StandardScaler MinMaxScaler MaxAbsScaler RobustScaler Normalizer AdaptiveStandardScaler Binarizer"
    windows = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler")
    statistics: dict[str, Callable[[], Any]] = {
        "Mean": stats.Mean,
        "EWMean": lambda: stats.EWMean(0.3),
        "BayesianMean": lambda: stats.BayesianMean(prior=1, prior_weight=5),
        "Var": stats.Var,
        "SEM": stats.SEM,
        "Quantile": lambda: stats.Quantile(0.9),
        "RollingQuantile": lambda: stats.RollingQuantile(0.9, 20),
        "IQR": stats.IQR,
        "RollingIQR": lambda: stats.RollingIQR(20),
        "MAD": stats.MAD,
        "Skew": stats.Skew,
        "Kurtosis": stats.Kurtosis,
        "Max": stats.Max,
        "RollingMax": lambda: stats.RollingMax(20),
        "AbsMax": stats.AbsMax,
        "Min": stats.Min,
        "RollingMin": lambda: stats.RollingMin(20),
        "PeakToPeak": stats.PeakToPeak,
        "RollingPeakToPeak": lambda: stats.RollingPeakToPeak(20),
        "Sum": stats.Sum,
        "Count": stats.Count,
        "EWVar": stats.EWVar,
        "Shift": lambda: stats.Shift(1),
        "Link": lambda: stats.Shift(1) | stats.Mean(),
        "Mean of a window": lambda: utils.Rolling(stats.Mean, 20),
        "AutoCorr": lambda: stats.AutoCorr(2),
        "Entropy": stats.Entropy,
        "Mode": stats.Mode,
        "RollingMode": lambda: stats.RollingMode(20),
    }

    def aggregated(name: str) -> Any:
        step = fx.Agg("a", "place", statistics[name]())
        none_yet = pp.StatImputer((step._feature_name, stats.Mean()))
        return (compose.SelectType(float) + (step | none_yet)) | _logistic()

    return {
        **{f"preprocessing.{name}": before(getattr(pp, name)) for name in numbers.split()},
        **_over("window of", lambda name: getattr(pp, name)(window_size=20) | _logistic(), windows),
        "preprocessing.OneHotEncoder": before(pp.OneHotEncoder, "mixed"),
        "preprocessing.OrdinalEncoder": numbers_too(lambda: compose.SelectType(str) | pp.OrdinalEncoder()),
        "preprocessing.FeatureHasher": before(lambda: pp.FeatureHasher(50, seed=3), "mixed"),
        "preprocessing.GaussianRandomProjector": before(lambda: pp.GaussianRandomProjector(3, seed=3)),
        "preprocessing.SparseRandomProjector": before(lambda: pp.SparseRandomProjector(3, seed=3)),
        "preprocessing.PreviousImputer": before(pp.PreviousImputer),
        "preprocessing.StatImputer": before(lambda: pp.StatImputer(("a", stats.Mean()), ("b", stats.Max()))),
        "preprocessing.GapEncoder": before(lambda: pp.GapEncoder(3, on="text", seed=3), "text"),
        "preprocessing.LDA": before(lambda: fx.BagOfWords(on="text") | pp.LDA(3, seed=3), "text"),
        "compose.Select": before(lambda: compose.Select("a", "b")),
        "compose.Discard": before(lambda: compose.Discard("a")),
        "compose.SelectType": before(lambda: compose.SelectType(float), "mixed"),
        "compose.Prefixer": before(lambda: compose.Prefixer("p_")),
        "compose.Suffixer": before(lambda: compose.Suffixer("_s")),
        "compose.Renamer": before(lambda: compose.Renamer({"a": "z"})),
        "compose.FuncTransformer": before(lambda: compose.FuncTransformer(dict)),
        "compose.Grouper": before(
            lambda: (
                compose.Grouper(compose.Select("a", "b") | pp.StandardScaler(), by="place") | compose.Select("a", "b")
            ),
            "mixed",
        ),
        "compose.Pipeline": before(lambda: pp.StandardScaler() | pp.MinMaxScaler()),
        "compose.TransformerUnion": numbers_too(lambda: compose.SelectType(str) | pp.OneHotEncoder()),
        "compose.TransformerProduct": before(lambda: pp.StandardScaler() * pp.MinMaxScaler()),
        "feature_extraction.PolynomialExtender": before(fx.PolynomialExtender),
        "feature_extraction.RBFSampler": before(lambda: fx.RBFSampler(n_components=5, seed=3)),
        "feature_extraction.RandomTreesEmbedding": before(lambda: fx.RandomTreesEmbedding(3, 3, seed=3)),
        "feature_extraction.BagOfWords": before(lambda: fx.BagOfWords(on="text"), "text"),
        "feature_extraction.TFIDF": before(lambda: fx.TFIDF(on="text"), "text"),
        "BagOfWords and MultinomialNB": Case(
            lambda: fx.BagOfWords(on="text") | naive_bayes.MultinomialNB(), "binary", "text"
        ),
        "BagOfWords of three classes": Case(
            lambda: fx.BagOfWords(on="text") | naive_bayes.ComplementNB(), "multiclass", "text"
        ),
        "BagOfWords of a value": Case(lambda: fx.BagOfWords(on="text") | _linear(), "regression", "text"),
        "TFIDF of pairs of words": before(lambda: fx.TFIDF(on="text", ngram_range=(1, 2)), "text"),
        "BagOfWords without stop words": before(lambda: fx.BagOfWords(on="text", stop_words={"the", "a"}), "text"),
        "BagOfWords as it is written": before(
            lambda: fx.BagOfWords(on="text", lowercase=False, strip_accents=False), "text"
        ),
        "BagOfWords by another pattern": before(lambda: fx.BagOfWords(on="text", tokenizer_pattern=r"\w+"), "text"),
        "BagOfWords by str.split": before(lambda: fx.BagOfWords(on="text", tokenizer=str.split), "text"),
        "text beside numbers": Case(
            lambda: (compose.Select("a") | pp.StandardScaler()) + fx.TFIDF(on="text") | _logistic(), "binary", "text"
        ),
        "feature_extraction.Agg": Case(partial(aggregated, "Mean"), "binary", "mixed"),
        **_over("Agg by", aggregated, list(statistics)[1:], data="mixed"),
        "feature_extraction.TargetAgg": Case(
            lambda: (compose.SelectType(float) + fx.TargetAgg("place", stats.Mean())) | _linear(), "regression", "mixed"
        ),
        "TargetAgg by BayesianMean": Case(
            lambda: (compose.SelectType(float) + fx.TargetAgg("place", stats.BayesianMean(1, 5))) | _linear(),
            *("regression", "mixed"),
        ),
        "feature_selection.SelectKBest": before(lambda: fs.SelectKBest(stats.PearsonCorr(), k=2)),
        "SelectKBest by Cov": before(lambda: fs.SelectKBest(stats.Cov(), k=2)),
        "feature_selection.PoissonInclusion": before(lambda: fs.PoissonInclusion(0.5, seed=3)),
        "feature_selection.VarianceThreshold": before(fs.VarianceThreshold),
    }


def _parts() -> dict[str, Case]:
    """Optimizers, losses, splitters, drift detectors, metrics: each inside of a model that takes it."""
    rates = "SGD AdaBound AdaGrad Adam AMSGrad AdaMax Momentum Nadam NesterovMomentum RMSProp Newton"
    optimizers: dict[str, Callable[[], Any]] = {name: partial(getattr(optim, name), 0.05) for name in rates.split()}
    optimizers |= {"AdaDelta": optim.AdaDelta, "FTRLProximal": optim.FTRLProximal}
    optimizers["Averager"] = lambda: optim.Averager(optim.SGD(0.05), 20)
    optimizers["InverseScaling"] = lambda: optim.SGD(optim.schedulers.InverseScaling(0.1))
    optimizers["Optimal"] = lambda: optim.SGD(optim.schedulers.Optimal(optim.losses.Log()))
    values = "Absolute Cauchy EpsilonInsensitiveHinge Huber Quantile Squared Poisson"
    splitters = [splitter.EBSTSplitter, splitter.TEBSTSplitter, splitter.QOSplitter]
    detectors: dict[str, Callable[[], Any]] = {
        **{name: getattr(drift, name) for name in ("ADWIN", "NoDrift", "PageHinkley")},
        "KSWIN": lambda: drift.KSWIN(seed=3),
        "DummyDriftDetector": lambda: drift.DummyDriftDetector(t_0=60, seed=3),
        "DummyDriftDetector at random": lambda: drift.DummyDriftDetector("random", t_0=60, w=20, seed=3),
    }
    up, down = partial(drift.PageHinkley, mode="up"), partial(drift.PageHinkley, mode="down")
    detectors |= {"PageHinkley up": up, "PageHinkley down": down}
    classes = "Accuracy BalancedAccuracy CohenKappa F1 FBeta MacroF1 MicroF1 WeightedF1 GeometricMean Jaccard LogLoss "
    classes += "MCC Precision Recall ROCAUC RollingROCAUC CrossEntropy"
    of_values = "MAE MSE RMSE RMSLE R2 MAPE SMAPE"
    betas = {"FBeta": 0.5}

    def metric(name: str) -> Any:
        return getattr(metrics, name)(*[betas[name]] if name in betas else [])

    clipped = partial(preprocessing.PredClipper, y_min=0, y_max=10)  # a logarithmic error bears nothing below 0

    def selecting(name: str) -> Any:
        return model_selection.SuccessiveHalvingClassifier([_logistic(), _tree()], metric(name), 400)

    def valued(name: str) -> Any:
        return model_selection.SuccessiveHalvingRegressor(
            [clipped(_scaled(_linear())), clipped(_tree_regressor())], metric(name), 400
        )

    leaves = ("mc", "nb", "nba")
    criteria = ("gini", "info_gain", "hellinger")
    normal = partial(optim.initializers.Normal, seed=3)
    numbers = {
        "bins": splitter.HistogramSplitter,
        "all": splitter.ExhaustiveSplitter,
        "bell": splitter.GaussianSplitter,
    }
    return {
        **_over("optimizer", lambda name: _scaled(_logistic(optimizer=optimizers[name]())), optimizers),
        **_over(
            "loss", lambda name: _logistic(loss=getattr(optim.losses, name)()), ["Log", "Hinge", "BinaryFocalLoss"]
        ),
        **_over(
            "loss", lambda name: _scaled(_linear(loss=getattr(optim.losses, name)())), values.split(), "regression"
        ),
        "initializer Normal": Case(lambda: _logistic(initializer=normal())),
        "initializer Constant": Case(lambda: _logistic(initializer=optim.initializers.Constant(0.5))),
        "l1": Case(lambda: _scaled(_logistic(l1=0.01))),
        "l2": Case(lambda: _scaled(_logistic(l2=0.01))),
        **_over("splitter", lambda name: _tree(splitter=numbers[name]()), numbers),
        **_over("splitter", lambda kind: _tree_regressor(splitter=kind()), splitters, "regression"),
        **_over("leaves", lambda name: _tree(leaf_prediction=name), leaves),
        **_over("leaves", lambda n: _tree_regressor(leaf_prediction=n), ("mean", "model", "adaptive"), "regression"),
        **_over(
            "leaf model", lambda kind: _tree_regressor(leaf_model=kind()), [linear_model.PARegressor], "regression"
        ),
        **_over("criterion", lambda name: _tree(split_criterion=name), criteria),
        "tree of words": Case(_tree, "binary", "mixed"),
        "tree regressor of words": Case(lambda: _tree_regressor(leaf_prediction="mean"), "regression", "mixed"),
        "tree regressor of words with linear leaves": Case(_tree_regressor, "regression", "mixed"),
        "adaptive tree of words": Case(
            lambda: tree.HoeffdingAdaptiveTreeClassifier(grace_period=20, seed=3), "binary", "mixed"
        ),
        "quantizer StaticQuantizer": Case(
            lambda: tree.SGTRegressor(feature_quantizer=splitter.StaticQuantizer(warm_start=20), grace_period=20),
            "regression",
        ),
        "quantizer DynamicQuantizer": Case(
            lambda: tree.SGTClassifier(feature_quantizer=splitter.DynamicQuantizer(), grace_period=20)
        ),
        **_over(
            "detector",
            lambda name: forest.ARFClassifier(2, drift_detector=detectors[name](), grace_period=20, seed=3),
            detectors,
        ),
        **_over(
            "detector",
            lambda name: drift.DriftRetrainingClassifier(_tree(), getattr(drift.binary, name)()),
            ["DDM", "EDDM", "FHDDM", "HDDMA", "HDDMW"],
        ),
        **_over("metric", selecting, classes.split()),
        **_over("metric", valued, of_values.split(), "regression"),
        **_over("policy", lambda name: rules.AMRules(20, pred_type=name), ("mean", "model", "adaptive"), "regression"),
        "rules of words": Case(lambda: rules.AMRules(20), "regression", "mixed"),
    }


def table(refused: dict[str, str]) -> list[tuple[str, str]]:
    """What is shown of the sweep: each case and class with what becomes of it."""
    rows = [(name, f"refused: {refused[name]}" if name in refused else "ok") for name in CASES]
    rows += [(name, f"no task fits: {why}") for why, names in NO_TASK.items() for name in names.split()]
    return sorted(rows)


CASES = {
    **_final(),
    **_distances(),
    **_ensembles(),
    **_selections(),
    **_wrappers(),
    **_filters(),
    **_steps(),
    **_parts(),
}

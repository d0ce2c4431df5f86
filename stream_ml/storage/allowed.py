"""What a checkpoint may name: values of Python, numpy and River, and functions and methods that River's models hold.

Whatever stands here can be called with any arguments by whoever writes a checkpoint, so nothing here reads files or the
network, looks up attributes by name, runs text, or makes much of little.
"""

from pathlib import Path

PYTHON = {
    "builtins": {"bool", "complex", "dict", "float", "frozenset", "int", "list", "object", "set"}
    | {"slice", "str", "tuple"},
    "collections": {"Counter", "OrderedDict", "defaultdict", "deque"},
    "copyreg": {"_reconstructor"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "functools": {"partial"},
    "math": {"exp", "expm1", "log", "log10", "log1p", "log2", "sqrt"},
    "operator": {"itemgetter"},
    "random": {"Random"},
    "statistics": {"NormalDist"},
    "uuid": {"UUID"},
    "stream_ml.storage.deep_copy": {"DeepCopy"},
    "stream_ml.storage.random_state": {"set_packed"},
    "stream_ml.core.evaluation.metrics": {"BinnedRocAuc", "ConfusionMatrix", "Accuracy", "MeanLogLoss"},
}
NUMPY_SCALARS = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
NUMPY_SCALARS |= {"float16", "float32", "float64", "bool", "bool_", "str_", "bytes_", "datetime64", "timedelta64"}
NUMPY = {
    "numpy": {"ndarray", "dtype"} | NUMPY_SCALARS,
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
    "numpy.random._generator": {"Generator"},
    "numpy.random._mt19937": {"MT19937"},
    "numpy.random._pcg64": {"PCG64", "PCG64DXSM"},
    "numpy.random._philox": {"Philox"},
    "numpy.random._pickle": {"__randomstate_ctor", "__generator_ctor", "__bit_generator_ctor"},
    "numpy.random._sfc64": {"SFC64"},
    "numpy.random.bit_generator": {"SeedSequence", "__pyx_unpickle_SeedSequence"},
    "numpy.random.mtrand": {"RandomState"},
}
RIVER_FUNCTIONS = {
    "river._river_rust.vectordict": {"euclidean_distance_tuple"},
    "river.feature_extraction.vectorize": {
        "find_all_ngrams",
        "remove_stop_words",
        "strip_accents_unicode",
        "tokenize_using_regex_pattern",
    },
    "river.forest.online_extra_trees": {
        f"ExtraTrees._detection_mode_{mode}" for mode in ("all", "drop", "off", "warning")
    },
    "river.naive_bayes.gaussian": {"GaussianNB._make_gaussian"},
    "river.tree.splitter.nominal_splitter_reg": {
        "NominalSplitterReg._update_estimator_univariate",
        "NominalSplitterReg._update_estimator_multivariate",
    },
    "river.utils.math": {"minkowski_distance"},
    "river.tree.splitter.ebst_splitter": {
        "EBSTNode._update_estimator_univariate",
        "EBSTNode._update_estimator_multivariate",
    },
}
NAMED = {**PYTHON, **NUMPY, **RIVER_FUNCTIONS}
RIVER_CLASSES = {
    module: frozenset(names.split())
    for module, _, names in (
        line.partition(": ") for line in Path(__file__).with_name("river_classes.txt").read_text("utf-8").splitlines()
    )
}
"""Exactly the classes of River's estimators and their parts, by the module that defines them. None of their modules
opens a file or the network; a test holds that, and that the list is the installed River's."""
# `clone` builds what an instance says of itself: of metrics alone, where models hold it.
_METRICS = {module: names for module, names in RIVER_CLASSES.items() if module.startswith("river.metrics.")}
# Methods that models hold, by the class that defines them: a pickle has them as getattr(instance, name).
METHODS = {
    f"{owner}.{name}"
    for owner, names in {
        **{f"{module}.{name}": ("clone",) for module, names in _METRICS.items() for name in names},
        "river.bandit.thompson.ThompsonSampling": ("_clone_reward_obj_with_seed",),
        "river.drift.dummy.DummyDriftDetector": ("_fixed_trigger", "_random_trigger"),
        "river.drift.page_hinkley.PageHinkley": ("_test_increase", "_test_decrease", "_test_both"),
        "river.ensemble.bagging.LeveragingBaggingClassifier": (
            "_leveraging_bag",
            "_leveraging_bag_half",
            "_leveraging_bag_me",
            "_leveraging_bag_wt",
            "_leveraging_subag",
        ),
        "river.feature_extraction.kernel_approx.RBFSampler": ("_random_weights",),
        "river.linear_model.pa.BasePA": ("_calc_tau_0", "_calc_tau_1", "_calc_tau_2"),
        "river.multiclass.occ.OutputCodeClassifier": ("_next_code",),
        "river.preprocessing.random_projection.GaussianRandomProjector": ("_rand_gauss",),
        "river.preprocessing.random_projection.SparseRandomProjector": ("_rand_weights_for_feature",),
        "river.preprocessing.scale_target.TargetMinMaxScaler": ("_scale", "_unscale"),
        "river.preprocessing.scale_target.TargetStandardScaler": ("_scale", "_unscale"),
        "river.tree.splitter.nominal_splitter_reg.NominalSplitterReg": (
            "_update_estimator_univariate",
            "_update_estimator_multivariate",
        ),
        "river.tree.splitter.qo_splitter.Slot": ("_update_estimator_univariate", "_update_estimator_multivariate"),
    }.items()
    for name in names
}
# The same of classes and not of their instances.
CLASS_METHODS = {"river.linear_model.pa.PAClassifier._calc_tau_0", "river.linear_model.pa.PARegressor._calc_tau_0"}
TEXT_METHODS = {"casefold", "lower", "split", "splitlines", "strip", "title", "upper"}  # of str

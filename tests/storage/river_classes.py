"""Writes ``stream_ml/storage/river_classes.txt`` from River: ``python -m tests.storage.river_classes``."""

import importlib
import pkgutil
import warnings
from collections.abc import Iterator

import river

from tests.support.paths import ROOT

FILE = ROOT / "stream_ml" / "storage" / "river_classes.txt"
PACKAGES = (
    *("active", "anomaly", "bandit", "base", "cluster", "compose", "conf", "covariance", "drift", "dummy", "ensemble"),
    *("facto", "feature_extraction", "feature_selection", "forest", "imblearn", "linear_model", "metrics", "misc"),
    *("model_selection", "multiclass", "multioutput", "naive_bayes", "neighbors", "optim", "preprocessing", "proba"),
    *("rules", "sketch", "stats", "time_series", "tree", "utils"),
)
"""Estimators and what these are made of. Not datasets, stream, evaluate, checks: they read files and the network."""
NEVER = ("river.bandit.datasets", "river.bandit.envs", "river.drift.datasets")
NATIVE = "river._river_rust"


def modules() -> Iterator[str]:
    """Names of all modules of these packages."""
    for name in PACKAGES:
        package = importlib.import_module(f"river.{name}")
        yield package.__name__
        for found in pkgutil.walk_packages(getattr(package, "__path__", []), f"{package.__name__}."):
            if not found.name.startswith(NEVER) and ".test" not in found.name:
                yield found.name


def classes() -> dict[str, list[str]]:
    """Classes by the module that defines them."""
    native = importlib.import_module(NATIVE)
    found: dict[str, list[str]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of = [importlib.import_module(name) for name in modules()]
    of += [module for name in vars(native)["__all__"] if (module := getattr(native, name, None)) is not None]
    for module in of:
        own = module.__name__ if module.__name__.startswith("river.") else f"{NATIVE}.{module.__name__}"
        of_module = [thing for thing in vars(module).values() if isinstance(thing, type) and thing.__module__ == own]
        names = {thing.__qualname__ for thing in of_module if not issubclass(thing, type)}  # which would make classes
        if names:
            found[own] = sorted(names)
    return dict(sorted(found.items()))


def text() -> str:
    """As the file has it."""
    return "".join(f"{module}: {' '.join(names)}\n" for module, names in classes().items())


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
    print(f"{FILE}: {sum(map(len, classes().values()))} classes of River {river.__version__}")

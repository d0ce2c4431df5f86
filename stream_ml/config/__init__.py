"""The configuration: its tree, where its values come from, how it is shown."""

from stream_ml.config.load import load_config
from stream_ml.config.tree import (
    OWNED_KEYS,
    Bounds,
    Checkpoints,
    Config,
    Delivery,
    Events,
    Features,
    Feedback,
    Impute,
    Model,
    Pending,
    Predictions,
    Source,
    Worker,
)

__all__ = [
    "OWNED_KEYS",
    "Bounds",
    "Checkpoints",
    "Config",
    "Delivery",
    "Events",
    "Features",
    "Feedback",
    "Impute",
    "Model",
    "Pending",
    "Predictions",
    "Source",
    "Worker",
    "load_config",
]

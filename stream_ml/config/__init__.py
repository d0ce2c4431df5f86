"""The configuration: its tree, where its values come from, how it is shown."""

from stream_ml.config.inputs import Bounds, Events, Features, Feedback, Impute, Predictions, Source
from stream_ml.config.load import load_config
from stream_ml.config.model import Model
from stream_ml.config.service import OWNED_KEYS, Checkpoints, Delivery, Pending, Worker
from stream_ml.config.tree import Config

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

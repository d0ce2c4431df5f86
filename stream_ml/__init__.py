"""Online learning from Kafka: score events, learn from their labels, exactly once, checked in the data.

``LocalApp`` is the same core without Kafka; ``stream_ml.testing.check_model`` is for a model's own tests.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_ml.config import Config, load_config
    from stream_ml.offline.local import LocalApp

__version__ = "0.1.0"
__all__ = ["Config", "LocalApp", "load_config"]

_PLACES = {"Config": "stream_ml.config", "load_config": "stream_ml.config", "LocalApp": "stream_ml.offline.local"}


def __getattr__(name: str) -> Any:
    """What is exported, imported when it is asked for: the command line needs none of it."""
    import importlib

    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

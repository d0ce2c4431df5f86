"""Online learning from Kafka: score events, learn from their labels, exactly once, checked in the data.

``LocalApp`` is the same core without Kafka, ``check_model`` is for a model's own tests. All that is raised for a person
is a ``StreamMLError``; a row that is not of its schema raises ``SchemaMismatch``, which is a ValueError.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_ml.config import Config, load_config
    from stream_ml.core.avro.from_json import SchemaMismatch
    from stream_ml.errors import CheckpointError, ConfigError, FatalError, StreamMLError, TransientError
    from stream_ml.offline.local import LocalApp
    from stream_ml.testing import check_model

__version__ = "0.1.0"
__all__ = [
    "CheckpointError",
    "Config",
    "ConfigError",
    "FatalError",
    "LocalApp",
    "SchemaMismatch",
    "StreamMLError",
    "TransientError",
    "check_model",
    "load_config",
]

_PLACES = {
    "Config": "stream_ml.config",
    "load_config": "stream_ml.config",
    "LocalApp": "stream_ml.offline.local",
    "SchemaMismatch": "stream_ml.core.avro.from_json",
    "check_model": "stream_ml.testing",
    **dict.fromkeys(
        ("CheckpointError", "ConfigError", "FatalError", "StreamMLError", "TransientError"), "stream_ml.errors"
    ),
}


def __getattr__(name: str) -> Any:
    """What is exported, imported when it is asked for: the command line needs none of it."""
    import importlib

    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

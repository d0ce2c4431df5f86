"""A model as a folder that MLflow loads (pyfunc), written without MLflow.

::

    MLmodel  requirements.txt  python_env.yaml  input_example.json
    model/       an export, as `stream-ml models export` writes it
    model.key    its key

Whoever may write to the folder may run code where it is loaded, as with every MLflow model: the key lies beside it.
"""

import datetime
import json
import sys
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from stream_ml.core.inputs.label_domain import LabelDomain

LOADER = "stream_ml.offline.formats.mlflow_model"
EXPORT, KEY = "model", "model.key"
_TYPES = {"int": "integer", "long": "long", "boolean": "boolean"}


def files_of(
    features: Sequence[Mapping[str, Any]], domain: LabelDomain, example: Mapping[str, Any], about: Mapping[str, str]
) -> dict[str, bytes]:
    """All files but the export and its key, by name.

    Parameters
    ----------
    features
        As a plan has resolved them.
    """
    python = ".".join(map(str, sys.version_info[:3]))
    requirements = [f"{name}=={version(name)}" for name in ("stream-ml", "river", "numpy")]
    inputs = [{"name": one["name"], "type": _type(one), "required": False} for one in features]
    outputs = [{"name": "class", "type": "string"}, {"name": "score", "type": "double"}]
    if domain.task == "regression":
        outputs = [{"name": "value", "type": "double"}]
    said = {
        "artifact_path": EXPORT,
        "flavors": {
            "python_function": {
                "data": ".",
                "env": {"virtualenv": "python_env.yaml"},
                "loader_module": LOADER,
                "python_version": python,
            }
        },
        "metadata": dict(about),
        "model_uuid": uuid.uuid4().hex,
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "type": "dataframe",
            "pandas_orient": "split",
        },
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None},
        "utc_time_created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    environment = {"python": python, "dependencies": ["-r requirements.txt"]}
    row = {"columns": list(example), "data": [list(example.values())]}
    return {
        "MLmodel": yaml.safe_dump(said, sort_keys=False).encode(),
        "requirements.txt": "".join(f"{line}\n" for line in requirements).encode(),
        "python_env.yaml": yaml.safe_dump(environment, sort_keys=False).encode(),
        "input_example.json": json.dumps(row).encode(),
    }


def _type(feature: Mapping[str, Any]) -> str:
    """MLflow's word for what a feature is."""
    if feature["kind"] == "number":
        whole = not feature["logical"] and feature["type"] in ("int", "long")
        return _TYPES[feature["type"]] if whole else "double"
    return "boolean" if feature["kind"] == "boolean" else "string"


class Loaded:
    """What MLflow calls: features in, class and score, or value, out."""

    def __init__(self, folder: Path) -> None:
        from stream_ml.offline.local import LocalApp

        self._app = LocalApp.load(folder / EXPORT, folder / KEY)

    def predict(self, model_input, params=None):  # type: ignore[no-untyped-def]
        """Predictions of n rows, as a frame where a frame was given, else as dicts."""
        rows = model_input if isinstance(model_input, list) else _records(model_input)
        found = [self._app.score_features(_given(row)) for row in rows]
        if isinstance(model_input, list):
            return found
        return type(model_input)(found, index=model_input.index)


def _records(frame: Any) -> list[dict[str, Any]]:
    """Rows of a frame, each value of its column's own type."""
    columns = {str(name): frame[name].tolist() for name in frame.columns}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _given(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without what is missing; numpy's values as Python's."""
    found = {}
    for name, value in row.items():
        plain = value.item() if hasattr(value, "item") else value
        if plain is not None and plain == plain:  # noqa: PLR0124 - nan is missing
            found[str(name)] = plain
    return found


def _load_pyfunc(path: str) -> Loaded:
    """MLflow's entry point."""
    return Loaded(Path(path))

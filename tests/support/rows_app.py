"""An app in a folder, without Kafka, and rows of it in files of every kind."""

import csv
import datetime
import json
import random
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
from pyarrow import parquet

from stream_ml.config import Config, load_config
from tests.support import service

T0 = 1_600_000_000_000
_FIELDS: list[Any] = [*service.EVENT["fields"]]
EVENT = {**service.EVENT, "fields": [*_FIELDS[:3], {"name": "n", "type": "long"}, *_FIELDS[3:]]}
LABELS = {"binary": "boolean", "multiclass": "string", "regression": "double"}
MODEL = """
from river import compose, linear_model, preprocessing, tree


def build(l2=0.0):
    numbers = compose.SelectType(int, float) | preprocessing.StandardScaler()
    texts = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (numbers + texts) | linear_model.LogisticRegression(l2=l2)


def linear(l2=0.0):
    return compose.Select("x", "n") | preprocessing.StandardScaler() | linear_model.LogisticRegression(l2=l2)


def scaled(l2=0.0):
    return preprocessing.StandardScaler() | linear_model.LogisticRegression(l2=l2)


def trees(grace_period=100):
    return tree.HoeffdingTreeClassifier(grace_period=grace_period)


def values():
    numbers = compose.SelectType(int, float) | preprocessing.StandardScaler()
    return numbers | linear_model.LinearRegression(intercept_lr=0.1)
"""
FACTORIES = {"binary": "build", "multiclass": "trees", "regression": "values"}


def app(folder: Path, task: str = "binary", **sections: Any) -> Config:
    """The configuration of an app in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = {**service.LABEL, "fields": [*service.LABEL["fields"][:2], {"name": "y", "type": LABELS[task]}]}
    (folder / "event.avsc").write_text(json.dumps(EVENT))
    (folder / "label.avsc").write_text(json.dumps(truth))
    name = f"rows_model_{abs(hash(folder)) % 10**9}"
    (folder / f"{name}.py").write_text(MODEL)
    model: dict[str, Any] = {"factory": f"{name}:{FACTORIES[task]}", "task": task}
    if task == "binary":
        model["positive"] = True
    if task == "multiclass":
        model["labels"] = ["high", "low", "mid"]
    said: dict[str, Any] = {
        "app": {"id": "rows"},
        "kafka": {"bootstrap_servers": "127.0.0.1:1"},
        "events": {"topic": "e", "schema": "event.avsc", "id": "id", "time": "at"},
        "feedback": {"topic": "f", "schema": "label.avsc", "id": "id", "time": "at", "label": "y", "ttl": "1d"},
        "predictions": {"topic": "p"},
        "features": {"exclude": ["note"]},
        "model": model,
    }
    for section, values in sections.items():
        said[section] = {**said.get(section, {}), **values}
    (folder / "stream_ml.yaml").write_text(json.dumps(said))
    return load_config(folder / "stream_ml.yaml")


def module_of(config: Config) -> str:
    """The module that holds an app's factories."""
    return config.model.factory.partition(":")[0]


def rows(count: int, task: str = "binary", seed: int = 1) -> list[dict[str, Any]]:
    """Events with their labels and delays in seconds, some alike."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        x = chance.uniform(0, 10)
        y: Any = chance.random() < 1 / (1 + 2.7 ** (5 - x))
        if task == "multiclass":
            y = "low" if x < 3 else "mid" if x < 7 else "high"
        if task == "regression":
            y = 3 * x + chance.gauss(0, 0.5)
        row = {
            "id": f"e{number}",
            "at": T0 + 1000 * (number // 2),
            "x": x,
            "n": number % 17,
            "kind": chance.choice("abc"),
            "note": None if number % 5 else "é",
        }
        found.append({**row, "y": y, "late": float(chance.randrange(0, 300))})
    return found


def written(folder: Path, some: list[dict[str, Any]], kind: str) -> Path:
    """A file of this kind with these rows."""
    path = folder / f"rows.{kind}"
    timed = [{**row, "at": datetime.datetime.fromtimestamp(row["at"] / 1000, datetime.UTC)} for row in some]
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in some), "utf-8")
    elif kind == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(some[0]))
            writer.writeheader()
            writer.writerows({**row, "y": json.dumps(row["y"]).strip('"')} for row in some)
    elif kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(timed), path)
    else:
        label: Any = {bool: "boolean", str: "string", float: "double"}[type(some[0]["y"])]
        fields = [*EVENT["fields"], {"name": "y", "type": label}, {"name": "late", "type": "double"}]  # type: ignore[misc]
        with path.open("wb") as binary:
            fastavro.writer(binary, {**EVENT, "name": "Row", "fields": fields}, timed)
    return path

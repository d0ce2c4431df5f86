"""The example that is asked by place, as its README says it: played, then four numbers in and a species out."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stream_ml.cli.app import app
from tests.support.api_process import ApiProcess
from tests.support.examples import example
from tests.support.paths import ROOT

pytestmark = pytest.mark.kafka


def test_the_iris_example_knows_its_flowers_by_their_four_numbers(kafka: str, app_id: str, tmp_path: Path) -> None:
    made = example("iris", tmp_path, kafka, app_id)
    try:
        made.start()
        files = [str(tmp_path / name) for name in ("w1.yaml", "flowers.jsonl", "species.jsonl")]
        played = CliRunner().invoke(app, ["play", *files])
        assert played.exit_code == 0, played.output
        made.wait_until_done()
        with ApiProcess(made) as api:
            api.wait_ready()
            rows, known = list[list[float]](), list[str]()
            for flower, species in zip(*map(_lines, ("flowers", "species")), strict=True):
                rows.append([flower[name] for name in ("sepal_length", "sepal_width", "petal_length", "petal_width")])
                known.append(species["species"])
            status, _, said = api.ask("POST", "/v1/predict", {"features": rows})
            assert status == 200 and said["model"]["examples_learned"] == 150
            assert sum(map(str.__eq__, said["prediction"], known)) > 140
            one = api.ask("POST", "/v1/predict", {"features": [5.1, 3.5, 1.4, 0.2]})[2]
            assert one["prediction"] == ["setosa"] == [one["predictions"][0]["class"]]
            asked = {"name": "features", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}
            told = api.ask("POST", f"/v2/models/{app_id}/infer", {"inputs": [asked]})[2]
            outputs = {one["name"]: one["data"] for one in told["outputs"]}
            assert outputs["class"] == ["setosa"] and len(outputs["scores"]) == 3
    finally:
        made.close()


def _lines(name: str) -> list[dict[str, Any]]:
    text = (ROOT / "examples" / "iris" / f"{name}.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]

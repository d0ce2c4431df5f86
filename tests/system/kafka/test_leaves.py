"""A model out of its service, in every form: each says what the service has published for the same events."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from stream_ml.embedded.broker import free_port
from stream_ml.errors import ConfigError
from stream_ml.offline.local import LocalApp
from tests.support.service import T0, service

pytestmark = [pytest.mark.kafka, pytest.mark.filterwarnings("ignore::UserWarning:mlflow")]

MODEL = """
from river import compose, linear_model, preprocessing


def build():
    numbers = compose.Select("x") | preprocessing.StandardScaler()
    texts = compose.Select("kind") | preprocessing.OneHotEncoder()
    return (numbers + texts) | linear_model.LogisticRegression()
"""


def event(number: int) -> dict[str, Any]:
    x = float(number * 7919 % 100)
    return {"id": f"v{number}", "at": T0 + 1000 * number, "x": x, "kind": f"k{number % 3}", "note": None}


def test_files_a_notebook_onnx_and_mlflow_say_what_was_published(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}, features={"exclude": ["note"]}) as made:
        (tmp_path / f"model_{app_id}.py").write_text(MODEL, "utf-8")
        worker = made.start()
        made.pairs(range(20))
        made.wait_until_done()
        made.pairs(range(20, 300))
        made.wait_until_done()
        for number in range(300, 360):
            made.visit(number)
        made.wait_until_done()
        assert worker.stop() == 0, worker.log
        published = {one["event_id"]: one for one in made.predictions()}
        last = [published[f"v{number}"] for number in range(300, 360)]
        (position,) = {one["position"] for one in last}
        some = [event(number) for number in range(300, 360)]
        scores = [one["score"] for one in last]

        # Files, by that version and by what serves now
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in some))
        said = made.typed("predict", "CONFIG", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "now.parquet"))
        assert "60 predictions of 60 rows" in said, said
        found = parquet.read_table(tmp_path / "now.parquet").to_pylist()
        assert [(one["event_id"], one["class"], one["flags"]) for one in found] == [
            (one["event_id"], one["class"], one["flags"]) for one in last
        ]
        np.testing.assert_allclose([one["score"] for one in found], scores, rtol=1e-12)
        assert {one["position"] for one in found} >= {position}
        early = published["v100"]
        (tmp_path / "one.jsonl").write_text(json.dumps(event(100)) + "\n")
        version = f"build/{early['position']}"
        made.typed(
            "predict", "CONFIG", str(tmp_path / "one.jsonl"), "--out", str(tmp_path / "e.jsonl"), "--at", version
        )
        assert json.loads((tmp_path / "e.jsonl").read_text())["score"] == pytest.approx(early["score"], rel=1e-12)
        code, refused = made.ended(
            "predict", "CONFIG", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "now.parquet")
        )
        assert code == 78 and "is there already" in refused

        # Events of the topic between two times
        times = ("--from", "2020-01-01", "--to", "2100-01-01")
        made.typed("predict", "CONFIG", *times, "--at", f"build/{position}", "--out", str(tmp_path / "all.parquet"))
        every = {one["event_id"]: one["score"] for one in parquet.read_table(tmp_path / "all.parquet").to_pylist()}
        assert len(every) == 360 and [every[one["event_id"]] for one in last] == pytest.approx(scores, rel=1e-12)
        code, refused = made.ended(
            "predict", "CONFIG", "--from", "2020-01-01", "--to", "2020-01-02", "--out", "x.parquet"
        )
        assert code == 78 and "no event of" in refused, refused
        code, refused = made.ended("predict", "CONFIG", "--from", "2020-01-01", "--out", "x.parquet")
        assert code == 78 and "give both" in refused, refused

        # A notebook
        app = LocalApp(tmp_path / "w1.yaml", at="now")
        assert app.base is not None and app.examples_learned == 300
        assert [one["score"] for one in app.predict_many(some)] == pytest.approx(scores, rel=1e-12)
        assert app.explain({"x": 3.0, "kind": "k1"}).is_exact
        past = LocalApp(tmp_path / "w1.yaml", at=version)
        assert past.predict_many([event(100)])[0]["score"] == pytest.approx(early["score"], rel=1e-12)
        with pytest.raises(ConfigError, match="lies ahead"):
            LocalApp(tmp_path / "w1.yaml", at="build/999999")
        with pytest.raises(ConfigError, match="no model of this log is named nobody"):
            LocalApp(tmp_path / "w1.yaml", at="nobody")

        # ONNX, JSON, MLflow: three libraries that take seconds to import
        import mlflow
        import onnxruntime
        import pandas

        made.typed("models", "export", "CONFIG", "build", str(tmp_path / "m.onnx"), "--format", "onnx")
        session = onnxruntime.InferenceSession((tmp_path / "m.onnx").read_bytes())
        given = {"x": np.array([one["x"] for one in some]), "kind": np.array([one["kind"] for one in some], object)}
        np.testing.assert_allclose(session.run(["score"], given)[0], scores, rtol=1e-12)
        made.typed("models", "export", "CONFIG", "build", str(tmp_path / "m.json"), "--format", "json")
        plain = json.loads((tmp_path / "m.json").read_text())
        assert plain["examples_learned"] == "300" and re.fullmatch(r"[0-9a-f]{16}/\d+", plain["version"])
        made.typed("models", "export", "CONFIG", "build", str(tmp_path / "ml"), "--format", "mlflow")
        loaded = mlflow.pyfunc.load_model(str(tmp_path / "ml"))
        frame = pandas.DataFrame([{"x": one["x"], "kind": one["kind"]} for one in some])
        answered = loaded.predict(frame)
        np.testing.assert_allclose(answered["score"], scores, rtol=1e-12)
        assert list(answered["class"]) == [one["class"] for one in last]

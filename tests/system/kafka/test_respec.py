"""A model that cannot be built any more, because River was another one: the same under today's versions, honestly."""

import re
from pathlib import Path

import pytest

from stream_ml.embedded.broker import free_port
from tests.support.service import service
from tests.system.kafka.test_rollback import learned
from tests.system.kafka.test_take_over import lineages, status

pytestmark = pytest.mark.kafka

MODEL = """
from river import compose, linear_model, preprocessing, tree


def build():
    return compose.Select("x") | preprocessing.StandardScaler() | linear_model.LogisticRegression()


def trees():
    return compose.Select("x") | tree.HoeffdingTreeClassifier(grace_period=20)
"""
OLDER = """
import importlib.metadata

_version = importlib.metadata.version
importlib.metadata.version = lambda name: "0.25.9" if name == "river" else _version(name)
"""


def test_a_model_of_an_older_river_is_refused_in_words_and_had_again_under_today_s(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    older.mkdir()
    (older / "sitecustomize.py").write_text(OLDER)
    module = f"model_{app_id}"
    with service(tmp_path, kafka, app_id, http={"port": free_port()}, features={"exclude": ["note", "kind"]}) as made:
        (tmp_path / f"{module}.py").write_text(MODEL)
        made.code = older
        worker = made.start()
        for numbers in (range(50), range(50, 200), range(200, 300)):
            learned(made, numbers)
        (old,) = set(lineages(made))
        assert worker.stop() == 0, worker.log
        made.code = None
        worker = made.start(model={"factory": f"{module}:trees"})
        made.wait_for(lambda: status(made).get("answers", "") not in ("", old), "the newer model")
        newer = status(made)["answers"]
        learned(made, range(300, 320))

        code, said = made.ended("rollback", "CONFIG", "--to", "build", "--exclude", "0:5")
        assert code == 78 and "river 0.25.9" in said and "--to build --respec" in said, said
        shown = made.typed("rollback", "CONFIG", "--to", "build", "--respec", "--dry-run")
        assert "it differs in river" in shown and "would declare build~1" in shown, shown
        alike = re.search(r"of (\d+) examples that build has scored it says the same in (\d+); it differs by", shown)
        assert alike is not None and alike[1] == alike[2] and int(alike[1]) > 200, shown
        assert status(made)["answers"] == newer

        said = made.typed("rollback", "CONFIG", "--to", "build", "--respec")
        assert "serve stands at" in said, said
        made.wait_for(lambda: status(made)["answers"] not in (old, newer), "the model of before")
        learned(made, range(320, 340))
        again = lineages(made)[-1]
        assert again not in (old, newer)
        code, said = made.ended("rollback", "CONFIG", "--to", "build", "--respec")
        assert code == 78 and f"is build~1 ({again}), which the log knows" in said, said
        code, said = made.ended("rollback", "CONFIG", "--to", "build~1", "--respec")
        assert code == 78 and "can be built here as it was" in said, said
        code, said = made.ended("rollback", "CONFIG", "--respec")
        assert code == 78 and "of a whole model" in said, said
        assert worker.stop() == 0, worker.log
        assert not made.audited(sample=0)["findings"]

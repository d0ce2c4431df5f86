"""A changed model takes over behind the one that serves; the log decides who does, and not the last file."""

from pathlib import Path
from typing import Any

import pytest

from stream_ml.embedded.broker import free_port
from tests.support.service import Service, service

pytestmark = pytest.mark.kafka

TREE = """
from river import tree

from helper_{app} import GRACE


def build():
    return tree.HoeffdingTreeClassifier(grace_period=GRACE)
"""


def change_model(made: Service, grace: int = 20, text: str = TREE) -> None:
    """Another model.py, which imports a helper, in the place of the one that was there."""
    app = made.config.app.id
    (made.folder / f"helper_{app}.py").write_text(f"GRACE = {grace}\n", "utf-8")
    (made.folder / f"model_{app}.py").write_text(text.format(app=app), "utf-8")


def lineages(made: Service, partition: int = 0) -> list[str]:
    """Of all predictions, in their order."""
    return [found["lineage"] for found in made.predictions(partition)]


def roles_hold(made: Service) -> list[tuple[str, int, str]]:
    """Lineage, epoch and flags, once each in their order; every prediction is by whom its epoch names, or flagged."""
    found: list[tuple[str, int, str]] = []
    serves: dict[int, str] = {}
    for number in range(made.partitions):
        for said in made.predictions(number):
            superseded = "superseded" in said["flags"].split(",")
            if not superseded:
                assert serves.setdefault(said["epoch"], said["lineage"]) == said["lineage"]
            of = (said["lineage"], said["epoch"], "superseded" if superseded else "")
            if of not in found:
                found.append(of)
    return found


def status(made: Service) -> dict[str, Any]:
    """What the worker says of its models."""
    found: dict[str, Any] = made.status().get("models", {"serves": "", "answers": ""})
    return found


def test_a_changed_model_takes_over_and_the_old_one_answers_until_then(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        worker = made.start()
        made.pairs(range(400))
        made.wait_until_done()
        assert worker.stop() == 0
        (old,) = set(lineages(made))
        change_model(made)
        worker = made.start()
        made.wait_for(lambda: status(made)["serves"] not in ("", old), "taking over")
        made.pairs(range(400, 500))
        made.wait_until_done()
        assert worker.stop() == 0, worker.log
        new = lineages(made)[-1]
        assert new != old
        held = roles_hold(made)
        assert [(lineage, bool(flag)) for lineage, _, flag in held] in ([(old, False), (new, False)],), held
        found = made.audited(sample=200)
        assert not found["findings"] and found["rescored"]["unchecked"] == 0, found


def test_a_restart_with_the_old_file_undoes_nothing(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        before = (tmp_path / f"model_{app_id}.py").read_text("utf-8")
        worker = made.start()
        made.pairs(range(100))
        made.wait_until_done()
        assert worker.stop() == 0
        (old,) = set(lineages(made))
        change_model(made)
        worker = made.start()
        made.wait_for(lambda: status(made)["serves"] not in ("", old), "taking over")
        new = status(made)["serves"]
        assert worker.stop() == 0
        (tmp_path / f"model_{app_id}.py").write_text(before, "utf-8")
        worker = made.start()
        made.pairs(range(100, 200))
        made.wait_until_done()
        now = status(made)
        assert (now["serves"], now["answers"]) == (new, new)
        assert lineages(made)[-1] == new
        assert worker.stop() == 0, worker.log

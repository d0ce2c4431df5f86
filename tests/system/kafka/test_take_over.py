"""A changed model takes over behind the one that serves; the log decides who does, and not the last file."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from stream_ml.admin.models.log import ModelLog
from stream_ml.embedded.broker import free_port
from stream_ml.errors import ConfigError
from stream_ml.kafka.writing.commands import write_command
from tests.support.other_versions import other_river
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


def ready(made: Service) -> list[str]:
    """Lineages that the worker has at the log's end."""
    return [one["lineage"] for one in status(made)["lines"] if one["ready"]]


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


# --- operators ---


def declared(made: Service, grace: int = 50) -> str:
    """Declare another model than the one that serves, by hand; its lineage."""
    change_model(made, grace)
    said = made.typed("models", "declare", "CONFIG", "--name", "trees")
    found = re.search(r"model trees \(([0-9a-f]{16})\) is declared", said)
    assert found is not None, said
    return found[1]


def test_a_model_stands_by_is_promoted_and_rolled_back_while_events_flow(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        worker = made.start()
        made.pairs(range(200))
        made.wait_until_done()
        (old,) = set(lineages(made))
        new = declared(made)
        made.wait_for(lambda: new in ready(made), "standing by")
        assert status(made)["serves"] == status(made)["answers"] == old
        listed = made.typed("models", "ls", "CONFIG")
        assert "build" in listed and "trees" in listed and "standby" in listed, listed
        made.pairs(range(200, 260))
        made.wait_until_done()
        said = made.typed("promote", "CONFIG", "trees", "--why", "a test")
        assert "stands ready" in said and "obeyed" in said and "back: stream-ml promote CONFIG build" in said, said
        made.wait_for(lambda: status(made)["answers"] == new, "obeying")
        made.pairs(range(260, 320))
        made.wait_until_done()
        assert lineages(made)[-1] == new
        assert "serves already" in made.typed("promote", "CONFIG", "trees")
        made.typed("rollback", "CONFIG", "--to", old[:8])
        made.wait_for(lambda: status(made)["answers"] == old, "rolling back")
        made.pairs(range(320, 380))
        made.wait_until_done()
        assert lineages(made)[-1] == old
        assert "is retired" in made.typed("models", "retire", "CONFIG", "trees")
        code, refused = made.ended("promote", "CONFIG", "trees")
        assert code == 78 and "is not standing by" in refused, refused
        assert "differ in: estimator, factory" in made.typed("models", "diff", "CONFIG", "build", "trees").replace(
            "distributions, ", ""
        ) or "sources" in made.typed("models", "diff", "CONFIG", "build", "trees")
        shown = made.typed("models", "show", "CONFIG", "trees")
        assert "helper_" in shown and "parameters {}" in shown and "retired" in shown, shown
        assert worker.stop() == 0, worker.log
        assert [(lineage, flag) for lineage, _, flag in roles_hold(made)] == [(old, ""), (new, ""), (old, "")]
        audited = made.audited(sample=300)
        assert not audited["findings"], audited


def test_two_operators_promote_at_once(kafka: str, app_id: str, tmp_path: Path) -> None:
    """Both have looked at one epoch: one is obeyed, the other is told so, and nothing else happens."""
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        made.start()
        made.pairs(range(50))
        made.wait_until_done()
        new = declared(made)
        one, other = ModelLog(made.config), ModelLog(made.config)
        old = one.roles.table.lineage
        assert one.serve(one.named("trees"), "first") > 0
        with pytest.raises(ConfigError, match="it replaces epoch"):
            other.serve(other.named("trees"), "second")
        made.wait_for(lambda: (status(made)["serves"], status(made).get("refused")) == (new, 1), "obeying and refusing")
        assert old != new


def test_what_makes_no_sense_is_refused_in_words(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        made.start()
        made.pairs(range(20))
        made.wait_until_done()
        said = made.ended("promote", "CONFIG", "nobody")
        assert said[0] == 78 and "no model of this log is named nobody; there are: build" in said[1], said
        said = made.ended("models", "retire", "CONFIG", "build")
        assert said[0] == 78 and "serves: put another one in its place first" in said[1], said
        write_command(made.config, "serve", {"epoch": 0, "arms": [{"lineage": "f" * 16, "share": 10_000}]})
        made.wait_for(lambda: status(made)["refused"] == 2, "refusing")
        made.pairs(range(20, 40))
        made.wait_until_done()
        assert set(roles_hold(made)) == {(status(made)["serves"], status(made)["epoch"], "")}


# --- what cannot be built, and what breaks ---

RAISES = """
from river import linear_model


class Raises(linear_model.LogisticRegression):
    def learn_one(self, x, y, w=1.0):
        super().learn_one(x, y, w)
        if x["x"] == 1013.0:
            raise ValueError("odd")


def build():
    return Raises()
"""


def test_another_river_folds_before_it_joins_and_the_old_worker_goes_on_flagged(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    """Case 15: the new worker cannot build the old model, nor the old worker the new one: nothing stands still."""
    ports = {"w1": {"port": free_port()}, "w2": {"port": free_port()}}
    with service(tmp_path, kafka, app_id, partitions=2, http=ports["w1"]) as made:
        first = made.start("w1")
        made.pairs(range(100))
        made.wait_until_done()
        (old,) = {lineage for number in (0, 1) for lineage in lineages(made, number)}
        made.code = other_river(tmp_path)
        second = made.start("w2", http=ports["w2"])
        made.code = None
        made.wait_for(lambda: status(made)["serves"] not in ("", old), "taking over")
        made.wait_for(lambda: second.joined, "joining")
        made.pairs(range(100, 300))
        made.wait_until_done()
        held = roles_hold(made)
        assert {flag for lineage, epoch, flag in held if lineage == old and epoch > 10} == {"superseded"}, held
        missing = [one["problem"] for one in status(made)["lines"] if one["lineage"] == status(made)["serves"]]
        assert "river 99.0.0 (here" in missing[0], missing
        assert "cannot be had here: it was made with river 99.0.0" in made.problems()
        assert second.stop() == 0, second.log
        made.pairs(range(300, 320))
        made.wait_until_done()
        assert first.stop() == 0, first.log
        assert made.audit().findings == []


@pytest.mark.long
def test_a_standby_that_raises_halts_itself_and_the_one_that_serves_learns_on(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        worker = made.start()
        made.pairs(range(50))
        made.wait_until_done()
        change_model(made, text=RAISES)
        said = made.typed(
            *("models", "declare", "CONFIG", "--name", "raises", "--set", "features.include=[x]"),
            *("--set", f"model.checkpoint_types=[model_{app_id}.Raises]"),
        )
        bad = re.search(r"\(([0-9a-f]{16})\)", said)
        assert bad is not None
        made.wait_for(lambda: bad[1] in ready(made), "standing by")
        made.visit(50, x=1013.0)
        made.truth(50)
        made.pairs(range(51, 120))
        made.wait_until_done()
        made.wait_for(lambda: made.learned == 120, "learning on")

        def halted() -> list[Any]:
            return [one["halted"] for one in status(made)["lines"] if one["lineage"] == bad[1] and one["halted"]]

        made.wait_for(lambda: bool(halted()) and halted()[0]["reason"] == "model_raised", "halting alone")
        assert f"model raises ({bad[1]}) is halted" in made.problems()
        position = str(halted()[0]["position"])
        assert "obeys it there" in made.typed("skip", "CONFIG", position, "--model", "raises", "--anyway")
        made.wait_for(lambda: not halted() and bad[1] in ready(made), "going on")
        assert {flags for _, _, flags in roles_hold(made)} == {""}
        assert all(said["flags"] in ("", "cold") for said in made.predictions())
        assert worker.stop() == 0, worker.log
        assert made.audited()["findings"] == []


# --- settings, disks and keys ---


@pytest.mark.long
def test_what_only_watches_is_no_lineage(kafka: str, app_id: str, tmp_path: Path) -> None:
    """Another window: the model's checkpoint is taken, quality is folded anew."""
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        worker = made.start()
        made.pairs(range(120))
        made.wait_until_done()
        assert worker.stop() == 0
        (old,) = set(lineages(made))
        before = made.newest_quality()
        worker = made.start(quality={"window": 200})
        made.wait_for(lambda: status(made)["answers"] == old, "answering")
        assert f"of {old} loaded" in worker.log and "of book loaded" not in worker.log
        assert worker.stop() == 0, worker.log
        folders = [path.name for path in (tmp_path / "checkpoints" / "book").iterdir()]
        assert len(folders) == 2 and made.newest_quality() == before


@pytest.mark.long
def test_upgrade_by_hand_ends_with_what_to_type(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, models={"upgrade": "manual"}) as made:
        worker = made.start()
        made.pairs(range(20))
        made.wait_until_done()
        assert worker.stop() == 0
        change_model(made)
        worker = made.start()
        assert worker.wait() == 78
        assert "stream-ml models declare CONFIG" in worker.log and "models.upgrade is manual" in worker.log
        said = made.typed("models", "declare", "CONFIG")
        assert "stream-ml promote CONFIG build~2" in said
        worker = made.start()
        made.pairs(range(20, 40))
        made.wait_until_done()
        assert worker.stop() == 0, worker.log
        assert len(set(lineages(made))) == 1


@pytest.mark.parametrize("keyed", [True, False])
def test_a_worker_without_its_disk_gets_the_old_model_out_of_the_log_where_there_is_a_key(
    kafka: str, app_id: str, tmp_path: Path, keyed: bool
) -> None:
    (tmp_path / "models.key").write_text("k" * 32, "utf-8")
    models = {"models": {"key_file": "models.key"}} if keyed else {}
    with service(tmp_path, kafka, app_id, http={"port": free_port()}, **models) as made:
        worker = made.start()
        made.pairs(range(100))
        made.wait_until_done()
        assert worker.stop() == 0
        (old,) = set(lineages(made))
        shutil.rmtree(tmp_path / "model-store")
        change_model(made)
        worker = made.start()
        made.wait_for(lambda: status(made)["serves"] not in ("", old), "taking over")
        assert (f"({old}) was brought from the log" in worker.log) is keyed
        assert (f"model {old} cannot be had here: it is in the log alone" in worker.log) is not keyed
        made.pairs(range(100, 120))
        made.wait_until_done()
        assert worker.stop() == 0, worker.log
        assert made.audit().findings == []


@pytest.mark.long
def test_models_build_leaves_a_checkpoint_with_which_a_worker_takes_over_at_once(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        worker = made.start()
        made.pairs(range(150))
        made.wait_until_done()
        (old,) = set(lineages(made))
        change_model(made)
        code, said = made.ended("models", "build", "CONFIG")
        found = re.search(r"model ([0-9a-f]{16}) is at [\d,]+ of", said)
        assert code == 0 and found is not None and "takes over at once" in said, said
        assert status(made)["serves"] == old
        assert worker.stop() == 0, worker.log
        worker = made.start()
        made.wait_for(lambda: status(made)["answers"] == found[1], "taking over")
        assert f"of {found[1]} loaded" in worker.log
        assert worker.stop() == 0, worker.log

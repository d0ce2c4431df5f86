"""Rollback: a lineage that leaves examples out takes the place of one that learned them, while events flow."""

import re
from pathlib import Path
from typing import Any

import pytest

from stream_ml.admin.models.log import ModelLog
from stream_ml.app.assemble import assemble
from stream_ml.core.fold.book import Book
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.model.selection import Selection
from stream_ml.embedded.broker import free_port
from stream_ml.follower.past.judged import judged_entries
from stream_ml.follower.recipes import Recipes
from tests.support.service import Service, brothers, service
from tests.system.kafka.test_take_over import lineages, roles_hold, status

pytestmark = pytest.mark.kafka

DECLARED = re.compile(r"model (\S+) \(([0-9a-f]{16})\) is declared")


def learned(made: Service, numbers: range, *, flipped: bool = False) -> tuple[int, int]:
    """Pairs that were learned, with right or wrong labels; where they stand in the log."""
    log = ModelLog(made.config)
    first = log.position
    for number in numbers:
        made.visit(number)
        made.truth(number, y=(number * 7919 % 100 > 50) is not flipped)
    made.wait_until_done()
    return first, log.read()


def honest(made: Service, poisoned: Selection, upto: int) -> list[tuple[str, ...]]:
    """The probe bits of a model of this code that was given the log without what is poisoned, by hand."""
    log = ModelLog(made.config)
    settings = Recipes(assemble(made.config), log.facts, log.seal).own.settings
    book, model = Book(settings), LineageModel(settings)
    for judged in judged_entries(made.config, settings, book, upto, log.seal):
        for one in judged:
            for item in one.item.singles() if hasattr(one.item, "singles") else [one.item]:
                if not poisoned.excludes(item.record.offset):
                    model.fold([one._replace(item=item)])
    return model.probe_bits()


def state_of(made: Service, lineage: str) -> dict[str, Any]:
    """What the worker says of a model."""
    return next(one for one in made.status()["models"]["lines"] if one["lineage"] == lineage)


def learns(made: Service, lineage: str, count: int) -> None:
    """Wait until the worker says that a model has learned so many, and no more."""

    def there() -> bool:
        lines = made.status()["models"]["lines"]
        return (lineage, count) in [(one["lineage"], one["examples_learned"]) for one in lines]

    made.wait_for(there, f"{count} examples of {lineage}: {made.status()['models']['lines']}", 30.0)


def test_a_poisoned_stretch_is_found_left_out_and_never_learned(kafka: str, app_id: str, tmp_path: Path) -> None:
    """As an operator does it: look, leave out, and go on; the model is the one that never saw it.

    A checkpoint of the model that was left is pinned: it stays when newer ones push the others out.
    """
    with service(tmp_path, kafka, app_id, http={"port": free_port()}, checkpoints={"interval": "1s"}) as made:
        worker = made.start()
        learned(made, range(300))
        first, stop = learned(made, range(300, 400), flipped=True)
        learned(made, range(400, 450))
        (old,) = set(lineages(made))
        made.wait_for(lambda: old in made.typed("checkpoints", "ls", "CONFIG"), "a checkpoint")
        shown = made.typed(
            "rollback",
            "CONFIG",
            "--where",
            "label_time>=2020-09-13T12:32:10Z and label_time<2020-09-13T12:33:50Z",
            "--dry-run",
        )
        assert "leaves out 100 examples" in shown and "would declare build~1" in shown, shown
        assert "labelled true" in shown and "before" in shown, shown
        assert len(ModelLog(made.config).roles.declared) == 1, "it wrote nothing"
        said = made.typed("rollback", "CONFIG", "--exclude", f"{first}:{stop}", "--why", "labels were flipped")
        assert "leaves out 100 examples" in said and "obeyed" in said and "promote CONFIG build" in said, said
        found = DECLARED.search(said)
        assert found is not None and found[1] == "build~1"
        new = found[2]
        made.wait_for(lambda: status(made)["answers"] == new, "obeying")
        learned(made, range(450, 500))
        assert lineages(made)[-1] == new
        assert state_of(made, new)["position"] == state_of(made, old)["position"]
        made.wait_for(lambda: "pinned: left-" in made.typed("checkpoints", "ls", "CONFIG", old), "a pin")
        assert worker.stop() == 0, worker.log
        assert [(lineage, flag) for lineage, _, flag in roles_hold(made)] == [(old, ""), (new, "")]
        audited = made.audited(sample=500)
        assert not audited["findings"] and not audited["rescored"]["unchecked"], audited
        log = ModelLog(made.config)
        recipes = Recipes(assemble(made.config), log.facts, log.seal)
        recipe = recipes.of(new, log.roles.declared[new])
        assert not isinstance(recipe, str), recipe
        left_out = recipe.parts.selection
        assert left_out == Selection(((first, stop),))
        model = LineageModel(recipes.fresh(recipe))
        settings = recipe.settings
        for judged in judged_entries(made.config, settings, Book(settings), log.position, log.seal):
            model.fold(judged)
        assert model.probe_bits() == honest(made, left_out, log.position)
        assert model.examples_learned == 400


@pytest.mark.long
def test_a_model_as_of_a_version_learns_on_and_one_that_is_held_does_not(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        worker = made.start()
        _, upto = learned(made, range(150))
        learned(made, range(150, 250), flipped=True)
        said = made.typed("rollback", "CONFIG", "--to", f"build/{upto}")
        back = DECLARED.search(said)
        assert back is not None and "learns on from" in said, said
        learned(made, range(250, 300))
        learns(made, back[2], 200)
        said = made.typed("rollback", "CONFIG", "--to", f"build/{upto:,}", "--hold")
        held = DECLARED.search(said)
        assert held is not None and held[1] == "build~2" and "is held at" in said, said
        learned(made, range(300, 330))
        learns(made, held[2], 150)
        made.typed("resume", "CONFIG", "--model", held[2])
        learned(made, range(330, 350))
        learns(made, held[2], 170)
        assert worker.stop() == 0, worker.log
        assert not made.audited(sample=350)["findings"]


@pytest.mark.long
def test_what_came_while_learning_was_frozen_is_learned_where_that_is_asked_for(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    """The usual way of an incident: freeze, look, roll back, resume."""
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        worker = made.start()
        learned(made, range(100))
        first, stop = learned(made, range(100, 150), flipped=True)
        made.typed("freeze", "CONFIG")
        learned(made, range(150, 200))
        said = made.typed("rollback", "CONFIG", "--exclude", f"{first}:{stop}", "--learn-frozen")
        found = DECLARED.search(said)
        assert found is not None, said
        made.wait_for(lambda: status(made)["answers"] == found[2], "obeying")
        learned(made, range(200, 220))
        learns(made, found[2], 100 + 50 + 20)
        made.typed("resume", "CONFIG")
        learned(made, range(220, 230))
        learns(made, found[2], 180)
        assert worker.stop() == 0, worker.log
        assert not made.audited(sample=230)["findings"]


WRONG: list[tuple[tuple[str, ...], str]] = [
    (("--exclude", "9000:9001"), "no example of"),
    (("--where", "event.kid=k9"), "has no field kid"),
    (("--to", "build/9999999"), "no version of the past"),
    (("--to", "nobody", "--dry-run"), "no model of this log is named nobody"),
    (("--exclude", "5:5"), "no range of offsets"),
    (("--where", "store=7"), "there is no field store"),
    (("--where", "partition ~ 3"), "is no comparison"),
    (("--where", "label_time>=yesterday"), "is no time"),
    (("--where", "event.kind=k9"), "no example of"),
    (("--to", "build/now"), "names no version"),
    (("--to", "nobody/3"), "no model of this log is named nobody"),
    (("--to", "build", "--hold"), "name it: --to NAME/POSITION"),
    (("--to", "build/3", "--hold", "--learn-frozen"), "give one of them"),
    (("--to", "build/3", "--exclude", "1:2"), "two ways back"),
    ((), "there is nothing to go back to"),
]


@pytest.mark.parametrize("number", brothers(0, 1))
def test_what_cannot_be_gone_back_to_is_refused_in_words_before_anything_is_written(
    kafka: str, app_id: str, tmp_path: Path, number: int
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        worker = made.start()
        learned(made, range(30))
        for words, why in WRONG[:4] if number == 0 else WRONG[4:]:
            code, said = made.ended("rollback", "CONFIG", *words)
            assert code == 78 and why in said and "Traceback" not in said, (words, said)
        assert len(ModelLog(made.config).roles.declared) == 1
        shown = made.typed(
            "rollback", "CONFIG", "--where", 'event.kind=k1 and partition=0 and label="true"', "--dry-run"
        )
        assert "leaves out 4 examples" in shown and "and 1 other range," in shown and "partition 0;" in shown, shown
        assert worker.stop() == 0

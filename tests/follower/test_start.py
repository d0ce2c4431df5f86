"""What a start comes to: from checkpoints of any age, with models that cannot be had, and where it is refused."""

import pytest

from stream_ml.errors import ConfigError
from stream_ml.follower.restore import BOOK
from tests.app.test_private_modules import a_process_of_its_own as a_process_of_its_own  # noqa: PLC0414
from tests.app.test_private_modules import forget
from tests.core.fold.test_fold import SPOILS
from tests.core.fold.test_roles import declare as declare_number
from tests.support.follower_on_a_list import (
    BRITTLE,
    LINEAR,
    RIDGE,
    App,
    Log,
    assert_as_from_0,
    end_at_once,
    settle,
    turn_until,
    write_checkpoints,
)

READS_A_FILE = """
from pathlib import Path
from river import linear_model

def build():
    Path(__file__).with_name("words.txt").read_text("utf-8")
    return linear_model.LogisticRegression()
"""


# --- checkpoints of several ages ---


def test_a_start_meets_a_model_between_the_halt_and_the_command_that_ended_it(app: App, log: Log) -> None:
    config = app.config(LINEAR)
    lineage = app.serving(config)
    log.usual(100)
    app.started(config).finish(1.0, 30.0)
    worker = app.started(config)
    halted_at = log.example(1.0, missing=3)
    log.usual(400)
    assert settle(worker, log).book.halt is not None
    ended_at = log.command("accept-gap", position=halted_at)
    log.usual(20)
    turn_until(worker, lambda: worker.book.halt is None and worker.book.position > halted_at + 10)
    worker.checkpoints.begin([worker.replica])
    while worker.checkpoints.written(lineage)["position"] is None:  # the model's is the first
        worker.checkpoints.write_on(1.0)
    end_at_once(worker)
    assert halted_at < worker.checkpoints.stands_at[lineage] < ended_at
    again = app.started(config)
    assert again.checkpoints.stands_at[BOOK] <= halted_at
    assert_as_from_0(settle(again, log), log, app.recipe(config))
    assert (again.book.position, again.book.halt) == (log.end, None)


@pytest.mark.parametrize("behind", ["the one that serves", "the standby", "the book", "both models"])
def test_a_start_from_checkpoints_of_several_ages_has_the_bits_of_a_fold_from_0(
    app: App, log: Log, behind: str
) -> None:
    config, other = app.config(LINEAR), app.config(RIDGE)
    serves, standby = app.serving(config), app.declare(other)
    log.usual(150)
    worker = settle(app.started(config), log)
    write_checkpoints(worker)
    old = log.end
    log.usual(150)
    settle(worker, log).finish(1.0, 30.0)
    log.usual(30)
    for name in {"the one that serves": [serves], "the standby": [standby], "the book": [BOOK]}.get(
        behind, [serves, standby]
    ):
        app.forget_checkpoints(name, after=old)
    again = app.started(config)
    assert (again.serving.model.settings.lineage, again.serving.superseded) == (serves, False)
    assert again.serving.model.position == log.end
    assert_as_from_0(settle(again, log), log, app.recipe(config), app.recipe(other))


def test_at_a_start_the_model_that_serves_answers_and_not_a_standby_that_was_ready_earlier(app: App, log: Log) -> None:
    config, other = app.config(LINEAR), app.config(RIDGE)
    serves, standby = app.serving(config), app.declare(other)
    log.usual(60)
    worker = settle(app.started(config), log)
    write_checkpoints(worker)
    old = log.end
    log.usual(600)
    settle(worker, log).finish(1.0, 30.0)
    app.forget_checkpoints(serves, after=old)
    for own in (config, other):  # the configuration proposes, the table decides
        again = app.started(own)
        assert again.checkpoints.stands_at[standby] == log.end > again.checkpoints.stands_at[serves]
        assert (again.serving.model.settings.lineage, again.serving.superseded) == (serves, False)
        assert again.serving.model.position == log.end
        assert log.written == []
        end_at_once(again)


@pytest.mark.parametrize("own", ["before", "serves"])
def test_the_model_before_answers_superseded_while_the_one_that_serves_learns_the_whole_log(
    app: App, log: Log, own: str
) -> None:
    configs = {"before": app.config(LINEAR), "serves": app.config(RIDGE)}
    before = app.serving(configs["before"])
    log.usual(300)
    app.started(configs["before"]).finish(1.0, 30.0)
    serves = app.serving(configs["serves"])
    log.usual(10)
    worker = app.started(configs[own])
    assert (worker.serving.model.settings.lineage, worker.serving.superseded) == (before, True)
    settle(worker, log)
    assert (worker.serving.model.settings.lineage, worker.serving.superseded) == (serves, False)
    assert_as_from_0(worker, log, app.recipe(configs["serves"]))


# --- stopped, and refused ---


def test_a_start_that_is_told_to_stop_writes_no_command(app: App, log: Log) -> None:
    config = app.config(LINEAR)
    app.serving(config)
    log.usual(50)
    app.started(config).finish(1.0, 30.0)
    worker = app.follower(app.config(RIDGE))
    worker.start(stop=lambda: True)
    worker.finish(1.0, 30.0)
    assert log.written == []


def test_a_start_that_is_told_to_stop_folds_no_more_and_the_next_goes_on_from_there(app: App, log: Log) -> None:
    config = app.config(LINEAR)
    app.serving(config)
    log.usual(2_000)
    worker = app.follower(config)
    worker.start(stop=lambda: worker.book.position > 500)
    assert 500 < worker.book.position < log.end
    worker.finish(1.0, 30.0)
    again = app.follower(config)
    again.start(stop=lambda: True)
    assert again.book.position == worker.book.position < log.end


def test_a_worker_whose_start_was_refused_can_be_finished(app: App, log: Log) -> None:
    config = app.config(LINEAR)
    app.serving(config)
    log.usual(50)
    worker = app.follower(app.config(RIDGE, upgrade="manual"))
    with pytest.raises(ConfigError, match=r"models\.upgrade is manual"):
        worker.start()
    worker.finish(1.0, 30.0)
    assert log.written == []


def test_a_follower_that_never_started_can_be_finished(app: App) -> None:
    app.follower(app.config(LINEAR)).finish(1.0, 30.0)


# --- models that cannot be had ---


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_served_model_whose_factory_raises_is_missing_and_another_one_answers(
    app: App, log: Log, checkpoint: bool
) -> None:
    (app.folder / "words.txt").write_text("beside the configuration, and not in the store", "utf-8")
    (app.folder / "own_model.py").write_text(READS_A_FILE, "utf-8")
    served = app.serving(app.config({"factory": "own_model:build"}))
    log.usual(50)
    if checkpoint:
        app.started(app.config({"factory": "own_model:build"})).finish(1.0, 30.0)
    forget(app.folder)
    (app.folder / "own_model.py").write_text(f"{READS_A_FILE}\n# another version\n", "utf-8")
    worker = app.started(app.config({"factory": "own_model:build"}))
    assert "words.txt" in worker.lineup.unbuildable[served]
    assert worker.serving.model.settings.lineage == worker.recipes.own.lineage != served
    log.usual(20)
    assert_as_from_0(settle(worker, log), log, worker.recipes.own)


def test_a_standby_whose_factory_raises_ends_no_worker(app: App, log: Log) -> None:
    config = app.config(LINEAR)
    serves = app.serving(config)
    log.usual(50)
    first = app.started(config)
    (app.folder / "words.txt").write_text("beside the configuration, and not in the store", "utf-8")
    (app.folder / "own_model.py").write_text(READS_A_FILE, "utf-8")
    standby = app.declare(app.config({"factory": "own_model:build"}))
    forget(app.folder)
    log.usual(20)
    for worker in (first, app.started(config)):
        settle(worker, log)
        assert "words.txt" in worker.lineup.unbuildable[standby]
        assert list(worker.replica.models) == [serves]
        assert worker.replica.models[serves].position == log.end


def test_a_standby_that_is_in_the_log_alone_ends_no_worker(app: App, log: Log) -> None:
    config = app.config(LINEAR)
    serves = app.serving(config)
    log.add(declare_number(5))
    standby = log.roles.standbys[0].lineage
    log.usual(20)
    worker = settle(app.started(config), log)
    assert "models.key_file" in worker.lineup.unbuildable[standby]
    assert worker.serving.model.settings.lineage == serves


def test_a_spoilt_standby_is_done_without_where_the_log_has_lost_its_beginning(app: App, log: Log) -> None:
    config, other = app.config(LINEAR), app.config(BRITTLE)
    serves, standby = app.serving(config), app.declare(other)
    log.usual(70)
    worker = settle(app.started(config), log)
    write_checkpoints(worker)  # after the last healthy example: a successor would have to begin at 0
    log.first = 50
    log.example(SPOILS)
    log.usual(100)
    settle(worker, log)
    assert "begins at 50" in worker.lineup.unbuildable[standby]
    assert list(worker.replica.models) == [serves]
    assert worker.replica.models[serves].position == log.end

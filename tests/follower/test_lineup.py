"""Several models on one log in a whole follower: who answers, who learns, who takes over, and with which bits."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ml.errors import FatalError
from stream_ml.follower.follower import Follower
from tests.core.fold.test_fold import BAD, SPOILS
from tests.core.fold.test_roles import declare as declare_number
from tests.support.follower_on_a_list import (
    BRITTLE,
    LINEAR,
    RIDGE,
    App,
    Log,
    assert_as_from_0,
    end_at_once,
    on_a_list,
    settle,
    turn_until,
    write_checkpoints,
)

LAW = settings(max_examples=25, deadline=None, derandomize=True, database=None)
FOREST = {"factory": "river.forest:ARFClassifier", "params": {"n_models": 5}}


def look(worker: Follower, log: Log, turns: int = 20) -> None:
    """Let it go on as in the worker's loop, which looks between its turns whether something is to be proposed."""
    for _ in range(turns):
        worker.turn(0.0)
        worker.take_over.look(worker.lineup)
    settle(worker, log)


# --- a model that is too large ---


def looked_at_sizes(worker: Follower) -> None:
    """Write a checkpoint of each model, and look how large it is."""
    worker.checkpoint_if_due(0.0)
    while worker.checkpoints.busy:
        worker.checkpoint_if_due(0.0)
    worker.checkpoint_if_due(3600.0)


@pytest.mark.parametrize("policy", ["exit", "freeze"])
def test_a_standby_that_is_too_large_is_frozen_alone(app: App, log: Log, policy: str) -> None:
    config = app.config({**LINEAR, "memory_max": "30kB", "memory_policy": policy})
    serves, standby = app.serving(config), app.declare(app.config(FOREST))
    log.usual(100)
    worker = settle(app.started(config), log)
    looked_at_sizes(worker)
    assert log.written == [("freeze", {"lineage": standby})]
    log.usual(20)
    settle(worker, log)
    looked_at_sizes(worker)
    models = worker.replica.models
    assert (models[standby].frozen, models[standby].examples_learned) == (True, 100)
    assert (models[serves].frozen, models[serves].examples_learned) == (False, 120)
    assert len(log.written) == 1


def test_a_model_that_answers_and_is_too_large_ends_the_worker_under_exit(app: App, log: Log) -> None:
    config = app.config({**FOREST, "memory_max": "30kB", "memory_policy": "exit"})
    app.serving(config)
    log.usual(100)
    worker = settle(app.started(config), log)
    assert worker.serving.model.settings.lineage == worker.recipes.own.lineage
    with pytest.raises(FatalError, match=r"memory_policy is exit"):
        looked_at_sizes(worker)
    assert log.written == []


def test_a_model_that_answers_and_is_too_large_is_frozen_with_all_others_under_freeze(app: App, log: Log) -> None:
    config = app.config({**FOREST, "memory_max": "30kB", "memory_policy": "freeze"})
    app.serving(config)
    log.usual(100)
    worker = settle(app.started(config), log)
    assert worker.serving.model.settings.lineage == worker.recipes.own.lineage
    looked_at_sizes(worker)
    assert log.written == [("freeze", {})]


# --- taking over ---


def test_a_changed_model_is_declared_learns_and_takes_over(app: App, log: Log) -> None:
    config, other = app.config(LINEAR), app.config(RIDGE)
    before = app.serving(config)
    log.usual(100)
    worker = app.started(other)
    own = worker.recipes.own.lineage
    assert [name for name, _ in log.written] == ["declare", "serve"]
    table = log.roles.table
    assert (table.lineage, table.before) == (own, before)
    assert_as_from_0(settle(worker, log), log, worker.recipes.own)
    assert (worker.serving.model.settings.lineage, worker.serving.superseded) == (own, False)


def test_after_a_rollback_a_second_copy_of_the_declaration_lets_nothing_take_over(app: App, log: Log) -> None:
    config, other = app.config(LINEAR), app.config(RIDGE)
    before = app.serving(config)
    log.usual(50)
    worker = app.started(other)
    app.serve(before)
    look(worker, log)
    declared = dict(log.written)["declare"]
    log.command("declare", **declared)
    log.usual(20)
    look(worker, log)
    again = app.started(other)
    look(again, log)
    assert [name for name, _ in log.written] == ["declare", "serve"]
    for one in (worker, again):
        assert (one.serving.model.settings.lineage, one.serving.superseded) == (before, False)
        assert one.recipes.own.lineage in one.replica.models


def test_a_declaration_that_is_refused_is_written_once_and_the_problem_says_why(app: App, log: Log) -> None:
    config = app.config(LINEAR)
    serves = app.serving(config)
    log.add(*(declare_number(number, standby=False) for number in range(999)))
    log.usual(20)
    worker = app.started(app.config(RIDGE))
    look(worker, log)
    assert [name for name, _ in log.written] == ["declare"]
    assert "1,000 models: a log holds no more" in worker.take_over.problem
    assert worker.book.facts.roles.refused == 1
    assert worker.serving.model.settings.lineage == serves


def test_a_process_that_builds_folds_its_model_to_the_end_and_writes_no_serve(app: App, log: Log) -> None:
    config, other = app.config(LINEAR), app.config(RIDGE)
    serves = app.serving(config)
    own = app.declare(other, standby=False, auto=True)  # which a worker would let take over
    log.usual(200)
    app.started(config).finish(1.0, 30.0)
    worker = app.started(other, builds=True)
    look(worker, log)
    assert worker.replica.models[own].position == log.end
    assert log.written == []
    assert log.roles.table.lineage == serves
    assert_as_from_0(worker, log, worker.recipes.own)


def test_a_table_that_was_put_in_place_between_two_halts_of_the_book_holds_in_the_second_one(
    app: App, log: Log
) -> None:
    config, other = app.config(LINEAR), app.config(RIDGE)
    app.serving(config)
    worker = settle(app.started(config), log)
    first = log.example(1.0, missing=2)
    lineage = app.declare(other)  # is read while the book is halted
    log.command("accept-gap", position=first)
    settle(worker, log)
    app.serve(lineage)
    assert settle(worker, log).serving.model.settings.lineage == lineage
    log.example(1.0, missing=2)
    app.declare(other)  # is read while the book is halted again
    settle(worker, log)
    assert worker.book.facts.roles.table == log.roles.table
    assert (worker.serving.model.settings.lineage, worker.serving.superseded) == (lineage, False)


# --- a model that is halted ---


@pytest.mark.parametrize("x", [BAD, SPOILS])
def test_a_corrupted_model_that_serves_answers_from_a_checkpoint_until_it_is_halted_at_the_example(
    app: App, log: Log, x: float
) -> None:
    config, other = app.config(BRITTLE), app.config(LINEAR)
    serves, standby = app.serving(config), app.declare(other)
    log.usual(150)
    worker = settle(app.started(config), log)
    write_checkpoints(worker)
    log.usual(120)
    bad_at = log.example(x)
    log.usual(100)
    turn_until(worker, lambda: serves in worker.lineup.chasing)
    assert (worker.serving.model.settings.lineage, worker.serving.superseded) == (serves, False)
    assert worker.serving.model.position < bad_at < worker.book.position
    assert not worker.serving.model.corrupted
    settle(worker, log)
    halted = worker.replica.models[serves]
    assert halted.halt is not None
    assert (halted.halt.position, halted.halt.corrupted, halted.position) == (bad_at, False, bad_at)
    assert worker.replica.models[standby].position == log.end
    assert worker.serving.model is halted
    assert "learning_halted" in worker.serving.flags(stale=False)
    log.usual(70)
    assert settle(worker, log).replica.models[standby].position == log.end
    log.command("skip", position=bad_at)
    log.usual(70)
    settle(worker, log)
    assert (halted.position, worker.serving.model.position) == (bad_at, log.end)
    recipes_here = app.recipe(config), app.recipe(other)
    assert_as_from_0(worker, log, *recipes_here)
    end_at_once(worker)
    assert_as_from_0(settle(app.started(config), log), log, *recipes_here)


# --- models that come and go ---


def test_a_standby_that_is_declared_late_joins_while_the_log_grows_with_the_bits_of_one_from_the_beginning(
    app: App, log: Log
) -> None:
    config, other = app.config(LINEAR), app.config(RIDGE)
    serves = app.serving(config)
    log.usual(200)
    worker = settle(app.started(config), log)
    standby = app.declare(other)
    chased = 0
    for _ in range(500):
        log.usual(3)
        worker.turn(0.0)
        chased += standby in worker.lineup.chasing
        if standby in worker.replica.models:
            break
    assert chased > 10
    assert worker.replica.models[standby].position == worker.book.position > 210
    recipes_here = app.recipe(config), app.recipe(other)
    assert_as_from_0(settle(worker, log), log, *recipes_here)
    write_checkpoints(worker)
    again = app.started(config)
    assert again.checkpoints.stands_at == dict.fromkeys(("book", serves, standby), log.end)
    assert_as_from_0(again, log, *recipes_here)
    served, now = worker.serving, again.serving
    assert (now.model.version, now.superseded, now.epoch) == (served.model.version, False, served.epoch)
    assert now.model.model.learner.score_one({"x": 1.5}) == served.model.model.learner.score_one({"x": 1.5})


def test_a_retired_model_is_dropped_and_comes_back_from_its_checkpoint(app: App, log: Log) -> None:
    config, other = app.config(LINEAR), app.config(RIDGE)
    serves, standby = app.serving(config), app.declare(other)
    log.usual(100)
    worker = settle(app.started(config), log)
    write_checkpoints(worker)
    stands_at = log.end
    app.retire(standby)
    log.usual(200)
    assert list(settle(worker, log).replica.models) == [serves]
    app.declare(other, epoch=log.roles.table.epoch)
    turn_until(worker, lambda: standby in worker.lineup.chasing)
    assert worker.lineup.chasing[standby].began_at == stands_at
    assert_as_from_0(settle(worker, log), log, app.recipe(config), app.recipe(other))


def test_a_model_that_is_retired_while_it_is_behind_is_dropped(app: App, log: Log) -> None:
    config, other = app.config(LINEAR), app.config(RIDGE)
    serves = app.serving(config)
    log.usual(400)
    worker = settle(app.started(config), log)
    standby = app.declare(other)
    turn_until(worker, lambda: standby in worker.lineup.chasing)
    app.retire(standby)
    worker.turn(0.0)
    assert not worker.lineup.chasing
    assert list(worker.replica.models) == [serves]


# --- whatever happens ---

MODELS: list[dict[str, Any]] = [LINEAR, BRITTLE, {**BRITTLE, "name": "ridge", "params": {"l2": 0.1}}]
WHICH = st.integers(0, 2)
STEPS = st.one_of(
    st.tuples(st.just("examples"), st.integers(1, 60)),
    st.tuples(st.just("turns"), st.integers(1, 12)),
    st.tuples(st.sampled_from(("declare", "serve", "retire", "restart", "kill")), WHICH),
    st.tuples(st.sampled_from(("freeze", "resume", "skip")), st.integers(0, 3)),
    st.tuples(st.sampled_from(("raises", "spoils", "gap", "end halts", "checkpoint", "begin checkpoint")), st.just(0)),
)


class Program:
    """A follower that goes through steps."""

    def __init__(self, app: App) -> None:
        self.app, self.log = app, app.log
        self.configs = [app.config(model) for model in MODELS]
        self.recipes = [app.recipe(config) for config in self.configs]
        app.serving(self.configs[0])
        self.worker = app.started(self.configs[0])

    def go(self, step: str, number: int) -> None:
        log, lineage = self.log, self.recipes[number % 3].lineage
        match step:
            case "examples":
                log.usual(number)
            case "raises" | "spoils":
                log.example(BAD if step == "raises" else SPOILS)
            case "gap":
                log.example(1.0, missing=2)
            case "turns":
                for _ in range(number):
                    self.worker.turn(0.0)
                    assert self.worker.serving.epoch == self.worker.book.facts.roles.table.epoch
            case "declare":
                self.app.declare(self.configs[number], epoch=log.roles.table.epoch)
            case "serve":
                self.app.serve(lineage)
            case "retire":
                self.app.retire(lineage)
            case "freeze" | "resume":
                log.command(step, **({} if number == 3 else {"lineage": lineage}))
            case "skip":
                self._skip({} if number == 3 else {"lineage": lineage})
            case "end halts":
                self._end_halts()
            case "checkpoint":
                write_checkpoints(self.worker)
            case "begin checkpoint":
                self.worker.checkpoints.write_if_due(self.worker.lineup.replicas, 0.0)
            case "restart" | "kill":
                self._restart(number, killed=step == "kill")

    def _skip(self, of: dict[str, Any]) -> None:
        """Skip the examples at which models are halted."""
        halts = [model.halt for model in self.worker.replica.models.values()]
        for halt in halts:
            if halt is not None and not halt.corrupted:
                self.log.command("skip", position=halt.position, **of)

    def _end_halts(self) -> None:
        settle(self.worker, self.log)
        halt = self.worker.book.halt
        if halt is not None:
            self.log.command("accept-gap", position=halt.position)
        self._skip({})

    def _restart(self, number: int, *, killed: bool) -> None:
        """Start another process, with the configuration of a model that the log knows."""
        if killed:
            end_at_once(self.worker)
        else:
            self.worker.finish(1.0, 30.0)
        known = self.recipes[number].lineage in self.log.roles.declared
        self.worker = self.app.started(self.configs[number if known else 0])

    def check(self) -> None:
        worker = settle(self.worker, self.log)
        models, lineup = worker.replica.models, worker.lineup
        assert set(lineup.wanted) <= set(models)
        assert lineup.unbuildable == {}
        assert self.log.written == []
        assert_as_from_0(worker, self.log, *(recipe for recipe in self.recipes if recipe.lineage in models))
        assert worker.serving.model.settings.lineage == self.log.roles.table.lineage


PROGRAMS = st.lists(STEPS, min_size=5, max_size=40)


@settings(LAW, max_examples=6)
@given(steps=PROGRAMS)
def test_whatever_stands_in_the_log_and_whenever_a_process_ends_all_is_as_folded_from_0(
    steps: list[tuple[str, int]],
) -> None:
    run_and_check(steps)


@pytest.mark.long
@LAW
@given(steps=PROGRAMS)
def test_more_logs_and_ends_of_processes_leave_all_as_folded_from_0(steps: list[tuple[str, int]]) -> None:
    run_and_check(steps)


def run_and_check(steps: list[tuple[str, int]]) -> None:
    """Run a program; at its end and after one more kill all is as folded from 0."""
    with tempfile.TemporaryDirectory() as folder, on_a_list() as log:
        program = Program(App(Path(folder), log))
        try:
            for step in steps:
                program.go(*step)
            program.check()
            program.go("kill", 0)
            program.check()
        finally:
            end_at_once(program.worker)

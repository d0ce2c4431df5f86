"""Quality against an assumed delay: what a model would have said, had each label taken so long."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_ml.app.assemble import assemble
from stream_ml.core.log.identity import NO_LOG
from stream_ml.offline.replay.compare import Terms
from stream_ml.offline.replay.replay import Replay
from stream_ml.offline.replay.report import Assumed, Outcome, Source, assumed_of
from stream_ml.offline.replay.specs import Spec, own_spec
from tests.offline.replay.test_files import replayed, said
from tests.support.rows_app import app, rows, written


def made(folder: Path) -> tuple[Spec, Path]:
    some = [{**row, "id": f"e{number}"} for number, row in enumerate(rows(3_000, seed=4))]
    config = app(folder)
    return own_spec(assemble(config), NO_LOG), written(folder, some, "jsonl")


@pytest.mark.parametrize("delay_ms", [0, 500, 1_000, 40_000, 10**7])
def test_it_is_what_files_with_that_delay_give(delay_ms: int, tmp_path: Path) -> None:
    spec, file = made(tmp_path)
    at_once, _ = replayed(tmp_path, [spec], [file], None)
    work = tmp_path / "assuming"
    work.mkdir()
    tape = at_once.tape.assuming(delay_ms, work)
    replay = Replay(tape, [spec], spec.recipe.settings, 1)
    replay.run(served=False)
    assumed = replay.said()[spec.name]
    (tmp_path / "other").mkdir()
    delayed, _ = replayed(tmp_path / "other", [spec], [file], delay_ms)
    real = said(tmp_path / "other", spec.name)
    assert np.array_equal(assumed.probability, real.probability, equal_nan=True)
    assert delayed.tape.positions()[-1] == tape.positions()[-1]


def test_nobody_is_asked_about_an_example_that_it_has_learned(tmp_path: Path) -> None:
    spec, file = made(tmp_path)
    read, _ = replayed(tmp_path, [spec], [file], "late")  # events in the order of their labels: back and forth in time
    for delay_ms in (0, 5_000):
        work = tmp_path / f"a{delay_ms}"
        work.mkdir()
        tape = read.tape.assuming(delay_ms, work)
        offsets = tape.facts().column("offset").to_numpy()
        assert (tape.positions() <= offsets[tape.order()]).all()


def test_the_later_labels_come_the_less_a_model_knows(tmp_path: Path) -> None:
    spec, file = made(tmp_path)
    read, _ = replayed(tmp_path, [spec], [file], None)
    replay = Replay(read.tape, [spec], spec.recipe.settings, 2)
    replay.run(served=False)
    losses: list[Any] = []
    for delay_ms in (0, 300_000, 1_200_000):
        work = tmp_path / f"w{delay_ms}"
        work.mkdir()
        found = replay.assuming(delay_ms, Terms(), work)
        assert found.keys() == {spec.name, "baseline"}
        losses.append(found[spec.name]["brier"])
    assert losses == sorted(losses) and losses[0] < losses[-1]


def test_where_nothing_was_learned_by_then_that_is_said(tmp_path: Path) -> None:
    spec, file = made(tmp_path)
    read, _ = replayed(tmp_path, [spec], [file], None)
    replay = Replay(read.tape, [spec], spec.recipe.settings, 1)
    replay.run(served=False)
    (tmp_path / "w").mkdir()
    found = replay.assuming(10**12, Terms(), tmp_path / "w")
    outcome = Outcome("rows", Source("rows", "moment", 1, 1, []), replay.comparison(Terms()), [], {}, [], [], 0.0)
    lines = assumed_of(outcome._replace(assumed=[Assumed(0, {spec.name: {"brier": 0.2}}), Assumed(10**12, found)]))
    assert lines[0].startswith("brier, had labels come at once: ") and "0.2" in lines[0]
    assert "nothing was learned by then" in lines[1] or "0.25" in lines[1]

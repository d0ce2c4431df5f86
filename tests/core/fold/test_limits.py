"""What is usual of a feature: clipped alike in a batch and alone, learned alike in runs and singles, and of use."""

import math
import pickle
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from river import linear_model, metrics, preprocessing
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.cli.scaffold import DISTINCT
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.far_examples import TOLD_EVERY
from stream_ml.core.fold.limits import FIRST, LABEL, OTHER, WINDOW, Ranges
from stream_ml.core.fold.replica import Replica
from stream_ml.core.inputs.events import Features
from stream_ml.core.log.entry import decode_entry
from stream_ml.offline.local import LocalApp
from stream_ml.records import LogRecord, Target
from tests.core.fold.test_fold import Driver
from tests.equivalence.test_batches import scaled, story, whole
from tests.support.partition import EVENTS, FEEDBACK, command, example, fold_settings, log_of
from tests.support.service import brothers

POISON = [1e4, -1e6, 1e12, 1e18]


def ranges(*, sigma: float = 0.0, guard: float = 0.0, label: bool = False, names: Sequence[str] = ("x",)) -> Ranges:
    """Of features, all of which are clipped where there is a sigma."""
    return Ranges(names, dict.fromkeys(names, sigma) if sigma else {}, guard, label=label)


def of_fold(
    mode: str = "tell", *, sigma: float = 0.0, guard: float = 100.0, task: str = "binary"
) -> Callable[[], FoldSettings]:
    """Settings of a fold that watches x, and the label of a regression."""

    def make() -> FoldSettings:
        using = scaled() if task == "binary" else fold_settings(task)
        label = task == "regression"
        return using._replace(ranges=lambda: ranges(sigma=sigma, guard=guard, label=label), quarantine=mode)

    return make


def learned(found: Ranges, values: Sequence[float]) -> Ranges:
    """What is usual after so many examples."""
    for value in values:
        found.saw_one({"x": value}, True)
    return found


def usual(count: int, seed: int = 1) -> list[float]:
    """Honest values, from 0 to 10."""
    chance = random.Random(seed)
    return [chance.uniform(0, 10) for _ in range(count)]


# --- limits ---


@pytest.mark.parametrize("poison", [*POISON, 10**18, -(10**17) - 1])
def test_what_is_far_outside_is_clipped_and_the_rest_is_left_alone(poison: float) -> None:
    found = learned(ranges(sigma=8), usual(FIRST))
    honest = {"x": 9.9, "other": "text"}
    assert found.clip_one(honest) is honest
    clipped = found.clip_one({"x": poison, "other": "text"})
    assert abs(clipped["x"]) < 100 and math.copysign(1, clipped["x"]) == math.copysign(1, poison)
    assert type(clipped["x"]) is type(poison) and clipped["other"] == "text"


def test_nothing_is_said_of_too_few_examples() -> None:
    found = learned(ranges(sigma=8, guard=100), usual(FIRST - 1))
    assert found.clip_one({"x": 1e18}) == {"x": 1e18} and not found.why_far({"x": 1e18}, True)


@pytest.mark.parametrize("share", [0.002, 0.007])
def test_false_values_among_those_that_were_learned_do_not_move_the_limits(share: float) -> None:
    values = usual(WINDOW)
    every = int(1 / share)
    poisoned = [1e15 if number % every == 0 else value for number, value in enumerate(values)]
    assert learned(ranges(sigma=8), poisoned).clip_one({"x": 1e18})["x"] < 200


@pytest.mark.parametrize("kind", ["counter", "falling", "epoch", "season", "constant", "zero"])
def test_a_feature_that_moves_on_or_never_moves_has_wide_limits(kind: str) -> None:
    of: dict[str, Callable[[int], float]] = {
        "counter": float,
        "falling": lambda n: -3.0 * n,
        "epoch": lambda n: 1.7e9 + 60 * n,
        "season": lambda n: 3 * math.sin(n / 1440 * 2 * math.pi) + 0.1 * math.sin(77 * n),
        "constant": lambda n: 5.0,
        "zero": lambda n: 0.0,
    }
    found = ranges(sigma=8, guard=100)
    for number in range(6 * WINDOW):
        features = {"x": of[kind](number)}
        assert found.clip_one(features) is features and not found.why_far(features, True), number
        found.saw_one(features, True)
    gap = of[kind](12 * WINDOW)
    assert found.clip_one({"x": gap}) == {"x": gap}, "a pause of some windows"
    assert abs(found.clip_one({"x": 1e18})["x"]) < 1e12
    guarded = learned(ranges(guard=100), [of[kind](n) for n in range(3 * WINDOW)])
    assert guarded.why_far({"x": 1e18}, True) and guarded.why_far({"x": -1e18}, True)


@pytest.mark.parametrize("kind", ["heavy tail", "rarely above zero", "two values", "claims", "delays", "two modes"])
def test_features_of_odd_shape_are_hardly_ever_far(kind: str) -> None:
    chance = random.Random(5)
    of: dict[str, Callable[[], float]] = {
        "heavy tail": lambda: chance.lognormvariate(0, 1.5),
        "rarely above zero": lambda: chance.uniform(1, 9) if chance.random() < 0.01 else 0.0,
        "two values": lambda: float(chance.random() < 0.03),
        "claims": lambda: chance.lognormvariate(7, 1.5) if chance.random() < 0.055 else 0.0,
        "delays": lambda: chance.uniform(60, 600) if chance.random() < 0.04 else chance.gauss(0, 2),
        "two modes": lambda: 1e4 if chance.random() < 0.03 else 10.0 + chance.random(),
    }
    guarded, clipping, far, clipped = ranges(guard=100), ranges(sigma=8), 0, 0
    for _ in range(20_000):
        features = {"x": of[kind]()}
        far += bool(guarded.why_far(features, True))
        guarded.saw_one(features, True)
        within = clipping.clip_one(features)
        clipped += within is not features
        clipping.saw_one(within, True)
    assert far <= 20 and clipped <= 400, (far, clipped)


def test_a_feature_that_changes_for_good_is_followed() -> None:
    found = learned(ranges(sigma=8, guard=100), usual(2 * WINDOW))
    clipped = 0
    for value in usual(16 * WINDOW, 2):
        within = found.clip_one({"x": 1000 * value})
        clipped += within["x"] != 1000 * value
        found.saw_one(within, True)
    assert clipped < 12 * WINDOW
    assert found.clip_one({"x": 9_000.0}) == {"x": 9_000.0}


def test_the_next_limits_are_due() -> None:
    found, due = ranges(guard=100), []
    for number in range(1, 4 * WINDOW + 2):
        if found.until_next == 1:
            due.append(number)
        found.saw_one({"x": float(number)}, True)
    assert due == [32, 64, 128, 256, 512, 1024, 2048]


# --- both paths ---


@pytest.mark.parametrize("seed", range(6))
def test_a_batch_is_clipped_as_its_rows_are(seed: int) -> None:
    chance = random.Random(seed)
    whole_numbers = seed % 2 == 0
    edges: list[Any] = [0, 10**18, -(10**18), 2**53 + 1, 7, 11, 40] if whole_numbers else [0.0, 1e18, -1e18, 7.0, 40.5]
    found = ranges(sigma=chance.choice([1, 3.5, 8]), names=("x", "n"))
    for value in usual(WINDOW, seed):
        found.saw_one({"x": value, "n": int(value) if whole_numbers else value}, True)
    rows = [{"x": chance.choice([*usual(3), 1e9]), "k": "a", "n": chance.choice(edges)} for _ in range(200)]
    table = pa.table({name: [row[name] for row in rows] for name in rows[0]})
    others = {200: {"x": 1e18, "n": 3}, 201: {"n": 3}}
    within, clipped = found.clip_many(Features(table, range(200), others))
    expected = [found.clip_one(row) for row in rows]
    assert repr(within.dicts()) == repr(expected)
    assert repr(found.clip_rows(list(rows[0]), [tuple(row.values()) for row in rows])) == repr(
        [tuple(row.values()) for row in expected]
    )
    assert clipped == {n for n, (row, one) in enumerate(zip(rows, expected, strict=True)) if row is not one} | {200}
    assert within.others == {200: found.clip_one(others[200]), 201: {"n": 3}}


@pytest.mark.parametrize("seed", brothers(*range(8), tried=2))
@pytest.mark.parametrize("mode", ["tell", "divert", "halt"])
@pytest.mark.parametrize("sigma", [0.0, 8.0])
def test_runs_with_far_examples_leave_what_singles_leave(seed: int, mode: str, sigma: float) -> None:
    log = with_far(story([("good", 200), ("freeze", 300), ("repeat", 100), ("good", 700)], seed), seed)
    if mode == "halt" and not sigma:
        found = Driver(log, of_fold(mode, sigma=sigma)).run(1000)
        assert found.halt is not None and found.halt.reason == "far_example" and found.halt.position < len(log)
    using = of_fold(mode, sigma=sigma)
    one, other = Driver(log, using).run(1000), Driver(log, using).run(16)
    assert whole(one) == whole(other)
    assert (
        one.only.model.limits.state() == other.only.model.limits.state()
        and one.only.model.far.state() == other.only.model.far.state()
    )


def with_far(log: list[LogRecord], seed: int) -> list[LogRecord]:
    """The same log, in which some examples are far from all others."""
    chance = random.Random(seed)
    found = [record.value for record in log]
    for number in range(150, len(found)):
        if chance.random() < 0.01:
            found[number] = _with_x(found[number], chance.choice(POISON))
    return log_of(found)


def _with_x(value: bytes, x: float) -> bytes:
    try:
        entry = decode_entry(value)
    except ValueError:
        return value
    if entry.kind != "example":
        return value
    own = ((EVENTS, FEEDBACK)[entry.trigger], entry.trigger_offset)
    return example(entry.sequence, x, entry.target, trigger=own, served=entry.served)


# --- the fold ---


def labelled(values: Sequence[float], poison: dict[int, float]) -> list[bytes]:
    """A log in which x above 5 is true; the label of a poisoned one is what hurts most."""
    return [example(n, poison.get(n, x), poison[n] < 0 if n in poison else x > 5) for n, x in enumerate(values)]


def accuracy(replica: Replica) -> float:
    """Of honest events that the model has never seen."""
    found = metrics.Accuracy()
    for x in usual(2_000, 77):
        found.update(x > 5, replica.only.model.score_one({"x": x}).class_name == "true")
    return float(found.get())


@pytest.mark.parametrize("poison", POISON[1:])
def test_one_labelled_event_ruins_a_model_that_nothing_guards(poison: float) -> None:
    """What the guard is for; were it not so, the next tests would show nothing."""
    log = log_of(labelled(usual(3_000), {1_000: poison}))
    replica = Driver(log, scaled).run(1000)
    assert replica.only.examples_learned == 3_000
    assert accuracy(replica) < 0.9


@pytest.mark.parametrize("poison", POISON)
@pytest.mark.parametrize("way", ["sigma", "divert"])
def test_one_labelled_event_does_not_move_a_model_that_is_guarded(poison: float, way: str) -> None:
    using = of_fold("tell", sigma=8, guard=0) if way == "sigma" else of_fold("divert")
    honest = accuracy(Driver(log_of(labelled(usual(3_000), {})), using).run(1000))
    replica = Driver(log_of(labelled(usual(3_000), dict.fromkeys(range(1_000, 1_010), poison))), using).run(1000)
    assert honest > 0.97 and accuracy(replica) > honest - 0.01
    assert replica.only.examples_learned == (3_000 if way == "sigma" else 2_990)


def test_a_far_example_that_is_only_told_is_learned_and_named_by_position() -> None:
    replica = Driver(log_of(labelled(usual(200), {100: 1e9})), of_fold("tell")).run(1000)
    (signal,) = replica.only.signals
    assert (signal.kind, signal.subject, signal.position, signal.severity) == (
        "far_example",
        "learning",
        100,
        "warning",
    )
    assert "x is 1e+09" in signal.message and "was learned" in signal.message and "features.bounds" in signal.message
    assert (
        replica.only.examples_learned == 200
        and replica.only.model.far.count == 1
        and replica.only.model.far.last == 100
    )


def test_a_flood_of_far_examples_is_told_once_in_a_thousand() -> None:
    values = usual(3 * TOLD_EVERY)
    poison = dict.fromkeys(range(600, len(values), 50), 1e9)
    replica = Driver(log_of(labelled(values, poison)), of_fold("divert")).run(1000)
    assert replica.only.model.far.count == len(poison)
    assert 2 <= len(replica.only.signals) <= 3


def test_a_strict_quarantine_halts_before_the_example_and_either_command_goes_on() -> None:
    values = labelled(usual(400), {100: 1e9})
    halted = Driver(log_of(values), of_fold("halt")).run(1000)
    assert halted.halt is not None and not halted.halt.corrupted
    assert (halted.halt.position, halted.halt.reason, halted.position) == (100, "far_example", 100)
    left_out = Driver(log_of([*values, command("skip", position=100)]), of_fold("halt")).run(1000)
    taken = Driver(log_of([*values, command("accept", position=100)]), of_fold("halt")).run(1000)
    assert (left_out.halt, left_out.only.examples_learned) == (None, 399)
    assert (taken.halt, taken.only.examples_learned) == (None, 400)
    assert [signal.kind for signal in taken.only.signals] == ["halted", "resumed"]


def test_accept_does_not_pass_over_missing_examples() -> None:
    values = [*labelled(usual(100), {}), example(105, 3.0), command("accept", position=100)]
    replica = Driver(log_of(values), of_fold("halt")).run(1000)
    assert replica.halt is not None and replica.halt.reason == "gap"


@pytest.mark.parametrize("label", [1e12, -1e9])
def test_the_label_of_a_regression_is_guarded_too(label: float) -> None:
    log = log_of([example(n, x, Target(None, label if n == 300 else 2 * x)) for n, x in enumerate(usual(600))])
    replica = Driver(log, of_fold("divert", task="regression")).run(1000)
    assert replica.only.examples_learned == 599 and LABEL in replica.only.signals[0].message
    assert abs((replica.only.model.score_one({"x": 5.0}).value or 0) - 10) < 3


def test_a_checkpoint_keeps_what_is_usual() -> None:
    log = log_of(labelled(usual(1_000), {100: 1e9, 700: 1e9}))
    using = of_fold("divert", sigma=0.0)
    at_once = Replica(using())
    at_once.fold(log)
    first = Replica(using())
    first.fold(log[:555])
    second = Replica(using())
    second.restore(first.state())
    second.fold(log[555:])
    assert second.only.model.limits.state() == at_once.only.model.limits.state()
    assert second.only.model.far.state() == at_once.only.model.far.state()
    assert second.only.probe_bits() == at_once.only.probe_bits()


def test_what_is_clipped_is_what_a_clipping_step_before_the_model_would_learn() -> None:
    values = labelled(usual(1_500), {900: 1e6, 1_000: -1e18})
    replica = Driver(log_of(values), of_fold("tell", sigma=8, guard=0)).run(1000)
    model, beside = preprocessing.StandardScaler() | linear_model.LogisticRegression(), ranges(sigma=8)
    for number, x in enumerate(usual(1_500)):
        poison = {900: 1e6, 1_000: -1e18}.get(number)
        features = beside.clip_one({"x": x if poison is None else poison})
        y = x > 5 if poison is None else poison < 0
        model.learn_one(features, y)
        beside.saw_one(features, y)
    asked = beside.clip_one({"x": 1e7})
    assert replica.only.model.score_one({"x": 1e7}).score == model.predict_proba_one(asked)[True]


# --- texts ---


def texts(most: int, *learned_texts: str) -> Ranges:
    """That has learned these."""
    found = Ranges((), {}, 0.0, label=False, distinct={"k": most})
    for text in learned_texts:
        found.saw_one({"k": text}, True)
    return found


def test_only_so_many_values_of_a_text_are_learned_and_the_rest_is_one_other() -> None:
    found = texts(3, "a", "b", "a", "c", "d", "e")
    known = {"k": "a", "x": 1.0}
    assert found.clip_one(known) is known
    assert found.clip_one({"k": "d", "x": 1.0}) == {"k": OTHER, "x": 1.0}
    assert found.clip_one({"x": 1.0}) == {"x": 1.0}
    assert texts(3, "a", OTHER, "b").clip_one({"k": "new"}) == {"k": "new"}, "there is room"


@pytest.mark.parametrize("seed", range(10))
def test_texts_of_a_run_are_named_as_they_are_one_by_one(seed: int) -> None:
    chance = random.Random(seed)
    column = [f"t{int(chance.expovariate(0.05))}" for _ in range(400)]
    most = chance.choice([1, 5, 20, 40, 1_000])
    one, many = texts(most), texts(most)
    singly = []
    for text in column:
        within = one.clip_one({"k": text})
        one.saw_one(within, True)
        singly.append(within["k"])
    runs: list[str] = []
    while len(runs) < len(column):
        rows = [(text,) for text in column[len(runs) : len(runs) + chance.randint(1, 64)]]
        named = many.clip_rows(["k"], rows)
        many.saw_many(["k"], named, [True] * len(named))
        runs += [row[0] for row in named]
    assert runs == singly and many.state() == one.state()
    restored = texts(most)
    restored.restore(one.state())
    rows_of = {"k": column}
    within, clipped = restored.clip_many(Features(pa.table(rows_of), range(len(column)), {}))
    asked = [one.clip_one({"k": text})["k"] for text in column]
    assert [row["k"] for row in within.dicts()] == asked
    assert clipped == {number for number, text in enumerate(asked) if text != column[number]}


def test_a_flood_of_distinct_texts_makes_no_model_slower_than_its_bound(tmp_path: Path) -> None:
    """8,500 texts took an honest event from 0.2 to 13.5 ms to learn; the model's size tells it without a clock."""
    CliRunner().invoke(app, ["init", str(tmp_path), "--ttl", "30d"])
    made, time = LocalApp(tmp_path / "stream_ml.yaml"), "2026-01-01T00:00:00Z"
    for first in range(0, 3_000, 500):
        rows = [{"id": f"e{n}", "time": time, "amount": 1.0, "kind": f"made up {n}"} for n in range(first, first + 500)]
        made.predict_many(rows)
        made.learn_many([{"id": row["id"], "time": time, "label": True} for row in rows])
    assert len(made.model["LogisticRegression"].weights) <= DISTINCT + 3
    (long,) = made.predict_many([{"id": "long", "time": time, "amount": 1.0, "kind": "x" * 1_001}])
    assert long["dead_letter"] == "out_of_bounds" and "1,001 characters" in long["message"]


# --- the beginning ---


@pytest.mark.parametrize("at", [0, 4, 15, 30, 31])
@pytest.mark.parametrize("poison", POISON[1:])
def test_an_example_among_the_first_does_not_ruin_the_model_either(at: int, poison: float) -> None:
    using = of_fold("divert", sigma=8, guard=100)
    honest = accuracy(Driver(log_of(labelled(usual(1_500), {})), using).run(1000))
    values = labelled(usual(1_500), {at: poison})
    one, other = Driver(log_of(values), using).run(1000), Driver(log_of(values), using).run(16)
    assert accuracy(one) > honest - 0.02 and whole(one) == whole(other)
    assert one.only.examples_learned == 1_500


@pytest.mark.parametrize("mode", ["tell", "divert"])
@pytest.mark.parametrize("at", [3, 20])
def test_a_far_label_among_the_first_is_told_and_where_that_is_asked_left_out(at: int, mode: str) -> None:
    log = log_of([example(n, x, Target(None, 1e12 if n == at else 2 * x)) for n, x in enumerate(usual(300))])
    using = of_fold(mode, task="regression")
    replica = Driver(log, using).run(1000)
    assert whole(replica) == whole(Driver(log, using).run(16))
    (signal,) = replica.only.signals
    assert (signal.kind, signal.position) == ("far_example", 31) and f"the example at {at} is far" in signal.message
    assert replica.only.examples_learned == (299 if mode == "divert" else 300)
    half = Replica(using())
    half.fold(log[:25])
    again = Replica(using())
    again.restore(pickle.loads(pickle.dumps(half.state())))
    again.fold(log[25:])
    assert again.only.probe_bits() == replica.only.probe_bits()


@pytest.mark.parametrize("mode", ["tell", "divert", "halt"])
def test_a_label_that_is_no_number_is_passed_over_in_every_lane(mode: str) -> None:
    log = log_of(
        [example(n, x, Target(None, math.nan if n == 205 else 2 * x)) for n, x in enumerate(usual(400))]
    )  # fmt: skip
    one, other = (Driver(log, of_fold(mode, task="regression")).run(chunk) for chunk in (1000, 16))
    assert whole(one) == whole(other) and (one.only.examples_learned, one.only.unusable, one.halt) == (399, 1, None)

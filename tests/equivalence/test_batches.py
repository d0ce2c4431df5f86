"""Runs of examples: folded in a few loops, they must leave what the same examples leave one by one."""

import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import linear_model, preprocessing

from stream_ml.core.fold.batches import FoldSettings, Run, Single, prepare, split
from stream_ml.core.fold.health import CHECK_EVERY
from stream_ml.core.fold.replica import Replica
from stream_ml.core.model.estimator import COLD, Scored
from stream_ml.core.partition.predictions import served_of
from stream_ml.errors import FatalError
from stream_ml.records import NOT_SERVED, LogRecord, Served, Target, Version
from tests.core.fold.test_fold import BAD, ODD, SPOILS, Driver, brittle, facts
from tests.support.partition import EVENTS, LINEAGE, command, example, fold_settings, log_of

LAW = settings(max_examples=30, deadline=None, derandomize=True, database=None)
KINDS = ("good", "raises", "odd", "spoils", "freeze", "repeat", "gap", "junk", "broken event", "rebaseline")


def scaled() -> FoldSettings:
    """A fold whose model learns runs as a matrix."""
    return fold_settings()._replace(build=lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression())


def served(scored: Scored) -> Served:
    return served_of(scored, Version(LINEAGE, 5), ())


def said(source: random.Random, y: bool, right: float) -> Served:
    """A prediction that is right so often; now and then none, a cold one, one without a score or of nonsense."""
    odd = source.random()
    if odd < 0.04:
        return (
            NOT_SERVED,
            served(COLD),
            served(Scored("true", None, None, None)),
            served(Scored("true", 1.5, None, None)),
            served(Scored("true", 0.9, None, None))._replace(position=-1),
        )[source.randrange(5)]
    score = source.choice((0.0, 1.0, 0.5, 0.2, 0.8)) if odd < 0.2 else source.random()
    if (score >= 0.5) != (y if source.random() < right else not y):
        score = 1.0 - score
    return served(Scored("true" if score >= 0.5 else "false", score, None, None))


def story(stretches: list[tuple[str, int]], seed: int) -> list[LogRecord]:
    """A log: each stretch is something to be said, then so many plain examples; every halt gets its command."""
    source = random.Random(seed)
    log: list[bytes] = []
    sequence, trigger, right = 0, 0, 0.9

    def add(x: float = 1.0, partition: int = 0, **more: Any) -> None:
        nonlocal sequence, trigger
        y = source.random() < 0.4
        log.append(example(sequence, x, y, trigger=(EVENTS, trigger), served=said(source, y, right), **more))
        sequence, trigger = sequence + 1, trigger + source.randint(1, 3)

    for kind, count in stretches:
        at = len(log)
        if kind in ("raises", "odd", "spoils"):
            add({"raises": BAD, "odd": ODD, "spoils": SPOILS}[kind])
            log.append(command("skip", position=at))
        elif kind == "freeze":
            log.append(command("freeze"))
            add()
            log.append(command("resume"))
        elif kind == "repeat" and sequence:
            log.append(example(sequence - 1, 3.0, True, trigger=(EVENTS, 0)))
        elif kind == "gap":
            sequence += 2
            add()
            log.append(command("accept-gap", position=at))
        elif kind == "junk":
            log += [b"no entry", command("skip", position=at)]
        elif kind == "broken event":
            add(event=b"\x02")
            log.append(command("skip", position=at))
        elif kind == "rebaseline":
            log.append(command("rebaseline"))
            right = source.choice((0.2, 0.9))
        for _ in range(count):
            add(source.gauss(0, 1))
    return log_of(log)


def whole(replica: Replica) -> dict[str, Any]:
    """All that the fold has accumulated."""
    quality, concept = replica.watch.quality.state(), replica.watch.concept.state()
    # Whether a halt is reported, whose command came in the same chunk, depends on the chunk.
    concept["signals"] = [signal for signal in concept["signals"] if signal["kind"] != "halted"]
    return facts(replica) | {
        "quality state": [pickle.dumps(vars(part)) for found in quality[4:6] for part in found.values()],
        "labels": (quality[:2], sorted(quality[2].items()), quality[3]),
        "recent": np.asarray(quality[6]).tobytes(),
        "concept": {name: value for name, value in concept.items() if name != "detector"},
        "detector": pickle.dumps(concept["detector"]),
        "told": [signal for signal in replica.only.signals if signal.kind != "halted"],
        "probes": replica.only.health.probes,
        "sound": replica.only.health.healthy_examples,
        "written": replica.book.written_at_ms,
    }


@LAW
@given(
    stretches=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 250)), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
    chunk=st.sampled_from((CHECK_EVERY, 100, 1000)),
    using=st.sampled_from((brittle, fold_settings, scaled)),
)
def test_runs_leave_what_singles_leave(
    stretches: list[tuple[str, int]], seed: int, chunk: int, using: Callable[[], FoldSettings]
) -> None:
    log = story([("good", 100), *stretches], seed)
    assert whole(Driver(log, using).run(chunk)) == whole(Driver(log, using).run(16))


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_runs_of_other_tasks_leave_what_singles_leave(task: str) -> None:
    source, log = random.Random(3), []
    for number in range(600):
        x = source.gauss(0, 1)
        if task == "multiclass":
            y, scores = Target(source.choice("abc"), None), {"a": 0.2, "b": 0.5, "c": 0.3}
            of = served(Scored("b", 0.5, scores if number % 5 else None, None))
        else:
            y, of = Target(None, 2 * x), served(Scored(None, None, None, x + source.gauss(0, 1 + number / 200)))
        log.append(example(number, x, y, served=of if number % 11 else NOT_SERVED))
    records = log_of(log)

    def make() -> Any:
        return fold_settings(task)

    assert whole(Driver(records, make).run(1000)) == whole(Driver(records, make).run(16))
    assert whole(Driver(records, make).run(1000))["learned"] == 600


def test_plain_examples_make_runs_and_what_there_is_to_say_of_stands_alone() -> None:
    log = story([("good", 120), ("junk", 70), ("broken event", 5)], 1)
    found = prepare(fold_settings(), log)
    offsets = [record.offset for item in found for record in (item.records if isinstance(item, Run) else [item.record])]
    assert offsets == [record.offset for record in log]
    alone = [item for item in found if isinstance(item, Single)]
    assert {120, 121, 192, 193} <= {item.record.offset for item in alone}
    assert len(alone) < len(log) / 2
    assert [item.record.value for item in alone if item.entry is None] == [b"no entry"]


@pytest.mark.parametrize("most", [1, 16, 70, 100, 1000])
def test_what_is_prepared_is_folded_in_pieces_of_any_size(most: int) -> None:
    log = story([("good", 120), ("freeze", 170), ("rebaseline", 90)], 1)
    at_once, in_pieces, sizes = Replica(fold_settings()), Replica(fold_settings()), []
    at_once.fold(log)
    rest = prepare(fold_settings(), log)
    while rest:
        before = in_pieces.read_position
        piece, rest = split(rest, most)
        in_pieces.fold_prepared(piece)
        sizes.append(in_pieces.read_position - before)
    assert sizes == [most] * (len(log) // most) + [len(log) % most] * (len(log) % most > 0)
    assert whole(in_pieces) == whole(at_once)


def test_a_label_that_the_model_does_not_know_stands_alone() -> None:
    values = [example(number, 1.0, Target("maybe" if number == 70 else "true", None)) for number in range(100)]
    singles = [item for item in prepare(fold_settings(), log_of(values)) if isinstance(item, Single)]
    assert [single.record.offset for single in singles] == [70]
    replica = Replica(fold_settings())
    replica.fold(log_of(values))
    assert (replica.only.unusable, replica.only.examples_learned, replica.halt) == (1, 99, None)


@pytest.mark.parametrize(
    ("sequence", "trigger", "reason"), [(151, 151, "gap"), (150, 149, "disagree"), (149, 150, "disagree")]
)
def test_an_example_that_is_not_the_next_one_halts_in_the_middle_of_a_run(
    sequence: int, trigger: int, reason: str
) -> None:
    values = [example(n, trigger=(EVENTS, n)) for n in range(150)]
    values += [
        example(sequence, trigger=(EVENTS, trigger)),
        *(example(n, trigger=(EVENTS, n)) for n in range(152, 200)),
    ]
    replica = Replica(fold_settings())
    replica.fold(log_of(values))
    assert replica.halt is not None
    assert (replica.halt.position, replica.halt.reason, replica.halt.corrupted) == (150, reason, False)
    assert (replica.position, replica.only.examples_learned, replica.read_position) == (150, 150, 199)


def test_a_repeat_in_the_middle_of_a_run_is_dropped_and_counted() -> None:
    values = [example(n, trigger=(EVENTS, n)) for n in range(200)]
    replica = Replica(fold_settings())
    replica.fold(log_of([*values[:150], values[149], *values[150:]]))
    assert (replica.halt, replica.book.dropped, replica.only.examples_learned, replica.position) == (
        None,
        1,
        200,
        201,
    )


class Interrupted(linear_model.LogisticRegression):
    """Ctrl-C comes while it learns this example."""

    def learn_one(self, x: dict[str, Any], y: bool, w: float = 1.0) -> None:
        if x["x"] == BAD:
            raise KeyboardInterrupt
        super().learn_one(x, y, w)


@pytest.mark.parametrize("before", [10, 100])
def test_a_fold_that_is_interrupted_is_of_no_use_any_more(before: int) -> None:
    """The sequences runs ahead of the model: what follows would be learned as if nothing were missing."""
    values = [example(number, BAD if number == before else 1.0) for number in range(200)]
    replica = Replica(fold_settings()._replace(build=Interrupted))
    with pytest.raises(KeyboardInterrupt):
        replica.fold(log_of(values))
    assert replica.interrupted
    with pytest.raises(FatalError, match="interrupted"):
        replica.fold(log_of(values[150:], 150))
    with pytest.raises(AssertionError):
        replica.state()


def test_a_skip_leaves_later_runs_runs() -> None:
    values = [example(n, BAD if n == 100 else 1.0) for n in range(101)] + [command("skip", position=100)]
    values += [example(n) for n in range(101, 400)]
    driver = Driver(log_of(values), brittle)
    driver.run(1000)
    assert driver.replica.only.halts.overrides.get(100) == "skip"
    replica = driver.replica
    log = log_of([example(n) for n in range(400, 500)], len(values))
    runs, learned = [item for item in replica.prepare(log) if isinstance(item, Run)], replica.only.examples_learned
    assert [run.size for run in runs] == [100]
    for run in runs:
        unread = [record._replace(value=b"") for record in run.records]  # of these a single would make a halt
        replica.fold_prepared([run._replace(records=unread)])
    assert (replica.halt, replica.only.examples_learned) == (None, learned + 100)

"""Several models on one log: each has the bits that it would have alone, and the book the same whoever follows it."""

import pickle
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import linear_model, naive_bayes, preprocessing, tree

from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.book import Book
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.fold.replica import Replica
from stream_ml.core.fold.watch import Watch
from stream_ml.core.inputs.features import FeaturePlan
from stream_ml.records import LogRecord, Served
from tests.core.fold.test_fold import BAD, SPOILS, STORY, Driver, brittle, examples
from tests.core.fold.test_limits import labelled, of_fold, usual
from tests.equivalence.test_batches import story as runs_and_singles
from tests.support.partition import LINEAGE, command, example, fold_settings, log_of, parts

LAW = settings(max_examples=25, deadline=None, derandomize=True, database=None)
LINEAR, TREE, BAYES = "1" * 16, "2" * 16, "3" * 16


def scaled() -> Any:
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def other_plan() -> FeaturePlan:
    """The same features as of another configuration: an object of its own, which gives rows of its own."""
    app = parts()
    return FeaturePlan(app.reader.payloads.reader, app.config.features, {app.config.events.id, app.config.events.time})


def several() -> list[FoldSettings]:
    """Settings of three models; the last one has a plan of its own."""
    base = fold_settings()
    return [
        base._replace(lineage=LINEAR, build=scaled),
        base._replace(lineage=TREE, build=lambda: tree.HoeffdingTreeClassifier(grace_period=20)),
        base._replace(lineage=BAYES, build=naive_bayes.GaussianNB, plan=other_plan()),
    ]


def head(*of: FoldSettings) -> Replica:
    """A replica from the log's beginning, with these models."""
    return Replica(of[0], Book(of[0]), Watch(of[0]), *map(LineageModel, of))


def drive(replica: Replica, log: Sequence[LogRecord], chunk: int) -> None:
    """Fold to the end; where the book goes back, fold from there."""
    for _ in range(2_000):
        start = replica.read_position
        some = [record for record in log if record.offset >= start][:chunk]
        if not some:
            return
        replica.fold_prepared(replica.prepare(some))
        if replica.book.halts.refold_from is not None:
            replica.clear_halt()
    raise AssertionError("it goes round in circles")


def bits(model: LineageModel) -> dict[str, Any]:
    """All that a model has accumulated."""
    return {
        "probes": model.probe_bits(),
        "position": model.position,
        "learned": model.examples_learned,
        "halt": model.halt,
        "unusable": model.unusable,
        "frozen": model.frozen,
        "told": list(model.signals),
    }


def kept(replica: Replica) -> dict[str, Any]:
    """All that the book and the watch have accumulated."""
    book = replica.book
    return {
        "sequences": book.sequences.plain(),
        "seen": book.seen.plain(),
        "position": book.position,
        "halt": book.halt,
        "facts": book.facts.state(),
        "quality": pickle.dumps(replica.watch.quality.report()),
        "signals": list(replica.watch.concept.signals),
    }


@LAW
@given(chunks=st.lists(st.sampled_from((1, 7, 64, 300)), min_size=4, max_size=4), seed=st.integers(0, 99))
def test_models_side_by_side_are_bit_equal_to_each_alone(chunks: list[int], seed: int) -> None:
    log = runs_and_singles([("good", 150), ("repeat", 9), ("good", 200)], seed)
    together = head(*several())
    drive(together, log, chunks[0])
    for of, chunk in zip(several(), chunks[1:], strict=True):
        alone = head(of)
        drive(alone, log, chunk)
        assert bits(together.models[of.lineage]) == bits(alone.models[of.lineage])
        assert kept(together) == kept(alone)


@pytest.mark.parametrize("values", [STORY, examples(*[float(n % 7 - 3) for n in range(400)])])
def test_the_book_is_the_same_whoever_follows_it(values: list[bytes]) -> None:
    log = log_of(values)
    none, one, three = head(fold_settings()), head(brittle()), head(*several())
    none.models.clear()
    for replica, chunk in ((none, 50), (one, 9), (three, 300)):
        drive(replica, log, chunk)
    assert kept(none) == kept(one) == kept(three)


@pytest.mark.parametrize("bad", [BAD, SPOILS])
@pytest.mark.parametrize("chunk", [1, 40, 1_000])
def test_a_model_that_raises_halts_itself_alone(bad: float, chunk: int) -> None:
    xs = [float(n % 5 - 2) for n in range(400)]
    xs[150] = bad
    log = log_of(examples(*xs))
    others = several()[:2]
    together = head(brittle()._replace(payloads=others[0].payloads), *others)
    drive(together, log, chunk)
    broken = together.models[LINEAGE]
    assert broken.is_to_be_remade and broken.halt is not None and together.book.halt is None
    assert broken.position < together.book.position == 400
    for of in others:
        alone = head(of)
        drive(alone, log, chunk)
        assert bits(together.models[of.lineage]) == bits(alone.models[of.lineage])
    assert together.watch.quality.count + together.watch.quality.left_out == 400


@LAW
@given(begins=st.integers(0, 300), joins=st.integers(0, 300), chunk=st.sampled_from((1, 30, 1_000)))
def test_book_and_model_from_different_positions_meet(begins: int, joins: int, chunk: int) -> None:
    """One behind, out of a checkpoint, with a book of its own, joins where both are; it has the bits it has alone."""
    log = runs_and_singles([("good", 120), ("repeat", 5), ("good", 200)], 3)
    own, other = several()[0], several()[2]
    begins, joins = min(begins, joins, len(log)), min(joins, len(log))
    main = head(own)
    drive(main, log[:joins], 50)
    saved = head(other)
    drive(saved, log[:begins], 40)
    state = pickle.loads(pickle.dumps((saved.book.state(), saved.models[BAYES].state())))
    fresh = several()[2]
    book, model = Book(fresh), LineageModel(fresh)
    book.restore(state[0])
    model.restore(state[1])
    chase = Replica(fresh, book, None, model)
    drive(chase, log[:joins], chunk)
    main.join(model)
    drive(main, log, chunk)
    alone = head(several()[2])
    drive(alone, log, 64)
    assert bits(main.models[BAYES]) == bits(alone.models[BAYES])


def test_a_model_that_is_elsewhere_does_not_join() -> None:
    main, other = head(several()[0]), LineageModel(several()[1])
    drive(main, log_of(examples(1.0, -1.0)), 10)
    with pytest.raises(AssertionError):
        main.join(other)


# --- commands for one model ---


@pytest.mark.parametrize("chunk", [1, 1_000])
def test_freeze_of_one_lineage_leaves_the_others_learning(chunk: int) -> None:
    values = [*examples(1.0, -1.0), command("freeze", lineage=TREE), *examples(2.0, 3.0, first=2)]
    together = head(*several())
    drive(together, log_of(values), chunk)
    assert {name: model.examples_learned for name, model in together.models.items()} == {LINEAR: 4, TREE: 2, BAYES: 4}
    assert [signal.kind for signal in together.models[TREE].signals] == ["frozen"]
    assert not together.book.facts.frozen and not list(together.watch.concept.signals)
    drive(together, log_of([*values, command("resume", lineage=TREE), *examples(1.0, first=4)]), chunk)
    assert together.models[TREE].examples_learned == 3


@pytest.mark.parametrize("chunk", [1, 1_000])
def test_skip_of_one_lineage_ends_the_halt_of_that_one_alone(chunk: int) -> None:
    other = brittle()._replace(lineage=TREE)
    values = [*examples(1.0, BAD, 2.0), command("skip", position=1, lineage=TREE), *examples(3.0, first=3)]
    together = head(brittle(), other._replace(payloads=brittle().payloads))
    drive(together, log_of(values), chunk)
    assert together.models[TREE].halts.refold_from == 1
    assert together.models[LINEAGE].halts.refold_from is None


def test_a_command_for_one_lineage_ends_no_halt_of_the_book() -> None:
    values = [example(0), example(5), command("skip", position=1, lineage=LINEAR)]
    together = head(*several())
    drive(together, log_of(values), 10)
    assert together.book.halt is not None
    drive(together, log_of([*values, command("skip", position=1)]), 10)
    assert together.book.halt is None and {model.position for model in together.models.values()} == {4}


def test_drift_is_of_the_losses_of_the_one_that_serves() -> None:
    """Once the log says who serves, what another one had said before counts for quality and not for drift."""

    def served(lineage: str, number: int) -> bytes:
        said = Served("true", 0.9, None, None, lineage, number, ())
        return example(number, 1.0, True, served=said)

    of = several()
    watches: list[Watch] = []
    for mixed in (False, True):
        replica = head(of[0])
        replica.watch.champion = LINEAR
        names: list[str] = [LINEAR if not mixed or number % 3 else TREE for number in range(400)]
        drive(replica, log_of([served(name, number) for number, name in enumerate(names)]), 1_000)
        watches.append(replica.watch)
    alone, mixed_one = watches
    assert (alone.quality.count, mixed_one.quality.count) == (400, 400)
    assert (alone.concept.losses.full, len(alone.concept.losses.numbers)) == (False, 400)
    assert len(mixed_one.concept.losses.numbers) == 266


# --- halts of a model ---


def strict() -> FoldSettings:
    """A fold that halts at an example that is far from all others."""
    return of_fold("halt")()


@pytest.mark.parametrize("chunk", [1, 7, 64, 1_000])
@pytest.mark.parametrize(("first", "second", "learned"), [("accept", "skip", 260), ("skip", "accept", 259)])
def test_the_first_of_two_commands_ends_the_halt_however_the_log_is_cut(
    chunk: int, first: str, second: str, learned: int
) -> None:
    values = labelled(usual(260), {100: 1e9})
    log = log_of([*values, command(first, position=100), command(second, position=100)])
    replica = Driver(log, strict).run(chunk)
    assert (replica.halt, replica.only.examples_learned) == (None, learned)


@pytest.mark.parametrize("arguments", [{}, {"position": "abc"}, {"position": None}, {"position": [100]}])
@pytest.mark.parametrize("name", ["skip", "accept", "accept-gap"])
def test_a_command_without_a_position_leaves_a_halted_model_halted(name: str, arguments: dict[str, Any]) -> None:
    log = log_of([*labelled(usual(150), {100: 1e9}), command(name, **arguments)])
    replica = Driver(log, strict).run(40)
    assert replica.halt is not None and (replica.halt.position, replica.interrupted) == (100, False)


def test_a_corrupted_model_whose_example_is_not_known_yet_obeys_no_command() -> None:
    """Its successor finds the example; a command for where it was found would leave another one out."""
    xs = [float(n % 5 - 2) for n in range(200)]
    xs[70] = SPOILS
    found = {
        chunk: Driver(log_of([*examples(*xs), command("skip", position=127), command("skip", position=70)])).run(chunk)
        for chunk in (1, 32, 300)
    }
    assert {replica.only.examples_learned for replica in found.values()} == {199}
    assert len({tuple(replica.only.probe_bits()) for replica in found.values()}) == 1

"""What a lineage leaves out: the bits of a model that never saw it, whatever stands around it in the log."""

import pickle
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.book import Book
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.fold.replica import Replica
from stream_ml.core.model.selection import EVERYTHING, Commanded, Selection, may_seed, united
from stream_ml.records import LogRecord
from tests.core.fold.test_fold import BAD, Driver, brittle, examples
from tests.core.fold.test_models_side_by_side import drive, head, several
from tests.equivalence.test_batches import story as runs_and_singles
from tests.support.partition import command, example, log_of

LAW = settings(max_examples=20, deadline=None, derandomize=True, database=None)

RANGES = st.lists(
    st.tuples(st.integers(0, 380), st.integers(1, 90)).map(lambda one: (one[0], one[0] + one[1])), max_size=4
)


def selecting(of: FoldSettings, *ranges: tuple[int, int], **more: Any) -> FoldSettings:
    """Settings of a model that leaves these out."""
    return of._replace(selection=Selection(united(ranges), **more))


def learned(model: LineageModel) -> dict[str, Any]:
    """What a model is, but for its position."""
    return {
        "probes": model.probe_bits(),
        "learned": model.examples_learned,
        "unusable": model.unusable,
        "limits": repr(model.model.limits.state()),
        "halted": model.halt is not None,
    }


def filtered(log: list[LogRecord], selection: Selection) -> Replica:
    """A replica whose model is given what the book judges, but for what is left out."""
    of = several()[0]
    book, model = Book(of), LineageModel(of)
    replica = Replica(of, book, None, model)
    for record in log:
        judged = book.judge(replica.prepare([record]))
        model.fold([] if selection.excludes(record.offset) else judged)
    return replica


# --- case 9: equal to a log without them ---


@LAW
@given(ranges=RANGES, chunk=st.sampled_from((1, 7, 64, 500)), seed=st.integers(0, 50))
def test_exclusion_equals_a_log_without(ranges: list[tuple[int, int]], chunk: int, seed: int) -> None:
    log = runs_and_singles([("good", 150), ("repeat", 5), ("good", 200)], seed)
    of = selecting(several()[0], *ranges)
    replica = head(of)
    drive(replica, log, chunk)
    without = filtered(log, of.selection)
    assert learned(replica.only) == learned(without.only)
    assert replica.only.position == replica.book.position == len(log)
    assert replica.book.sequences.plain() == without.book.sequences.plain(), "what is left out counts as seen"


@pytest.mark.parametrize("chunk", [1, 40, 1_000])
def test_what_would_halt_the_model_does_not_where_it_is_left_out(chunk: int) -> None:
    xs = [float(n % 5 - 2) for n in range(300)]
    xs[150] = BAD
    replica = head(selecting(brittle(), (150, 151)))
    drive(replica, log_of(examples(*xs)), chunk)
    assert replica.only.halt is None and replica.only.examples_learned == 299


# --- commands ---


@pytest.mark.parametrize("chunk", [1, 1_000])
def test_commands_before_commands_from_do_not_freeze_it(chunk: int) -> None:
    values = [*examples(1.0, -1.0), command("freeze"), *examples(2.0, first=2), command("resume"), example(3)]
    counts = {}
    for first in (0, 3, 4, 6):
        replica = head(several()[0]._replace(selection=Selection(commands_from=first)))
        drive(replica, log_of(values), chunk)
        counts[first] = replica.only.examples_learned
    assert counts == {0: 3, 3: 4, 4: 4, 6: 4}


@pytest.mark.parametrize("chunk", [1, 1_000])
def test_a_model_that_is_held_stays_so_until_a_resume_names_it(chunk: int) -> None:
    of = several()[0]._replace(selection=Selection(hold_from=200))
    values = examples(*[float(n % 7 - 3) for n in range(300)])
    replica = head(of)
    drive(replica, log_of(values), chunk)
    assert replica.only.examples_learned == 200 and replica.only.frozen
    values += [command("freeze"), command("resume"), *examples(1.0, first=300)]
    drive(replica, log_of(values), chunk)
    assert replica.only.examples_learned == 200, "a resume for all is not for this one"
    values += [command("resume", lineage=of.lineage), *examples(2.0, first=301)]
    drive(replica, log_of(values), chunk)
    assert replica.only.examples_learned == 201 and not replica.only.frozen


def test_a_hold_survives_a_checkpoint_before_at_and_behind_it() -> None:
    of = several()[0]._replace(selection=Selection(hold_from=100))
    log = log_of([*examples(*[float(n % 7 - 3) for n in range(150)]), command("resume"), *examples(1.0, first=150)])
    whole = head(of)
    drive(whole, log, 64)
    for position in (0, 99, 100, 101, 151):
        first = head(of)
        drive(first, log[:position], 10)
        state = pickle.loads(pickle.dumps(first.state()))
        second = head(of)
        second.restore(state)
        drive(second, log, 33)
        assert learned(second.only) == learned(whole.only) and second.only.frozen


# --- case 10: from a parent's checkpoint ---


@LAW
@given(
    ranges=RANGES,
    more=RANGES,
    at=st.integers(0, 350),
    froze=st.integers(0, 350),
    commands_from=st.sampled_from((0, 120, 400)),
    named=st.booleans(),
)
def test_a_checkpoint_seeds_another_lineage_only_where_both_have_learned_the_same(
    ranges: list[tuple[int, int]],
    more: list[tuple[int, int]],
    at: int,
    froze: int,
    commands_from: int,
    named: bool,
) -> None:
    base = several()[0]
    parent = selecting(base, *ranges)
    child = selecting(base, *ranges, *more, commands_from=commands_from)._replace(lineage="9" * 16)
    xs = [float(n % 7 - 3) for n in range(350)]
    orders = {"lineage": base.lineage} if named else {}
    values = [*examples(*xs[:froze]), command("freeze", **orders), *examples(*xs[froze:], first=froze)]
    log = log_of(values)
    old = head(parent)
    drive(old, log[:at], 50)
    model = old.only
    right = head(child)
    drive(right, log[:at], 50)
    same = learned(model) == learned(right.only) and model.frozen is right.only.frozen
    if may_seed(parent.selection, child.selection, model.position, model.freezing.commanded):
        assert same
    elif not same:
        return
    state = pickle.loads(pickle.dumps((old.book.state(), model.state())))
    if may_seed(parent.selection, child.selection, model.position, model.freezing.commanded):
        book, seeded = Book(child), LineageModel(child)
        book.restore(state[0])
        seeded.restore(state[1])
        replica = Replica(child, book, None, seeded)
        drive(replica, log, 64)
        whole = head(child)
        drive(whole, log, 64)
        assert learned(replica.only) == learned(whole.only)


def test_what_seeds_and_what_does_not() -> None:
    whole, without = EVERYTHING, Selection(((100, 200),))
    assert may_seed(whole, without, 100, Commanded()) and not may_seed(whole, without, 101, Commanded())
    assert may_seed(without, whole, 100, Commanded()) and not may_seed(without, whole, 250, Commanded())
    held = Selection(hold_from=50)
    assert may_seed(whole, held, 50, Commanded()) and not may_seed(whole, held, 51, Commanded())
    later = Selection(((100, 200),), commands_from=300)
    assert may_seed(whole, later, 100, Commanded()) and not may_seed(whole, later, 100, Commanded(40))
    assert not may_seed(whole, whole, 100, Commanded(40, 40)), "a command was for that model alone"
    longer = Selection(((100, 300),))
    assert may_seed(without, longer, 200, Commanded()) and not may_seed(without, longer, 201, Commanded())


def test_a_model_that_was_named_itself_gets_no_checkpoint_of_another() -> None:
    """A command that names the child is none for the parent, whose checkpoint knows nothing of it."""
    child = several()[0]
    parent = child._replace(lineage="9" * 16, selection=Selection(commands_from=250))
    xs = [float(n % 7 - 3) for n in range(300)]
    freeze = command("freeze", lineage=child.lineage)
    log = log_of([*examples(*xs[:50]), freeze, *examples(*xs[50:], first=50)])
    other, own = head(parent), head(child)
    drive(other, log, 64)
    drive(own, log, 64)
    assert own.only.examples_learned == 50 and other.only.examples_learned == 300
    assert not may_seed(parent.selection, child.selection, other.only.position, other.only.freezing.commanded)


def test_what_a_parent_has_found_is_the_childs_own_finding_and_told_once() -> None:
    of = several()[0]
    values = [*examples(*[float(n % 7 - 3) for n in range(150)]), example(150, x=1e9), *examples(1.0, first=151)]
    parent = head(of)
    drive(parent, log_of([*values, command("freeze", lineage=of.lineage)]), 64)
    assert parent.only.signals
    child = LineageModel(of._replace(lineage="9" * 16))
    child.restore(pickle.loads(pickle.dumps(parent.only.state())))
    assert {signal.origin for signal in child.signals} == {"9" * 16}


# --- case 11: any program of commands ---


def program(seed: int) -> list[bytes]:
    """Examples with commands and gaps between them, in any order."""
    chance = random.Random(seed)
    values, sequence = list[bytes](), 0
    for _ in range(12):
        for _ in range(chance.randint(1, 30)):
            if chance.random() < 0.02:
                sequence += 1  # one is missing
            values.append(example(sequence, x=chance.choice((1.0, -2.0, 0.5, BAD if chance.random() < 0.1 else 3.0))))
            sequence += 1
        name = chance.choice(("freeze", "resume", "skip", "accept-gap", "accept", "rebaseline"))
        at = {"position": chance.randrange(len(values))} if name in ("skip", "accept-gap", "accept") else {}
        of = {"lineage": brittle().lineage} if chance.random() < 0.3 and name != "rebaseline" else {}
        values.append(command(name, **at, **of))
    return values


@pytest.mark.parametrize("seed", range(15))
def test_any_program_of_commands_gives_the_same_bits_however_it_is_cut(seed: int) -> None:
    values, chance = program(seed), random.Random(1_000 + seed)
    ranges = [(first, first + chance.randint(1, 40)) for first in chance.sample(range(200), 3)]
    selection = Selection(
        united(ranges),
        commands_from=chance.choice((0, chance.randrange(200))),
        hold_from=chance.choice((None, None, chance.randrange(200))),
    )
    found = []
    for chunk in (1, 7, 500):
        driver = Driver(log_of(values), lambda: brittle()._replace(selection=selection))
        while driver.turn(chunk):
            if chance.random() < 0.3 and not driver.replica.only.is_to_be_remade:
                driver.checkpoint()
        model = driver.replica.only
        found.append((learned(model), model.position, model.halt, driver.replica.book.halt, model.frozen))
    assert found[0] == found[1] == found[2]


# --- as a specification has it ---


def test_a_selection_comes_back_as_it_was_written() -> None:
    for one in (EVERYTHING, Selection(((1, 2), (5, 9)), 7, 3), Selection(hold_from=0)):
        assert Selection.of(one.plain()) == one
    assert EVERYTHING.plain() is None and Selection(((3, 5),)).plain() is not None


@pytest.mark.parametrize(
    "made_up",
    [
        {"exclude": [[2, 1]]},
        {"exclude": [[0, 5], [4, 9]]},
        {"exclude": [[5, 6], [1, 2]]},
        {"exclude": [[0, True]]},
        {"exclude": [[0, 1.5]]},
        {"exclude": [[-1, 3]]},
        {"exclude": [[0, 2**63]]},
        {"exclude": [[0, 1, 2]]},
        {"exclude": "0:5"},
        {"exclude": [[2 * n, 2 * n + 1] for n in range(10_001)]},
        {"commands_from": None},
        {"hold_from": "end"},
        {"learn": 1},
        [1],
    ],
)
def test_a_selection_that_somebody_made_up_is_refused(made_up: Any) -> None:
    with pytest.raises(ValueError, match=r"range|offsets|keys"):
        Selection.of(made_up)


@LAW
@given(ranges=RANGES, offset=st.integers(0, 500))
def test_what_holds_at_an_offset_holds_up_to_the_next_bound(ranges: list[tuple[int, int]], offset: int) -> None:
    selection = Selection(united(ranges), hold_from=77)
    bound = selection.next_bound(offset)
    stop = 600 if bound is None else bound
    assert bound is None or bound > offset
    assert len({selection.excludes(at) for at in range(offset, stop)}) == 1

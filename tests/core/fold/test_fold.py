"""The fold by its rules: what is learned, what is dropped, where it halts, and how it goes on."""

import itertools
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import dummy, linear_model, metrics, stats

from stream_ml.core.avro.schema import load_schema
from stream_ml.core.evaluation.metrics import BinnedRocAuc
from stream_ml.core.evaluation.progressive import Quality
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.halt import Halt, Refold, Remake
from stream_ml.core.fold.health import CHECK_EVERY, PROBES_MAX
from stream_ml.core.fold.replica import Replica
from stream_ml.core.log.entry import encode_schema, encode_start
from stream_ml.core.model.estimator import COLD, Scored
from stream_ml.core.partition.predictions import served_of
from stream_ml.records import BY_EVENT, BY_LABEL, NOT_SERVED, LogRecord, Served, Target, Version
from tests.support.partition import (
    EVENTS,
    FEEDBACK,
    LINEAGE,
    NOW_MS,
    T0,
    command,
    example,
    fold_settings,
    log_of,
    parts,
)

LAW = settings(max_examples=40, deadline=None, derandomize=True, database=None)
BAD, SPOILS, ODD = 13.0, 99.0, 7.0


class Brittle(linear_model.LogisticRegression):
    """Raises on BAD, when half of it has changed; SPOILS turns it into NaN; ODD raises what no one foresaw."""

    def learn_one(self, x: dict[str, Any], y: bool, w: float = 1.0) -> None:
        super().learn_one(x, y, w)
        if x["x"] == BAD:
            raise ValueError("half learned")
        if x["x"] == ODD:
            raise AssertionError("an estimator's own assertion")
        if x["x"] == SPOILS:
            self.intercept = math.nan


def brittle() -> FoldSettings:
    """A fold whose model can be broken."""
    return fold_settings()._replace(build=Brittle)


def fold(*values: bytes, using: FoldSettings | None = None) -> Replica:
    """A replica that has folded these in one go."""
    replica = Replica(using or fold_settings())
    replica.fold(log_of(values))
    return replica


class Driver:
    """Folds a list as the worker folds the log: goes back after a halt is ended, makes a corrupted replica anew."""

    def __init__(self, log: list[LogRecord], using: Callable[[], FoldSettings] = brittle) -> None:
        self.log, self.using = log, using
        self.replica = Replica(using())
        self.checkpoints: list[bytes] = []
        self.turns = self.behind = 0

    def run(self, chunk: int = 32) -> Replica:
        """Fold to the end of the list."""
        while self.turn(chunk):
            pass
        return self.replica

    def turn(self, chunk: int) -> bool:
        """Fold some more; False at the end."""
        self.turns += 1
        assert self.turns < 2_000, "it goes round in circles"
        start = self.replica.read_position
        records = [record for record in self.log if record.offset >= start][:chunk]
        result = self.replica.fold(records)
        if isinstance(result, Remake):
            self.behind = self.replica.read_position
            self.replica = self.replica.successor(self.restored(result.halt.position))
        elif isinstance(result, Refold):
            self.replica.clear_halt()
        elif self.replica.read_position >= self.behind:
            self.replica.only.recovered()
        return bool(records)

    def checkpoint(self) -> None:
        """Keep the state, where there is one to keep."""
        if self.replica.halt is None:
            self.checkpoints.append(pickle.dumps(self.replica.state()))

    def restored(self, at_most: int) -> Replica:
        """A replica from the newest checkpoint up to there."""
        replica = Replica(self.using())
        for state in map(pickle.loads, reversed(self.checkpoints)):
            if state["model"]["position"] <= at_most:
                replica.restore(state)
                break
        return replica


def facts(replica: Replica) -> dict[str, Any]:
    """Everything that replicas must agree on, to the last bit."""
    return {
        "bits": replica.only.probe_bits(),
        "quality": pickle.dumps(replica.watch.quality.report()),
        "counted": (replica.watch.quality.count, replica.watch.quality.left_out),
        "sequences": replica.book.sequences.plain(),
        "seen": replica.book.seen.plain(),
        "position": replica.position,
        "read": replica.read_position,
        "halt": replica.halt,
        "learned": replica.only.examples_learned,
        "counts": (replica.book.dropped, replica.only.unusable, replica.only.frozen),
        "digest": replica.book.last_digest,
        "schemas": replica.book.facts.schemas,
        "output_schemas": replica.book.facts.output_schemas,
        "started": replica.book.facts.started,
    }


def features(replica: Replica) -> list[Any]:
    """Weights, as a witness of what was learned."""
    model = replica.only.model.learner.estimator
    return [dict(model.weights), model.intercept]


def examples(*xs: float, first: int = 0) -> list[bytes]:
    """Examples in sequence whose label is true above zero."""
    return [example(number, x, x > 0) for number, x in enumerate(xs, first)]


# --- rule 14 ---


def test_next_sequence_with_a_later_trigger_is_learned() -> None:
    replica = fold(*examples(1.0, -2.0, 3.0))
    assert (replica.only.examples_learned, replica.position, replica.halt) == (3, 3, None)
    model = linear_model.LogisticRegression()
    for x in (1.0, -2.0, 3.0):
        model.learn_one({"x": x}, x > 0)
    assert features(replica) == [dict(model.weights), model.intercept]


def test_a_repeat_is_dropped_and_counted() -> None:
    one, two = examples(1.0, -2.0)
    replica = fold(one, two, one, two)
    assert (replica.only.examples_learned, replica.book.dropped, replica.halt, replica.position) == (2, 2, None, 4)
    assert features(replica) == features(fold(one, two))
    assert replica.watch.quality.left_out == 2


def test_each_partition_and_each_input_of_triggers_has_its_own_account() -> None:
    replica = fold(
        example(0, trigger=(FEEDBACK, 9)),
        example(0, trigger=(FEEDBACK, 2), partition=1),
        example(1, trigger=(EVENTS, 4)),
        example(1, trigger=(EVENTS, 3), partition=1),
        example(2, trigger=(FEEDBACK, 10)),
        using=fold_settings()._replace(started=(0, 1)),
    )
    assert (replica.only.examples_learned, replica.halt) == (5, None)
    assert [replica.book.sequences.next_sequence(p) for p in (0, 1, 2)] == [3, 2, 0]
    assert replica.book.sequences.plain()[0] == (3, {BY_LABEL: 10, BY_EVENT: 4})


@pytest.mark.parametrize(
    ("sequence", "trigger", "reason"),
    [(3, 3, "gap"), (2, 1, "disagree"), (2, 0, "disagree"), (1, 2, "disagree"), (3, 1, "disagree")],
)
def test_a_gap_or_a_disagreement_halts_learning(sequence: int, trigger: int, reason: str) -> None:
    replica = fold(*examples(1.0, -2.0), example(sequence, 5.0, trigger=(FEEDBACK, trigger)))
    assert replica.halt is not None
    assert (replica.halt.reason, replica.halt.position, replica.halt.corrupted) == (reason, 2, False)
    assert (replica.only.examples_learned, replica.position) == (2, 2)


# --- rules 15 and 16: halted ---


def test_a_halted_replica_reads_on_and_counts_what_it_saw() -> None:
    values = (*examples(1.0), example(4), example(5), example(0, partition=3))
    replica = fold(*values, using=fold_settings()._replace(started=(0, 3)))
    assert (replica.position, replica.read_position, replica.version) == (1, 4, Version(LINEAGE, 1))
    assert (replica.book.sequences.next_sequence(0), replica.book.seen.next_sequence(0)) == (1, 6)
    assert (replica.book.sequences.next_sequence(3), replica.book.seen.next_sequence(3)) == (0, 1)
    assert replica.only.model.score_one({"x": 1.0}) != COLD


def test_a_halted_replica_notes_schemas_and_starts() -> None:
    schema = load_schema('{"type": "record", "name": "R", "fields": [{"name": "f", "type": "int"}]}', where="test")
    replica = fold(
        example(1),
        encode_schema(schema.fingerprint, schema.text, written_at_ms=NOW_MS, writer="w"),
        encode_start(4, 10, 20, written_at_ms=NOW_MS, writer="w"),
    )
    assert schema.fingerprint in replica.book.facts.schemas
    assert replica.book.facts.started == {4: {"events": 10, "feedback": 20, "partitions": 1, "backlog_end": 0}}


def test_learn_one_that_raises_corrupts_and_the_replica_is_made_anew_up_to_there() -> None:
    values = [*examples(1.0, -2.0, BAD), *examples(4.0, first=3)]
    replica = fold(*values, using=brittle())
    assert replica.halt is not None
    assert (replica.halt.reason, replica.halt.position, replica.halt.corrupted) == ("model_raised", 2, True)
    clean = Driver(log_of(values)).run()
    assert clean.halt is not None
    assert (clean.halt.position, clean.halt.corrupted, clean.position, clean.read_position) == (2, False, 2, 4)
    assert features(clean) == features(fold(*values[:2], using=brittle()))
    assert features(clean) != features(replica)
    assert clean.book.seen.next_sequence(0) == 4


def test_whatever_learn_one_raises_halts_learning() -> None:
    replica = fold(*examples(1.0, ODD), using=brittle())
    assert replica.halt is not None
    assert (replica.halt.position, replica.halt.corrupted) == (1, True)


@pytest.mark.parametrize("before", [3, CHECK_EVERY - 1, CHECK_EVERY + 5])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_a_model_that_stops_being_finite_halts_at_the_example_that_corrupted_it(before: int, chunk: int) -> None:
    xs = [float(number % 5 - 2) for number in range(before)]
    log = log_of(examples(*xs, SPOILS, *[1.0] * (2 * CHECK_EVERY)))
    driver = Driver(log)
    while driver.turn(chunk):
        driver.checkpoint()
    replica = driver.replica
    assert replica.halt is not None
    assert (replica.halt.reason, replica.halt.position) == ("not_finite", before)
    assert replica.position == before
    assert features(replica) == features(fold(*examples(*xs), using=brittle()))


@pytest.mark.parametrize("chunk", [1, 7, 1_000])
def test_a_corrupted_model_tells_nothing_before_the_halt_that_comes_first(chunk: int) -> None:
    """However the log came: else what is reported would hang on how far the fold had read when it looked."""
    xs = [float(number % 5 - 2) for number in range(70)]
    after = [*examples(*xs, SPOILS, 1.0, 1.0), command("rebaseline")]
    log = log_of([*after, *examples(*[1.0] * 200, first=73)])
    driver, told = Driver(log), set()
    while driver.turn(chunk):
        told |= {(signal.origin, signal.kind, signal.position) for signal in driver.replica.signals_after(-1)}
    assert told == {("watch", "rebaselined", 73), (LINEAGE, "halted", 70)}


@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_every_checkpoint_leads_to_the_same_model_also_one_written_after_the_model_was_corrupted(chunk: int) -> None:
    before = CHECK_EVERY + 5
    xs = [float(number % 5 - 2) for number in range(before)]
    values = examples(*xs, SPOILS, *[1.0] * 80)
    values += [command("skip", position=before), *examples(2.0, 3.0, first=len(values))]
    driver = Driver(log_of(values))
    while driver.turn(chunk):
        driver.checkpoint()
    whole = facts(driver.replica)
    assert (whole["halt"], whole["learned"]) == (None, len(values) - 2)
    for state in driver.checkpoints:
        again = Driver(log_of(values))
        again.checkpoints = [state]
        again.replica = again.restored(len(values))
        assert facts(again.run(chunk)) == whole


def test_skip_folds_on_from_the_halt_and_past_the_command() -> None:
    values = [*examples(1.0, -2.0, BAD, 4.0), command("skip", position=2), *examples(-5.0, first=4)]
    replica = Driver(log_of(values)).run()
    assert (replica.halt, replica.position, replica.only.examples_learned) == (None, 6, 4)
    assert replica.book.sequences.next_sequence(0) == 5
    model = Brittle()
    for x in (1.0, -2.0, 4.0, -5.0):
        model.learn_one({"x": x}, x > 0)
    assert features(replica) == [dict(model.weights), model.intercept]


def test_a_command_for_another_position_lifts_nothing() -> None:
    replica = Driver(log_of([*examples(1.0, BAD), command("skip", position=0), command("skip", position=3)])).run()
    assert replica.halt is not None
    assert replica.halt.position == 1


def test_a_skipped_example_counts_as_seen() -> None:
    values = [example(0), example(5), command("skip", position=1), example(6)]
    replica = Driver(log_of(values)).run()
    assert (replica.halt, replica.only.examples_learned, replica.book.sequences.next_sequence(0)) == (None, 2, 7)


def test_accept_gap_takes_the_sequence_as_the_next_and_learns_it() -> None:
    values = [example(0, 1.0), example(5, -3.0, False), command("accept-gap", position=1), example(6, 2.0)]
    replica = Driver(log_of(values)).run()
    assert (replica.halt, replica.only.examples_learned, replica.book.sequences.next_sequence(0)) == (None, 3, 7)
    assert replica.book.seen.next_sequence(0) == 7


def test_accept_gap_may_take_the_sequence_back() -> None:
    values = [*examples(1.0, -2.0, 3.0), example(1, 4.0, trigger=(FEEDBACK, 9)), command("accept-gap", position=3)]
    replica = Driver(log_of([*values, example(2, 5.0, trigger=(FEEDBACK, 10))])).run()
    assert (replica.halt, replica.only.examples_learned, replica.book.sequences.next_sequence(0)) == (None, 5, 3)
    assert replica.book.seen.next_sequence(0) == 3


def test_accept_gap_on_an_example_that_raises_stays_halted_until_it_is_skipped() -> None:
    values = [*examples(1.0, BAD, 3.0), command("accept-gap", position=1), command("accept-gap", position=1)]
    driver = Driver(log_of(values))
    replica = driver.run()
    assert replica.halt is not None
    assert (replica.halt.position, replica.position, replica.read_position) == (1, 1, 5)
    driver.log = log_of([*values, command("skip", position=1)])
    replica = driver.run()
    assert (replica.halt, replica.position, replica.only.examples_learned) == (None, 6, 2)


def test_two_halts_are_lifted_one_after_the_other() -> None:
    values = [*examples(1.0, BAD), example(5, 2.0), command("skip", position=1), command("accept-gap", position=2)]
    replica = Driver(log_of(values)).run()
    assert (replica.halt, replica.only.examples_learned, replica.book.sequences.next_sequence(0)) == (None, 2, 6)


@pytest.mark.parametrize("foreign", [b"", b"\x00", b"{}", b'{"hello": 1}', b"\xff" * 40, b"\x04" + b"\x00" * 20])
def test_foreign_bytes_halt_and_skip_passes_them(foreign: bytes) -> None:
    values = [*examples(1.0), foreign, *examples(2.0, first=1)]
    replica = fold(*values)
    assert replica.halt is not None
    assert (replica.halt.reason, replica.halt.position, replica.halt.corrupted) == ("not_an_entry", 1, False)
    replica = Driver(log_of([*values, command("accept-gap", position=1)])).run()
    assert replica.halt is not None
    replica = Driver(log_of([*values, command("skip", position=1)])).run()
    assert (replica.halt, replica.position, replica.only.examples_learned) == (None, 4, 2)


@settings(LAW, max_examples=300)
@given(value=st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda rest: b"\x02\x00" + rest)))
def test_no_bytes_make_the_fold_raise(value: bytes) -> None:
    replica = fold(value, *examples(1.0))
    assert replica.read_position == 2


# Entries that decode and make no sense (KeyError, JSONDecodeError, ConfigError) halt like bytes that do not decode.
@pytest.mark.parametrize(
    "entry",
    [command("rebase"), command("skip"), encode_schema(1, "{}", written_at_ms=NOW_MS, writer="w")],
    ids=["rebase of nothing", "skip of nothing", "schema without type"],
)
def test_an_entry_that_makes_no_sense_does_not_stop_the_fold(entry: bytes) -> None:
    replica = fold(example(0), example(5), entry) if b"skip" in entry else fold(example(0), entry)
    assert replica.read_position >= 2


def test_an_example_whose_event_cannot_be_read_halts() -> None:
    replica = fold(*examples(1.0), example(1, event=b"\xff"))
    assert replica.halt is not None
    assert (replica.halt.position, replica.halt.corrupted, replica.only.examples_learned) == (1, False, 1)


# --- freeze, rebase ---


def test_frozen_entries_count_as_seen_and_are_never_learned() -> None:
    values = [*examples(1.0), command("freeze"), *examples(5.0, 6.0, first=1), command("resume")]
    replica = fold(*values[:4])
    assert (replica.book.facts.frozen, replica.position, replica.only.examples_learned) == (True, 4, 1)
    assert features(replica) == features(fold(values[0]))
    replica = fold(*values, *examples(2.0, first=3))
    assert (replica.book.facts.frozen, replica.position, replica.only.examples_learned) == (False, 6, 2)
    model = linear_model.LogisticRegression()
    model.learn_one({"x": 1.0}, True)
    model.learn_one({"x": 2.0}, True)
    assert features(replica) == [dict(model.weights), model.intercept]


def test_a_gap_halts_while_frozen_too() -> None:
    assert fold(command("freeze"), example(3)).halt is not None


@pytest.mark.parametrize("chunk", [1, 32])
def test_a_freeze_met_while_halted_holds_from_its_own_place_on(chunk: int) -> None:
    values = [*examples(1.0, BAD, 2.0), command("freeze"), *examples(3.0, first=3), command("skip", position=1)]
    replica = Driver(log_of(values)).run(chunk)
    assert (replica.halt, replica.book.facts.frozen, replica.only.examples_learned) == (None, True, 2)


def test_rebase_forgets_triggers_and_keeps_the_sequence() -> None:
    values = [example(0, trigger=(FEEDBACK, 50)), command("rebase", partition=0), example(1, trigger=(FEEDBACK, 3))]
    replica = fold(*values)
    assert (replica.halt, replica.book.sequences.next_sequence(0), replica.book.seen.next_sequence(0)) == (
        None,
        2,
        2,
    )
    assert fold(values[0], values[2]).halt is not None
    other = fold(values[0], command("rebase", partition=1), values[2])
    assert other.halt is not None


# --- rule 17: batches and checkpoints make no difference ---


def story() -> list[bytes]:
    """A log in which everything happens."""
    numbers = itertools.count()

    def some(count: int) -> list[bytes]:
        return [
            example(n, float(n * 37 % 11 - 5), n % 3 == 0, served=said(n), trigger=((EVENTS, FEEDBACK)[n % 2], n))
            for n in itertools.islice(numbers, count)
        ]

    def said(n: int) -> Served:
        score = (n * 7 % 10) / 10
        return Served("true" if score >= 0.5 else "false", score, None, None, LINEAGE, n, ()) if n % 4 else NOT_SERVED

    log = [encode_start(0, 0, 0, written_at_ms=NOW_MS, writer="w"), *some(70)]
    log += log[5:9]
    log += [command("freeze"), *some(5), command("resume"), *some(9)]
    bad = len(log)
    log += [example(next(numbers), BAD, trigger=(EVENTS, 1_000))]
    rest = [example(n, 1.5, trigger=(FEEDBACK, 1_000 + n)) for n in itertools.islice(numbers, 20)]
    log += [*rest[:10], command("skip", position=bad), *rest[10:]]
    foreign = len(log)
    log += [b"someone else", *[example(n, -1.5, trigger=(EVENTS, 2_000 + n)) for n in itertools.islice(numbers, 4)]]
    log += [command("skip", position=foreign)]
    gap = len(log)
    skipped = next(numbers) + 3
    log += [example(skipped, -2.0, False, trigger=(EVENTS, 3_000)), command("accept-gap", position=gap)]
    after = [example(skipped + 1 + n, n / 7 - 4, n % 2 == 0, trigger=(EVENTS, 3_001 + n)) for n in range(70)]
    return [*log, *after, command("rebase", partition=0)]


STORY = story()
WHOLE = facts(Driver(log_of(STORY)).run(1))


def test_the_story_ends_well_and_has_it_all() -> None:
    assert (WHOLE["halt"], WHOLE["position"], WHOLE["learned"]) == (None, len(STORY), 70 + 9 + 20 + 4 + 1 + 70)
    assert WHOLE["counts"] == (4, 0, False)
    assert WHOLE["counted"][0] > 0
    assert WHOLE["counted"][1] > 0


@LAW
@given(chunks=st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_the_fold_does_not_depend_on_how_entries_were_batched(chunks: list[int]) -> None:
    driver = Driver(log_of(STORY))
    for chunk in chunks:
        driver.turn(chunk)
    assert facts(driver.run(1000)) == WHOLE


@LAW
@given(turns=st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_the_fold_goes_on_from_any_checkpoint_to_equal_bits(turns: list[tuple[int, bool, bool]]) -> None:
    """Each turn: entries, whether a checkpoint is written, whether the process dies and restarts from the newest."""
    driver = Driver(log_of(STORY))
    for chunk, saves, dies in turns:
        driver.turn(chunk)
        if saves:
            driver.checkpoint()
        if dies:
            driver.replica = driver.restored(len(STORY))
    assert facts(driver.run()) == WHOLE


def test_state_restored_is_the_same_state() -> None:
    replica = fold(*STORY[:60])
    state = pickle.loads(pickle.dumps(replica.state()))
    again = Replica(fold_settings())
    again.restore(state)
    assert facts(again) == facts(replica)
    assert again.state().keys() == state.keys()


def test_probes_are_the_examples_numbered_by_powers_of_two() -> None:
    replica = fold(*examples(*[float(n) for n in range(1, 40)]))
    assert [probe["x"] for probe in replica.only.health.probes] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert len(replica.only.probe_bits()) <= PROBES_MAX


def test_an_example_of_an_unknown_class_is_passed_and_counted() -> None:
    replica = fold(example(0, y=Target("maybe", None)), *examples(1.0, first=1))
    assert (replica.only.unusable, replica.only.examples_learned, replica.halt) == (1, 1, None)


# --- quality ---


def served(scored: Scored, position: int = 0) -> Served:
    return served_of(scored, Version(LINEAGE, position), ())


def test_binary_quality_is_rivers_for_the_served_scores() -> None:
    domain = parts().domain
    quality, seen = Quality(domain), [1, 2]  # Laplace: each class counted once more than it was seen
    log_loss, accuracy, base_loss, base_accuracy = (
        metrics.LogLoss(),
        metrics.Accuracy(),
        metrics.LogLoss(),
        metrics.Accuracy(),
    )
    model = linear_model.LogisticRegression()
    for n in range(300):
        x, y = {"x": float(n * 37 % 11 - 5)}, n * 13 % 7 > 3
        score = model.predict_proba_one(x)[True]
        quality.update(Target(str(y).lower(), None), served(Scored("", score, None, None)), T0, T0)
        log_loss.update(y, {True: score, False: 1 - score})
        accuracy.update(y, score >= 0.5)
        base = seen[0] / seen[1]
        base_loss.update(y, {True: base, False: 1 - base})
        base_accuracy.update(y, base >= 0.5)
        seen = [seen[0] + y, seen[1] + 1]
        model.learn_one(x, y)
    found = quality.report()
    assert (found["log_loss"], found["accuracy"]) == (pytest.approx(log_loss.get()), accuracy.get())
    assert found["log_loss_baseline"] == pytest.approx(base_loss.get())
    assert found["accuracy_baseline"] == base_accuracy.get()


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    auc, scored = BinnedRocAuc(), [(n * 7 % 3 == 0, (n * 617 % 50 + 0.5) / 1000) for n in range(400)]
    for y, score in scored:
        auc.update(y, score)
    ones, zeros = [s for y, s in scored if y], [s for y, s in scored if not y]
    won = sum((one > zero) + 0.5 * (one == zero) for one in ones for zero in zeros)
    assert auc.get() == pytest.approx(won / len(ones) / len(zeros), abs=1e-12)
    assert BinnedRocAuc().get() == 0.5


def test_auc_takes_both_ends() -> None:
    auc = BinnedRocAuc()
    auc.update(True, 1.0)
    auc.update(False, 0.0)
    assert auc.get() == 1.0


def test_regression_quality_is_rivers() -> None:
    quality, mean = Quality(parts("regression").domain), dummy.StatisticRegressor(stats.Mean())
    names = {"mae": metrics.MAE, "rmse": metrics.RMSE, "r2": metrics.R2}
    of_served, of_mean = ({name: made() for name, made in names.items()} for _ in range(2))
    for n in range(100):
        y, said = float(n * 37 % 11), float(n * 17 % 5)
        quality.update(Target(None, y), served(Scored(None, None, None, said)), T0, T0)
        for name in names:
            of_served[name].update(y, said)
            of_mean[name].update(y, mean.predict_one({}) or 0.0)
        mean.learn_one({}, y)
    direct = {name: metric.get() for name, metric in of_served.items()}
    assert quality.report() == direct | {f"{name}_baseline": metric.get() for name, metric in of_mean.items()}


def test_multiclass_quality_is_rivers() -> None:
    quality, classes = Quality(parts("multiclass").domain), "abc"
    accuracy, macro_f1, loss = metrics.Accuracy(), metrics.MacroF1(), metrics.CrossEntropy()
    for n in range(120):
        y, scores = classes[n * 7 % 3], {"a": 0.5, "b": 0.3, "c": 0.2} if n % 2 else {"a": 0.1, "b": 0.2, "c": 0.7}
        best = max(scores, key=lambda name: scores[name])
        quality.update(Target(y, None), served(Scored(best, scores[best], scores, None)), T0, T0)
        accuracy.update(y, best)
        macro_f1.update(y, best)
        loss.update(y, scores)
    found = quality.report()
    assert (found["accuracy"], found["macro_f1"]) == (accuracy.get(), macro_f1.get())
    assert found["log_loss"] == pytest.approx(loss.get(), rel=1e-9)


# Before its first label the baseline says None. River would count None as one more class, whose F1 is 0: with three
# classes the baseline would lose a quarter of its score.
def test_the_baselines_macro_f1_is_over_the_classes_alone() -> None:
    quality, macro_f1 = Quality(parts("multiclass").domain), metrics.MacroF1()
    for _ in range(60):
        quality.update(Target("a", None), served(Scored("a", 1.0, {"a": 1.0}, None)), T0, T0)
        macro_f1.update("a", "a")
    assert quality.report()["macro_f1_baseline"] == pytest.approx(macro_f1.get(), abs=0.02)


# A user's predict_proba_one may give a finite number that is no probability. Once served it stands in the log, and
# every replica has to get past it.
@pytest.mark.parametrize("score", [1.5, -1.5, 1e300])
def test_a_served_score_that_is_no_probability_does_not_stop_the_fold(score: float) -> None:
    replica = fold(example(0, served=served(Scored("true", score, None, None))))
    assert replica.read_position == 1


# A linear model that diverges serves 1e160 before it serves infinity; River squares the error, which overflows.
@pytest.mark.parametrize("value", [1e155, -1e160, 1e308])
def test_a_served_value_of_any_size_does_not_stop_the_fold(value: float) -> None:
    said = served(Scored(None, None, None, value))
    replica = fold(example(0, y=Target(None, 1.0), served=said), using=fold_settings("regression"))
    assert replica.read_position == 1


def test_cold_and_unserved_predictions_are_left_out() -> None:
    quality = Quality(parts().domain)
    quality.update(Target("true", None), NOT_SERVED, T0, T0)
    quality.update(Target("true", None), served(COLD), T0, T0)
    assert (quality.count, quality.left_out, quality.report()) == (0, 2, {})
    quality.update(Target("true", None), served(Scored("true", 0.9, None, None)), T0, T0)
    assert (quality.count, quality.left_out) == (1, 2)
    assert quality.report()["accuracy"] == 1.0


def test_the_baseline_knows_only_labels_and_learns_those_left_out_too() -> None:
    wise, foolish = Quality(parts().domain), Quality(parts().domain)
    for n in range(50):
        target = Target("true" if n % 3 else "false", None)
        for quality, score in ((wise, 0.9 if n % 3 else 0.1), (foolish, 0.1 if n % 3 else 0.9)):
            quality.update(target, NOT_SERVED if n < 10 else served(Scored("", score, None, None)), T0, T0)
    of_wise, of_foolish = wise.report(), foolish.report()
    assert of_wise["accuracy"] == 1.0
    assert of_foolish["accuracy"] == 0.0
    baselines = [{n: v for n, v in found.items() if n.endswith("_baseline")} for found in (of_wise, of_foolish)]
    assert baselines[0] == baselines[1]
    assert baselines[0]["accuracy_baseline"] == pytest.approx(27 / 40)


def test_quality_is_of_what_was_served_not_of_the_model_now() -> None:
    said = served(Scored("false", 0.1, None, None))
    replica = fold(*[example(n, 1.0, True, served=said) for n in range(100)])
    assert replica.only.model.score_one({"x": 1.0}).class_name == "true"
    assert replica.watch.quality.report()["accuracy"] == 0.0


def test_frozen_entries_count_for_quality() -> None:
    said = served(Scored("true", 0.9, None, None))
    replica = fold(command("freeze"), *[example(n, served=said) for n in range(5)])
    assert (replica.watch.quality.count, replica.only.examples_learned) == (5, 0)


def test_the_successor_of_a_corrupted_model_keeps_its_overrides_also_when_the_checkpoint_came_too_late() -> None:
    old, late = Replica(brittle()), Replica(brittle())
    old.book.halts.overrides.add(Halt(2, "gap", ""), "accept-gap")
    old.only.halts.overrides.add(Halt(3, "far_example", ""), "skip")
    old.only.halts.current = Halt(70, "not_finite", "", corrupted=True, exact=False)
    late.only.model.examples_learned = 65
    successor = old.successor(late)
    assert successor is not late and successor.only.health.each_after == 0
    assert successor.book.halts.overrides.get(2) == "accept-gap"
    assert successor.only.halts.overrides.get(3) == "skip"

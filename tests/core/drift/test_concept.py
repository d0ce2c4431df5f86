"""Concept drift and the baseline, inside of the fold: found once, at one position, by every replica alike."""

import pickle
import random
from collections.abc import Iterable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ml.core.drift.concept import ConceptMonitor
from stream_ml.core.drift.detectors import DETECTORS, detector_of
from stream_ml.core.drift.losses import LossWindow
from stream_ml.core.drift.signals import Signal, decode_signal, encode_signal
from stream_ml.core.evaluation.window import Row, matrix
from stream_ml.core.fold.replica import Replica
from stream_ml.records import LogRecord, Served
from stream_ml.storage.unpickle import loads
from tests.support.partition import LINEAGE, NOW_MS, T0, clock, command, content, example, fold_settings, log_of

NAN = float("nan")


def monitor(detector: str = "adwin", task: str = "binary", window: int = 500, watch: str = "loss") -> ConceptMonitor:
    binary = DETECTORS[detector].startswith("river.drift.binary")
    make = partial(detector_of, detector, {"seed": 1} if detector == "kswin" else {})
    return ConceptMonitor(task, window, make, watch=watch, binary=binary)


def rows(source: random.Random, count: int, right: float, baseline: float = 0.5) -> Iterable[Row]:
    """Predictions of which a share `right` comes true, each said with probability 0.8."""
    for number in range(count):
        said = float(source.random() < 0.5)
        true = said if source.random() < right else 1 - said
        yield Row(T0 + number, 0, true, said, 0.8 if said else 0.2, 1.0, baseline)


def kinds(found: ConceptMonitor) -> list[tuple[str, str]]:
    return [(signal.kind, signal.subject) for signal in found.signals]


def feed(found: ConceptMonitor, some: Iterable[Row], first: int = 0) -> int:
    position = first
    for row in some:
        found.update(row, LINEAGE, position)
        position += 1
    return position


@pytest.mark.parametrize("watch", ["loss", "advantage"])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_many_at_once_are_taken_up_to_the_first_that_shows_something(task: str, watch: str) -> None:
    source, one_by_one, at_once = random.Random(5), monitor(task=task, watch=watch), monitor(task=task, watch=watch)
    listed = [*rows(source, 2_000, 0.9), *rows(source, 2_000, 0.4)]
    feed(one_by_one, listed)
    some = matrix(listed)
    taken, ends = 0, []
    while taken < len(some):
        taken += at_once.update_many(some[taken : taken + 300], LINEAGE, range(taken, len(some))[:300])
        ends.append(taken - 1)
    assert kinds(one_by_one) and set(ends) >= {signal.position for signal in one_by_one.signals}
    assert content(at_once.state()) == content(one_by_one.state())


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_rising_loss_is_told_and_its_return_too(detector: str) -> None:
    found, source = monitor(detector), random.Random(2)
    position = feed(found, rows(source, 2_000, 0.9))
    assert kinds(found) == []
    position = feed(found, rows(source, 2_000, 0.4), position)
    first = next(signal for signal in found.signals if signal.kind == "drift")
    assert 2_000 < first.position < 2_600 and first.evidence["mean_now"] > first.evidence["mean_before"]
    feed(found, rows(source, 2_000, 0.9), position)
    assert ("recovered", "loss") in kinds(found)


def test_a_stationary_loss_keeps_the_budget_of_one_false_alarm_in_100_000_labels() -> None:
    told = 0
    for seed in range(3):
        found, source = monitor(window=1_000), random.Random(seed)
        for position in range(100_000):
            score = source.betavariate(1, 2)
            true = float(source.random() < score)
            found.update(Row(T0, 0, true, float(score >= 0.5), score, 0.0, 1 / 3), LINEAGE, position)
        told += len(found.signals)
    assert told <= 3


def test_a_loss_that_stays_high_is_the_new_normal_in_the_end() -> None:
    found, source = monitor(window=200), random.Random(16)
    position = feed(found, rows(source, 2_000, 0.9))
    feed(found, rows(source, 5_000, 0.6), position)
    told = [(signal.kind, signal.position) for signal in found.signals if signal.subject == "loss"]
    assert [kind for kind, _ in told] == ["drift", "rebaselined"] and told[1][1] - told[0][1] >= 2_000


def test_a_new_share_of_labels_moves_the_loss_and_hardly_the_advantage() -> None:
    """A model without skill beside a baseline that has learned the new share as fast: nothing was lost."""
    told = {}
    for watch in ("loss", "advantage"):
        found, source, position = monitor(watch=watch), random.Random(18), 0
        for share in (0.1, 0.5):
            for _ in range(2_000):
                true = float(source.random() < share)
                found.update(
                    Row(T0, 0, true, float(share >= 0.5), share, float(share >= 0.5), share), LINEAGE, position
                )
                position += 1
        told[watch] = [kind for kind, subject in kinds(found) if subject == "loss"]
    assert told == {"loss": ["drift"], "advantage": []}


def test_a_falling_loss_is_no_drift() -> None:
    found, source = monitor(), random.Random(4)
    position = 0
    for right in (0.5, 0.6, 0.7, 0.8, 0.9):
        position = feed(found, rows(source, 1_000, right), position)
    assert ("drift", "loss") not in kinds(found)


def test_a_prediction_without_a_probability_counts_as_hit_or_miss() -> None:
    found, source = monitor(), random.Random(6)
    position = feed(found, (row._replace(probability=NAN) for row in rows(source, 2_000, 0.95)))
    feed(found, (row._replace(probability=NAN) for row in rows(source, 1_000, 0.3)), position)
    assert ("drift", "loss") in kinds(found)


def test_a_regressions_loss_has_no_unit() -> None:
    """Times a million or not: the same positions."""
    positions = []
    for unit in (1.0, 1e6):
        found, source, position = monitor(task="regression"), random.Random(8), 0
        for noise in (0.3, 2.0):
            for _ in range(1_500):
                true = source.gauss(0, 1)
                said = true + source.gauss(0, noise)
                found.update(Row(T0, 0, true * unit, said * unit, NAN, 0.0, NAN), LINEAGE, position)
                position += 1
        positions.append([signal.position for signal in found.signals if signal.kind == "drift"])
    assert positions[0] == positions[1] != []


def test_below_its_baseline_is_critical_and_told_once_until_it_is_above_again() -> None:
    found, source = monitor("adwin"), random.Random(10)
    position = feed(found, rows(source, 2_000, 0.9))
    position = feed(found, rows(source, 2_000, 0.3), position)
    below = [signal for signal in found.signals if signal.kind == "below_baseline"]
    assert len(below) == 1 and below[0].severity == "critical"
    feed(found, rows(source, 2_000, 0.9), position)
    assert kinds(found).count(("recovered", "quality")) == 1


def test_without_probabilities_the_baseline_is_judged_by_its_hits_too() -> None:
    """70 % right beside a guess that is right half of the time: not below it."""
    found, source = monitor(), random.Random(20)
    feed(found, (row._replace(probability=NAN) for row in rows(source, 3_000, 0.7)))
    assert ("below_baseline", "quality") not in kinds(found)


@pytest.mark.parametrize("unit", [1e-9, 1.0])
def test_one_outlier_blinds_no_regression(unit: float) -> None:
    found, source, position = monitor(task="regression"), random.Random(22), 0
    for noise in (0.3, 3.0):
        for number in range(1_500):
            true = source.gauss(0, 1) if (noise, number) != (0.3, 700) else 1e17
            found.update(
                Row(T0, 0, true * unit, (true + source.gauss(0, noise)) * unit, NAN, 0.0, NAN), LINEAGE, position
            )
            position += 1
    assert [signal.position // 1_500 for signal in found.signals if signal.kind == "drift"] == [1]


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_state_of_every_detector_may_stand_in_a_checkpoint(detector: str) -> None:
    source = random.Random(24)
    some = [*rows(source, 900, 0.9), *rows(source, 900, 0.3)]
    whole, before, after = monitor(detector), monitor(detector), monitor(detector)
    feed(whole, some)
    feed(before, some[:850])
    after.restore(loads(pickle.dumps(before.state(), protocol=5), []))
    feed(after, some[850:], 850)
    assert list(after.signals) == list(whole.signals) != []


@given(st.lists(st.floats(0, 1), max_size=60), st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_a_windows_mean_is_that_of_its_last_numbers(numbers: list[float], size: int) -> None:
    window = LossWindow(size)
    for number in numbers:
        window.add(number)
    last = numbers[-size:]
    assert window.mean() == pytest.approx(sum(last) / len(last) if last else 0.0, abs=1e-6)


@given(st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_going_on_from_a_pickled_state_finds_the_same(cut: int) -> None:
    source = random.Random(12)
    some = [*rows(source, 600, 0.9), *rows(source, 400, 0.3)]
    whole, before = monitor(window=200), monitor(window=200)
    feed(whole, some)
    feed(before, some[:cut])
    after = monitor(window=200)
    after.restore(pickle.loads(pickle.dumps(before.state())))
    feed(after, some[cut:], cut)
    assert list(after.signals) == list(whole.signals) != []


# --- in the fold ---


def served(score: float) -> Served:
    return Served("true" if score >= 0.5 else "false", score, None, None, LINEAGE, 0, ())


def drifting_log(count: int = 3_000) -> list[LogRecord]:
    """Scores that are right for the first half and wrong for the second."""
    source, values = random.Random(14), []
    for number in range(count):
        y = source.random() < 0.5
        right = source.random() < (0.9 if number < count // 2 else 0.2)
        values.append(example(number, 1.0, y, served=served(0.8 if y == right else 0.2)))
    return log_of(values)


def test_replicas_find_the_same_signals_however_the_log_came_to_them() -> None:
    log = drifting_log()
    one, other = Replica(fold_settings()), Replica(fold_settings())
    one.fold(log)
    for first in range(0, len(log), 7):
        other.fold(log[first : first + 7])
        if first == 1_407:
            restored = Replica(fold_settings())
            restored.restore(pickle.loads(pickle.dumps(other.state())))
            other = restored
    assert one.signals_after(-1) == other.signals_after(-1)
    found = {(signal.kind, signal.subject) for signal in one.signals_after(-1)}
    assert found >= {("drift", "loss"), ("below_baseline", "quality")}


def test_what_was_written_before_is_not_given_again() -> None:
    replica = Replica(fold_settings())
    replica.fold(drifting_log())
    every = replica.signals_after(-1)
    assert len(every) >= 2
    assert replica.signals_after(every[0].position) == [s for s in every if s.position > every[0].position]


def test_a_halt_and_the_command_that_ends_it_are_signals() -> None:
    replica = Replica(fold_settings())
    log = log_of([example(0), example(2), command("skip", position=1), command("freeze"), command("resume")])
    replica.fold(log)
    (halted,) = replica.signals_after(-1)
    assert (halted.kind, halted.position, halted.severity) == ("halted", 1, "critical")
    assert halted.suggestion == "stream-ml skip CONFIG 1" and "gap" in halted.message
    assert replica.book.halts.refold_from == 1
    replica.clear_halt()
    replica.fold(log[1:])
    told = [(signal.kind, signal.position) for signal in replica.signals_after(halted.position)]
    assert told == [("resumed", 2), ("frozen", 3), ("resumed", 4)]


@pytest.mark.parametrize("chunk", [1, 2, 1_000])
def test_a_halt_is_told_also_where_its_command_came_with_it(chunk: int) -> None:
    log = log_of([example(0), example(2), example(3), command("accept-gap", position=1), example(4)])
    replica, told, signalled = Replica(fold_settings()), [], -1
    while replica.read_position < len(log):
        replica.fold(log[replica.read_position : replica.read_position + chunk])
        if replica.book.halts.refold_from is not None:
            replica.clear_halt()
        for signal in replica.signals_after(signalled):
            told.append((signal.kind, signal.position))
            signalled = signal.position
    assert told == [("halted", 1), ("resumed", 3)]


def test_long_and_broken_words_are_cut() -> None:
    long = Signal(LINEAGE, "halted", "learning", 1, "critical", T0, {}, "\ud800" + "x" * 10**6, "stream-ml top CONFIG")
    assert len(encode_signal(long, clock())) < 2_000


def test_rebaseline_forgets_what_was_before() -> None:
    replica = Replica(fold_settings())
    log = drifting_log()
    replica.fold(log)
    assert replica.watch.concept.drifted is not None and replica.watch.concept.below
    replica.fold([LogRecord(len(log), command("rebaseline"))])
    assert replica.watch.concept.drifted is None and not replica.watch.concept.below
    assert replica.book.facts.rebaselined_at == len(log)


def test_a_signal_reads_back_and_others_are_a_value_error() -> None:
    signal = Signal(LINEAGE, "drift", "loss", 17, "warning", T0, {"mean_now": 0.5}, "rose", "stream-ml top CONFIG")
    assert decode_signal(encode_signal(signal, clock())) == signal
    later = encode_signal(signal._replace(since_ms=NOW_MS + 10**9), clock())
    assert decode_signal(later).since_ms == NOW_MS
    for value in (b"", b"\xc3\x01" + bytes(20), encode_signal(signal, clock())[:-3]):
        with pytest.raises(ValueError):
            decode_signal(value)

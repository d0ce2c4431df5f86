"""Drift of inputs: windows against a reference, quiet on one source, heard on another."""

import json
import math
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ml.core.drift.inputs import BINS, FEATURES_MAX, VALUES_MAX, Bins, InputDrift, distance, psi

NAMES = ("amount", "kind")


def watch(reference: int = 2_000, window: int = 1_000, names: tuple[str, ...] = NAMES) -> InputDrift:
    return InputDrift(names, reference=reference, window=window, threshold=0.2)


def events(source: random.Random, count: int, mean: float = 0.0, kinds: str = "aabc") -> list[dict[str, Any]]:
    return [{"amount": source.gauss(mean, 1.0), "kind": source.choice(kinds)} for _ in range(count)]


def feed(found: InputDrift, some: list[dict[str, Any]], scores: list[float] | None = None) -> list[tuple[str, bool]]:
    """In batches of a hundred; what began (True) or ended."""
    told = []
    for first in range(0, len(some), 100):
        batch = some[first : first + 100]
        of = [0.5] * len(batch) if scores is None else scores[first : first + 100]
        told += [(subject, of_.drifted) for subject, of_, _ in found.take(None, batch, of, first)]
    return told


def test_one_source_is_never_drift() -> None:
    """A false alarm in a hundred thousand events would be one too many: two windows in a row, each far above noise."""
    found, source = watch(), random.Random(1)
    scores = [source.betavariate(2, 5) for _ in range(200_000)]
    assert feed(found, events(source, 200_000), scores) == []
    assert found.windows == 198


@pytest.mark.parametrize(
    ("change", "subject"),
    [({"mean": 1.0}, "feature:amount"), ({"kinds": "bbcd"}, "feature:kind")],
)
def test_another_source_is_told_in_the_second_window_and_its_end_too(change: dict[str, Any], subject: str) -> None:
    found, source = watch(), random.Random(2)
    assert feed(found, events(source, 10_000)) == []
    assert feed(found, events(source, 1_000, **change)) == []
    assert feed(found, events(source, 1_000, **change)) == [(subject, True)]
    assert feed(found, events(source, 5_000, **change)) == []
    assert feed(found, events(source, 2_000)) == [(subject, False)]


def test_one_odd_window_is_no_alarm() -> None:
    found, source = watch(), random.Random(3)
    feed(found, events(source, 5_000))
    assert feed(found, events(source, 1_000, mean=3.0)) + feed(found, events(source, 3_000)) == []


def test_a_feature_that_is_gone_is_drift_and_its_share_is_told() -> None:
    found, source = watch(), random.Random(4)
    feed(found, events(source, 4_000))
    gone = [{"kind": event["kind"]} for event in events(source, 2_000)]
    assert ("feature:amount", True) in feed(found, gone)
    compared = found.watched["feature:amount"].compared
    assert compared is not None and compared.missing == 1.0


def test_scores_drift_and_cold_ones_are_missing() -> None:
    found, source = watch(), random.Random(5)
    feed(found, events(source, 4_000), [source.random() for _ in range(4_000)])
    assert feed(found, events(source, 2_000), [math.nan] * 2_000) == [("score", True)]


def test_the_scores_reference_begins_with_the_first_scores() -> None:
    found, source = watch(), random.Random(6)
    for event in events(source, 3_000):
        found.take(None, [event], [], 0)
    assert found.referenced and found.watched["score"].bins is None
    feed(found, events(source, 3_000), [source.random() for _ in range(3_000)])
    assert found.watched["score"].bins is not None


def test_columns_and_single_events_count_alike() -> None:
    source = random.Random(7)
    some = events(source, 6_000)
    one, other = watch(), watch()
    for first in range(0, len(some), 200):
        batch = some[first : first + 200]
        one.take(None, batch, [0.5] * 200, 0)
        table = pa.table({"amount": [e["amount"] for e in batch], "kind": [e["kind"] for e in batch]})
        other.take(table, [], [0.5] * 200, 0)
    assert one.state() == other.state()
    assert [one.watched[name].compared for name in one.watched] == [
        other.watched[name].compared for name in one.watched
    ]


def test_a_large_batch_is_looked_at_here_and_there() -> None:
    found = watch()
    table = pa.table({"amount": [float(n) for n in range(5_000)], "kind": ["a"] * 5_000})
    found.take(table, [], [0.5] * 5_000, 0)
    sample = found.watched["feature:amount"].sample
    assert len(sample) <= 500 and sample[0] == 0.0 and sample[-1] > 4_900


def test_the_reference_outlives_a_restart_and_other_settings_make_a_new_one() -> None:
    found, source = watch(), random.Random(8)
    feed(found, events(source, 5_000))
    state = json.loads(json.dumps(found.state()))
    again = watch()
    assert again.restore(state) and again.windows == found.windows
    told = feed(again, events(source, 2_000, mean=1.0))
    assert told == [("feature:amount", True)]
    assert not watch(window=500).restore(state)
    assert not watch(names=("kind",)).restore(state)


def test_what_it_watches_is_bounded() -> None:
    many = watch(names=tuple(f"f{n}" for n in range(1_000)))
    assert len(many.watched) == FEATURES_MAX + 1
    assert Bins([f"value {n}" for n in range(1_000)]).count == VALUES_MAX + 2
    assert Bins([float(n) for n in range(1_000)]).count == BINS + 1


def test_switched_off_it_counts_nothing() -> None:
    found = watch(reference=0)
    assert feed(found, events(random.Random(9), 5_000)) == [] and found.seen == 0


COUNTS = st.lists(st.integers(0, 1_000), min_size=2, max_size=12)


@given(COUNTS, st.data())
@settings(max_examples=100, deadline=None)
def test_both_indices_are_finite_symmetric_and_zero_for_equal_counts(counts: list[int], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.integers(0, 1_000), min_size=len(counts), max_size=len(counts)))
    p, q = np.array(counts), np.array(others)
    for index in (psi, distance):
        assert math.isfinite(index(p, q)) and index(p, q) >= 0
        assert index(p, q) == pytest.approx(index(q, p), abs=1e-9) and index(p, p) == 0
    assert distance(p, q) <= 1.0


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=True), st.text(max_size=3), st.booleans()), max_size=50))
@settings(max_examples=100, deadline=None)
def test_every_value_falls_into_one_bin(values: list[Any]) -> None:
    bins = Bins(values)
    assert int(bins.counts(values).sum()) == len(values)
    assert int(bins.counts([*values, "new", None, 1e300]).sum()) == len(values) + 3

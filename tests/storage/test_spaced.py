"""Which checkpoints stay: few old ones, more newer ones, so that any position of the past is near to one."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ml.storage.checkpoints import CheckpointStore
from stream_ml.storage.retention import spaced_of

LAW = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@LAW
@given(step=st.integers(1, 500), count=st.integers(1, 400), keep=st.integers(1, 8))
def test_the_way_from_a_checkpoint_to_a_position_is_at_most_twice_that_to_the_end(
    step: int, count: int, keep: int
) -> None:
    kept: set[int] = set()
    end = 0
    for number in range(1, count + 1):
        end = number * step
        positions = kept | {end}
        kept = spaced_of(positions) | set(sorted(positions, reverse=True)[:keep])
    assert len(kept) <= keep + 3 * (2 + math.ceil(math.log2(end + 1)))
    for position in range(step, end + 1, step):
        before = max(at for at in kept if at <= position)
        assert position - before <= 2 * (end - position) + 2 * step, (position, before, end)


def test_the_first_one_of_a_log_stays() -> None:
    kept: set[int] = set()
    for number in range(1, 2_000):
        kept = spaced_of(kept | {number * 10})
    assert min(kept) == 10 and len(kept) < 60


@pytest.mark.parametrize("is_spaced", [False, True])
def test_pinned_ones_stay_whatever_else_goes(tmp_path: Path, is_spaced: bool) -> None:
    store = CheckpointStore(tmp_path, "a" * 16, keep=1, spaced=is_spaced)
    assert store.prepare() == ""
    for position in range(1, 40):
        store.save(position, {}, {"at": position}, checkpoint_types=[])
        if position == 7:
            pins = tmp_path / ("a" * 16) / "pins"
            pins.mkdir()
            (pins / f"{7:020d}.before-the-storm.json").write_text(json.dumps({"v": 1}), "utf-8")
    left = sorted(int(path.stem) for path in (tmp_path / ("a" * 16)).glob("*.ckpt"))
    assert 7 in left and 39 in left
    assert (len(left) == 2) is not is_spaced

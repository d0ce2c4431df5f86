"""Fail points: what they are asked for is read right, and nothing is done unless it is asked for."""

import subprocess
import sys
import time

import pytest

from stream_ml.errors import ConfigError
from stream_ml.runtime.failpoints import VARIABLE, Armed, FailPoints, Injected, _nothing, parse, passes


def test_places_actions_passings_and_times_are_read() -> None:
    assert parse("after-flush:kill:3, before-commit:stop:2:5ms,after-fold:raise") == {
        "after-flush": Armed("kill", 3, 0),
        "before-commit": Armed("stop", 2, 5),
        "after-fold": Armed("raise", 1, 0),
    }


@pytest.mark.parametrize("text", ["nowhere:kill", "after-flush:explode", "after-flush", "after-flush:kill:x"])
def test_an_unknown_word_is_refused_and_the_known_ones_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match=VARIABLE):
        parse(text)


def test_it_happens_at_its_passing_only() -> None:
    points = FailPoints(parse("after-fold:raise:2"))
    points.passes("after-fold")
    points.passes("after-flush")
    with pytest.raises(Injected, match="after-fold"):
        points.passes("after-fold")
    points.passes("after-fold")


def test_full_is_what_a_full_disk_says() -> None:
    with pytest.raises(OSError, match="No space left"):
        FailPoints(parse("checkpoint-written:full")).passes("checkpoint-written")


def test_sleep_takes_its_time() -> None:
    started = time.monotonic()
    FailPoints(parse("after-fold:sleep:1:30ms")).passes("after-fold")
    assert time.monotonic() - started >= 0.03


def test_nothing_is_armed_in_a_process_that_was_not_asked() -> None:
    assert passes is _nothing


def test_kill_ends_the_process_as_a_power_cut_would() -> None:
    script = "from stream_ml.runtime.failpoints import passes; passes('after-flush'); print('still here')"
    done = subprocess.run(
        [sys.executable, "-c", script], env={VARIABLE: "after-flush:kill"}, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (-9, b"")

"""JSON of anybody: a ValueError at most, and the same whatever the depth of who asks."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ml.core.avro.json_text import NESTING_MAX, read_json


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 101 + "]" * 101, '{"a":' * 5_000, "", "{", "9" * 5_000, b"\xff"])
def test_what_is_no_json_or_nests_too_deeply_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(text)


@pytest.mark.parametrize("frames", [0, 300, 700])
def test_the_bound_does_not_depend_on_the_depth_of_who_asks(frames: int) -> None:
    def asked(left: int, text: str) -> object:
        return asked(left - 1, text) if left else read_json(text)

    assert asked(frames, "[" * NESTING_MAX + "]" * NESTING_MAX)
    with pytest.raises(ValueError, match="more than 100 brackets"):
        asked(frames, "[" * (NESTING_MAX + 1) + "]" * (NESTING_MAX + 1))


def test_brackets_within_a_text_do_not_nest() -> None:
    assert read_json('{"a": "' + "[{" * 1_000 + '\\"[[", "b": ' + "[" * 20 + "]" * 20 + "}")["a"].endswith('"[[')


@given(text=st.text(alphabet='[]{}":,\\1 a', max_size=60))
def test_any_text_is_read_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        read_json(text)

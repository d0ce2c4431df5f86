"""What is said of a model that grows."""

import pytest

from stream_ml.follower.model_size import ModelSize
from stream_ml.runtime.memory import memory_bytes


@pytest.mark.parametrize(
    ("size", "told", "over"), [(80, False, False), (81, True, False), (100, True, False), (101, True, True)]
)
def test_a_model_is_told_from_four_fifths_of_its_limit_on(size: int, told: bool, over: bool) -> None:
    model = ModelSize(100_000_000, "tell")
    model.measured(size * 1_000_000)
    assert (bool(model.words()), model.over) == (told, over)


def test_the_words_say_how_large_and_what_to_do() -> None:
    model = ModelSize(100_000_000, "tell")
    model.measured(125_000_000)
    (text,) = model.words()
    assert text.startswith("the model is of 125.0 MB, 125 % of model.memory_max -> bound the model (River's max_depth")


def test_a_checkpoint_that_measured_nothing_changes_nothing() -> None:
    model = ModelSize(10, "tell")
    model.measured(20)
    model.measured(0)
    assert model.over


def test_the_limit_is_a_quarter_of_the_memory_where_none_is_said() -> None:
    assert ModelSize(None, "tell").most == memory_bytes() // 4

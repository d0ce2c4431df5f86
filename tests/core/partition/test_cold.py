"""Cold: the model has learned fewer than `quality.cold_below` examples, or has nothing to say; its answers say so."""

from typing import Any

import pytest
from river import linear_model, naive_bayes

from stream_ml.config import Config
from stream_ml.core.fold.replica import Replica
from tests.support.partition import (
    ROOMY,
    T0,
    World,
    command,
    event_record,
    example,
    fold_settings,
    log_of,
    partition_settings,
    parts,
)


def world(count: int, learned: int, cold_below: int | None = None, build: Any = None) -> World:
    """Events before a replica that has learned so many examples."""
    settings = partition_settings()
    if cold_below is not None:
        settings = settings._replace(cold_below=cold_below)  # type: ignore[call-arg]
    made = World(ROOMY, settings, [event_record(n, f"e{n}", T0 + n, 1.0) for n in range(count)], [])
    made.replica = Replica(fold_settings()._replace(build=build or linear_model.LogisticRegression))
    made.replica.fold(log_of([example(n, 1.0, n % 2 == 0) for n in range(learned)]))
    return made


def flags(made: World, count: int) -> set[tuple[str, ...]]:
    made.turn(count, 0)
    found = made.predicted()
    assert len(found) == count
    return set(found.values())


@pytest.mark.parametrize("count", [1, 3, 200])
def test_a_model_that_has_learned_nothing_is_cold_although_it_says_something(count: int) -> None:
    assert flags(world(count, 0), count) == {("cold",)}
    assert flags(world(count, 1), count) == {()}


@pytest.mark.parametrize("count", [1, 200])
@pytest.mark.parametrize(("learned", "expected"), [(0, ("cold",)), (49, ("cold",)), (50, ()), (51, ())])
def test_cold_below_says_how_many_examples_end_it(learned: int, expected: tuple[str, ...], count: int) -> None:
    assert flags(world(count, learned, 50), count) == {expected}


@pytest.mark.parametrize("count", [1, 200])
def test_a_cold_answer_of_a_cold_model_is_flagged_once(count: int) -> None:
    assert flags(world(count, 0, 5, naive_bayes.GaussianNB), count) == {("cold",)}


@pytest.mark.parametrize("count", [1, 200])
def test_what_is_not_learned_while_frozen_does_not_warm_a_model(count: int) -> None:
    made = world(count, 0)
    made.replica.fold(log_of([command("freeze"), *[example(n, 1.0) for n in range(80)]]))
    assert flags(made, count) == {("cold",)}


def test_the_score_stands_in_a_cold_prediction_too() -> None:
    made = world(1, 0)
    made.turn(1, 0)
    published = parts().predictions.decode(made.topics["predictions"][0].value or b"")
    assert (published.served.score, published.served.flags) == (0.5, ("cold",))


def _configured(**quality: Any) -> Config:
    config = parts().config
    return Config.model_validate({**config.model_dump(by_alias=True), "quality": quality})


@pytest.mark.parametrize(("quality", "expected"), [({}, 1), ({"cold_below": 200}, 200)])
def test_the_configuration_reaches_the_partition(quality: dict[str, Any], expected: int) -> None:
    settings = parts()._replace(config=_configured(**quality)).partition_settings(1_000_000)
    assert settings.cold_below == expected


def test_cold_below_is_no_part_of_the_lineage() -> None:
    assert parts()._replace(config=_configured(cold_below=200)).lineage("t") == parts().lineage("t")


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "many"])
def test_cold_below_is_a_whole_number_above_zero(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"cold_below\n.*(greater|integer)"):
        _configured(cold_below=wrong)

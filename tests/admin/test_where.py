"""Conditions on examples: what holds, what never does, and what is refused."""

import datetime

import pytest

from stream_ml.admin.models.where import Condition
from stream_ml.core.log.entry import Entry, decode_entry
from stream_ml.errors import ConfigError
from stream_ml.records import NOT_SERVED, Served
from tests.support.partition import T0, example


def entry(number: int = 7, served: Served = NOT_SERVED) -> Entry:
    return decode_entry(example(number, served=served))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("sequence=7", True),
        ("sequence>=8", False),
        ("sequence>6 and partition=0", True),
        ("sequence>6 and partition=1", False),
        ("label=true", True),
        ('label="true"', True),
        ("label!=true", False),
        ("id=e7", True),
        ('id="e7 and more"', False),
        ("score>0.1", False),
        ("score!=0.5", False),
        ("lineage!=abc", True),
        ("event.amount=812.5", True),
        ("event.amount!=812.5", False),
        ("event.nested.deep=x", True),
        ("event.gone!=x", False),
        ("event.day=2026-11-27", True),
        ("event.at>=2026-11-27T08:10:00Z", True),
        ("event.at<2026-11-27T08:10:00Z", False),
        ("event.is_new=true", True),
    ],
)
def test_what_holds(text: str, holds: bool) -> None:
    payload = {
        "amount": 812.5,
        "nested": {"deep": "x"},
        "gone": None,
        "day": datetime.date(2026, 11, 27),
        "at": datetime.datetime(2026, 11, 27, 8, 10, tzinfo=datetime.UTC),
        "is_new": True,
    }
    assert Condition(text).holds(entry(), payload) is holds


def test_an_id_that_looks_like_a_number_is_compared_as_it_is_typed() -> None:
    said = entry()._replace(event_id="12e4")
    assert Condition("id=12e4").holds(said) and not Condition("id!=12e4").holds(said)
    assert Condition("id=1.50").holds(said._replace(event_id="1.50"))


def test_times_are_iso_8601() -> None:
    moment = datetime.datetime.fromtimestamp(T0 / 1000, datetime.UTC)
    assert Condition(f"label_time>={moment.isoformat()}").holds(entry())
    assert not Condition(f"event_time<{moment.isoformat()}").holds(entry())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("store=7", "no field store"),
        ("partition ~ 3", "no comparison"),
        ("label_time>soon", "no time"),
        ("", "no comparison"),
    ],
)
def test_what_is_none_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Condition(text)


def test_a_field_that_the_event_has_not_is_refused_and_holds_for_nothing() -> None:
    condition = Condition("event.amuont!=5")
    with pytest.raises(ConfigError, match="has no field amuont"):
        condition.check_fields(["amount"])
    assert not condition.holds(entry(), {"amount": 5})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partition=3 or partition=2", "there is no or"),
        ("score>high", "score is a number"),
        ("partition=true", "partition is a number"),
        ("position=last", "position is a number"),
    ],
)
def test_what_would_silently_match_nothing_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Condition(text)


def test_a_quoted_or_is_a_text() -> None:
    assert not Condition('writer="this or that"').holds(entry())

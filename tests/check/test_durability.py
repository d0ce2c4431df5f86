"""What a check says of replicas, of how many must have a record, and of elections."""

from types import SimpleNamespace
from typing import Any

import pytest

from stream_ml.check.durability import Found, durability

SAFE = {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}


def topic(replicas: int, *, partitions: int = 2, in_sync: int | None = None) -> Any:
    of = SimpleNamespace(replicas=list(range(replicas)), isrs=list(range(replicas if in_sync is None else in_sync)))
    return SimpleNamespace(partitions=dict.fromkeys(range(partitions), of))


def found(replicas: int = 3, *, brokers: int = 3, in_sync: int | None = None, **settings: str) -> list[Found]:
    of = {**SAFE, **{name.replace("_", "."): value for name, value in settings.items()}}
    return list(durability({"log": topic(replicas, in_sync=in_sync)}, {"log": of}, brokers, ["log"]))


def test_three_replicas_of_which_two_must_have_a_record_are_right() -> None:
    assert found() == []


@pytest.mark.parametrize("brokers", [1, 2])
def test_few_brokers_are_a_note_and_nothing_more_is_said(brokers: int) -> None:
    [one] = found(1, brokers=brokers, min_insync_replicas="1")
    assert one.is_note and "survive the death of one" in one.text


def test_one_replica_on_three_brokers_is_a_problem() -> None:
    [one] = found(1)
    assert not one.is_note and "log: only one broker has it" in one.text
    assert "default.replication.factor=3" in one.hint and "kafka-reassign-partitions.sh" in one.hint


@pytest.mark.parametrize("least", ["1", "2"])
def test_two_replicas_are_a_note_for_no_setting_makes_them_right(least: str) -> None:
    [few] = found(2, min_insync_replicas=least)
    assert few.is_note and "2 brokers have it" in few.text


def test_a_record_that_counts_with_one_replica_is_a_problem() -> None:
    [one] = found(min_insync_replicas="1")
    assert not one.is_note and "is lost with it" in one.text and "--add-config min.insync.replicas=2" in one.hint


def test_a_record_that_needs_all_replicas_is_a_problem() -> None:
    [one] = found(min_insync_replicas="3")
    assert "one broker away stops it" in one.text and "min.insync.replicas=2" in one.hint


def test_an_unclean_election_is_a_problem() -> None:
    [one] = found(unclean_leader_election_enable="true")
    assert not one.is_note and "they are gone" in one.text


def test_partitions_that_are_behind_are_a_note() -> None:
    [one] = found(in_sync=2)
    assert one.is_note and "2 of 2 partitions are not on all of their brokers" in one.text


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("__consumer_offsets", "offsets.topic.replication.factor=3"),
        ("__transaction_state", "transaction.state.log.replication.factor=3"),
    ],
)
def test_kafkas_own_topics_are_judged_too(name: str, key: str) -> None:
    [one] = durability({name: topic(1)}, {}, 3, [])
    assert name in one.text and key in one.hint


def test_settings_that_are_hidden_are_left_alone() -> None:
    assert list(durability({"log": topic(3)}, {}, 3, ["log"])) == []

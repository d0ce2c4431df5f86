"""Whether Kafka keeps what it has acknowledged when a broker dies: replicas, how many must have a record, elections.

What a setting means is Kafka's documentation of topic and broker settings (min.insync.replicas,
unclean.leader.election.enable, transaction.state.log.*).
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from stream_ml.kafka.topics import altered

REPLICAS, IN_SYNC = 3, 2  # of a cluster that survives the death of a broker and the maintenance of another one
KEYS = {  # of the brokers: how often topics of Kafka's own are kept, offsets and where transactions stand
    "__consumer_offsets": "offsets.topic.replication.factor",
    "__transaction_state": "transaction.state.log.replication.factor",
}


class Found(NamedTuple):
    """A finding: what is wrong and what to type; a note where it is only to be known."""

    text: str
    hint: str = ""
    is_note: bool = False


def durability(
    topics: Mapping[str, Any], settings: Mapping[str, Mapping[str, str]], brokers: int, own: list[str]
) -> Iterator[Found]:
    """What a death of a broker would cost.

    Parameters
    ----------
    topics
        Metadata of all topics by name (confluent_kafka.admin.TopicMetadata).
    settings
        Of the app's topics, by topic and name; of internal ones where they are told.
    brokers
        How many there are.
    own
        The app's topics that exist.
    """
    if brokers < REPLICAS:
        count = "one broker" if brokers == 1 else f"{brokers} brokers"
        yield Found(f"Kafka has {count}: what that loses is lost; {REPLICAS} survive the death of one", is_note=True)
        return
    for name in [*own, *(name for name in KEYS if name in topics)]:
        yield from _of_topic(name, topics[name], settings.get(name, {}))


def _of_topic(name: str, topic: Any, settings: Mapping[str, str]) -> Iterator[Found]:
    partitions = list(topic.partitions.values())
    replicas = min((len(partition.replicas) for partition in partitions), default=0)
    if replicas < REPLICAS:
        how = "one broker has it" if replicas == 1 else f"{replicas} brokers have it"
        key = KEYS.get(name, "default.replication.factor")
        yield Found(
            f"{name}: only {how}, so a broker that dies takes it along or leaves it without a copy",
            f"{key}={REPLICAS} for new ones; kafka-reassign-partitions.sh moves it",
            is_note=replicas > 1,
        )
        return
    least = settings.get("min.insync.replicas", "")
    if least.isdecimal() and int(least) < IN_SYNC:
        yield Found(
            f"{name}: a record counts as written once {least} broker has it (min.insync.replicas), and is lost with it",
            altered(name, f"min.insync.replicas={IN_SYNC}"),
        )
    elif least.isdecimal() and int(least) >= replicas:
        yield Found(
            f"{name}: a record needs all {replicas} replicas (min.insync.replicas={least}): one broker away stops it",
            altered(name, f"min.insync.replicas={replicas - 1}"),
        )
    if settings.get("unclean.leader.election.enable") == "true":
        yield Found(
            f"{name}: a broker that lacks records may come to lead (unclean.leader.election.enable), and they are gone",
            altered(name, "unclean.leader.election.enable=false"),
        )
    behind = sum(len(partition.isrs) < len(partition.replicas) for partition in partitions)
    if behind:
        text = f"{name}: {behind} of {len(partitions)} partitions are not on all of their brokers now"
        yield Found(f"{text}: is one away, or catching up?", is_note=True)

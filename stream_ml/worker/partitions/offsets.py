"""Whether a partition can go on from the offsets that are committed, and what to type where it cannot."""

from confluent_kafka.admin import AdminClient

from stream_ml.app.parts import Parts
from stream_ml.config import Config
from stream_ml.core.partition.commit_metadata import FORMAT
from stream_ml.errors import ConfigError
from stream_ml.follower.follower import Follower
from stream_ml.kafka.committed import CommittedState, read_committed
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.topics import TopicFacts

LOST_HINT = "go on from offsets of your choice: stream-ml offsets set CONFIG --partition {} --events N --feedback N"


def lost_offsets(pair: CommittedState, *, started: bool) -> str:
    """What is wrong with a partition's committed offsets; empty where it can go on, or start for the first time."""
    if pair.whole or (pair.absent and not started):
        return ""
    if pair.other_format is not None:
        when = "a later version" if pair.other_format > FORMAT else "a version before the first release"
        return f"its offsets were committed by {when} of stream_ml (state {pair.other_format}, this one reads {FORMAT})"
    if pair.absent:
        return "it has run before, and its committed offsets are gone (deleted by hand, or expired)"
    return "its committed offsets carry no state of this service (reset by hand?), or not both of one transaction"


def way_on(pair: CommittedState) -> str:
    """What to do about lost offsets."""
    if pair.other_format is not None and pair.other_format > FORMAT:
        return "install that version, and start again"
    return LOST_HINT.format(pair.partition)


def recreated_inputs(config: Config, pair: CommittedState, inputs_id: tuple[str, str]) -> str:
    """Which topic is another one than that whose offsets were committed; empty where both are the same."""
    if pair.inputs_id is None:
        return ""
    topics = (config.events.topic, config.feedback.topic)
    both = zip(topics, pair.inputs_id, inputs_id, strict=True)
    return "; ".join(f"{topic} was deleted and recreated" for topic, then, now in both if then and now and then != now)


def refuse_lost_offsets(parts: Parts, follower: Follower, client: AdminClient, facts: TopicFacts) -> None:
    """Before joining the group: every partition can go on from what is committed, and its records are still there.

    Raises
    ------
    ConfigError
        Offsets are lost, or their records were deleted; the operator sets them by hand.
    """
    config, partitions = parts.config, facts.partitions
    pairs = read_committed(config, list(range(partitions)), stable=False)
    if any(lost_offsets(pair, started=pair.partition in follower.book.facts.started) for pair in pairs):
        # A transaction's markers come one by one: the log may show a start whose offsets are about to be readable.
        pairs = read_committed(config, list(range(partitions)), stable=True)
    topics = (config.events.topic, config.feedback.topic)
    found = ends(client, [(topic, number) for topic in topics for number in range(partitions)])
    for pair in pairs:
        number = pair.partition
        problem = recreated_inputs(config, pair, facts.inputs_id(config))
        problem = problem or lost_offsets(pair, started=number in follower.book.facts.started)
        for topic, position in zip(topics, (pair.events, pair.feedback), strict=True):
            first, end = found[topic, number]
            if not problem and position is not None and not first <= position <= end:
                problem = f"it is to go on at {topic} {position}, and the topic holds {first} to {end}"
        if problem:
            raise ConfigError(f"partition {number}: {problem}", way_on(pair))

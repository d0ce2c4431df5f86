"""The topics that the service needs: made when asked, looked at before anything is consumed."""

import logging
import time
from collections.abc import Iterator, Mapping
from functools import partial
from hashlib import sha256
from types import MappingProxyType
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, ResourceType

from stream_ml.config import Config
from stream_ml.core.log.identity import NO_LOG, LogIdentity
from stream_ml.errors import ConfigError, Problems
from stream_ml.kafka.clients import TIMEOUT_S, admin, topics_there
from stream_ml.kafka.errors import error_of, reaching
from stream_ml.kafka.retries import PAUSE_S, asked

CLIENT_RECORD_BYTES = 1_000_000  # librdkafka's default of message.max.bytes
BROKER_RECORD_BYTES = 1_048_588  # Kafka's default of max.message.bytes
RECORD_BYTES_LEAST = 16_384  # headers of a dead letter, its message and a part of its value
DOWNTIME_MS = 86_400_000  # a day, as `check` takes it: for so long workers may be away from topics that are made here
FOREVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}

log = logging.getLogger(__name__)


class TopicFacts(NamedTuple):
    """What the topics say: partitions of events, Kafka's id of the training log, the largest record to be written.

    `ids` has Kafka's ids of all topics of the app by name, `log` what the training log says of itself once it was read.
    """

    partitions: int
    training_log_topic_id: str
    record_bytes_max: int
    ids: Mapping[str, str] = MappingProxyType({})
    log: LogIdentity = NO_LOG

    def inputs_id(self, config: Config) -> tuple[str, str]:
        """Names of the two topics that offsets are committed of, as the metadata of a commit has them."""
        return inputs_id(config, self.ids)


def short_id(topic_id: str) -> str:
    """Eight hex digits of a topic's id, nothing of none: Kafka's own has 22 characters; a commit has few."""
    return sha256(topic_id.encode()).hexdigest()[:8] if topic_id else ""


def made_anew(topic: str) -> str:
    """What is said of a topic that is read and is another one than before."""
    return (
        f"topic {topic} was deleted and recreated, and no position in the old one holds in it: "
        "stop the workers, then type stream-ml offsets set CONFIG"
    )


class Wanted(NamedTuple):
    """A topic as `create_topics` makes it. `partitions` 0: as many as events has."""

    name: str
    partitions: int
    settings: dict[str, str]
    why: str


def wanted_topics(config: Config) -> list[Wanted]:
    """Every topic of the app; the user's own first."""
    return [
        Wanted(config.events.topic, 0, {}, "events to score"),
        Wanted(config.feedback.topic, 0, {}, "labels, in the same partitions as their events"),
        Wanted(config.predictions.topic, 0, {}, "predictions"),
        Wanted(config.training_log_topic, 1, FOREVER, "training log: one partition, kept for ever, never compacted"),
        Wanted(config.outcomes, 0, {}, "what became of labels that made no example"),
        Wanted(config.dead_letters, 0, {}, "records that could not be used"),
        Wanted(config.signals, 1, {}, "signals for operators"),
        *_of_jobs(config),
    ]


def _of_jobs(config: Config) -> list[Wanted]:
    """Topics of jobs, where they are taken; their records go with the jobs."""
    if config.serve.jobs is None:
        return []
    kept = {"retention.ms": str(config.serve.jobs.keep), "cleanup.policy": "delete"}
    return [
        Wanted(config.jobs, 1, kept, "jobs that were submitted or cancelled"),
        Wanted(config.job_requests, 0, kept, "what jobs ask for"),
        Wanted(config.job_results, 0, kept, "what jobs are answered"),
    ]


def kept_for(config: Config, downtime_ms: int) -> int:
    """How long records must live, in ms: a rebuild reads what is younger, and workers may have been away meanwhile."""
    return config.feedback.ttl + config.feedback.early_ttl + downtime_ms


def broker_settings(client: AdminClient) -> dict[str, str]:
    """Settings of one of the brokers by name; none where the cluster hides them."""
    resource = ConfigResource(ResourceType.BROKER, str(next(iter(topics_there(client).brokers))))
    try:
        entries = client.describe_configs([resource], request_timeout=TIMEOUT_S)[resource].result()
    except KafkaException:
        return {}
    return {name: str(entry.value) for name, entry in entries.items()}


def _lasting(config: Config, client: AdminClient) -> dict[str, str]:
    """Retention for topics that a rebuild reads, where the brokers' own is too short or not told."""
    needed, told = kept_for(config, DOWNTIME_MS), broker_settings(client)
    for unit, length in (("ms", 1), ("minutes", 60_000), ("hours", 3_600_000)):  # the finest that is set holds
        own = told.get(f"log.retention.{unit}", "")
        if own.lstrip("-").isdecimal():
            return {} if int(own) < 0 or int(own) * length >= needed else {"retention.ms": str(needed)}
    return {"retention.ms": str(needed)}


def create_topics(config: Config, partitions: int, *, dry_run: bool) -> list[str]:
    """Make the topics that are missing; one line for each, saying what was (or would be) done.

    Parameters
    ----------
    partitions
        Of the topics that are partitioned, where events does not exist yet; otherwise as many as events has.
    dry_run
        Only say it.
    """
    client = admin(config)
    with reaching(config):
        there = topics_there(client).topics
        lasting = _lasting(config, client)
    count = len(there[config.events.topic].partitions) if config.events.topic in there else partitions
    lines, missing = [], []
    for topic in wanted_topics(config):
        if topic.name in there:
            lines.append(f"exists   {topic.name} ({len(there[topic.name].partitions)} partitions)")
            continue
        number = topic.partitions or count
        verb = "would be created" if dry_run else "created "
        lines.append(f"{verb} {topic.name} ({number} partition{'s' if number > 1 else ''}): {topic.why}")
        missing.append(NewTopic(topic.name, num_partitions=number, config=lasting | topic.settings))
    if missing and not dry_run:
        for name, future in client.create_topics(missing, request_timeout=TIMEOUT_S).items():
            try:
                future.result()
            except KafkaException as exception:
                if error_of(exception).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise ConfigError(f"topic {name} cannot be created: {error_of(exception).str()}") from exception
        with reaching(config):
            topic_ids(client, [topic.topic for topic in missing])  # they are seen a moment after they were made
            _wait_until_listed(client, [topic.topic for topic in missing])
    return lines


def _wait_until_listed(client: AdminClient, names: list[str]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        there = topics_there(client).topics
        if all(name in there and there[name].error is None and there[name].partitions for name in names):
            return
        time.sleep(PAUSE_S)


class Inspected(NamedTuple):
    """All topics of the app as Kafka has them: partition counts and settings by name; missing ones are in neither."""

    counts: dict[str, int]
    settings: dict[str, dict[str, str]]


def inspect_topics(config: Config) -> TopicFacts:
    """Look at all topics.

    Raises
    ------
    ConfigError
        Topics are missing, partition counts differ, or the training log could lose entries; the operator mends them.
    TransientError
        Kafka does not answer.
    """
    client = admin(config)
    with reaching(config):
        found = inspected(config, client)
        problems = topic_problems(config, found)
        if problems.found:
            raise problems.error()
        ids = topic_ids(client, [topic.name for topic in wanted_topics(config)])
    counts, bytes_max = found.counts, record_bytes_max(config, found.settings)
    return TopicFacts(counts[config.events.topic], ids[config.training_log_topic], bytes_max, ids)


def topic_ids(client: AdminClient, names: list[str]) -> dict[str, str]:
    """Kafka's own ids of topics; KafkaException where one is not there."""

    def ask() -> dict[str, str]:
        described = client.describe_topics(TopicCollection(names), request_timeout=TIMEOUT_S)
        return {name: str(future.result().topic_id) for name, future in described.items()}

    return asked(ask, made=True)


def inputs_id(config: Config, ids: Mapping[str, str]) -> tuple[str, str]:
    """Names of the two topics that offsets are committed of, as the metadata of a commit has them."""
    return short_id(ids.get(config.events.topic, "")), short_id(ids.get(config.feedback.topic, ""))


def altered(topic: str, setting: str) -> str:
    """The command that changes a topic's setting."""
    return f"kafka-configs.sh --alter --topic {topic} --add-config {setting}"


def inspected(config: Config, client: AdminClient) -> Inspected:
    """What Kafka says of the topics; KafkaException where it does not answer."""
    there = topics_there(client).topics
    names = [topic.name for topic in wanted_topics(config) if topic.name in there and there[topic.name].partitions]
    return Inspected({name: len(there[name].partitions) for name in names}, _settings(client, names) if names else {})


def topic_problems(config: Config, found: Inspected) -> Problems:
    """Everything about the topics that `run` refuses."""
    problems = Problems()
    missing = [topic.name for topic in wanted_topics(config) if topic.name not in found.counts]
    if missing:
        problems.add(
            f"{'topic' if len(missing) == 1 else 'topics'} {', '.join(missing)} "
            f"{'does' if len(missing) == 1 else 'do'} not exist",
            "make what is missing: stream-ml topics create stream_ml.yaml; or grant Describe, without it they look so",
        )
    for text, hint in uneven(config, found.counts):
        problems.add(text, hint)
    _check_log(config, found.settings.get(config.training_log_topic, {}), problems)
    if found.settings:
        problems.of(lambda: record_bytes_max(config, found.settings))
    return problems


def partitioned(config: Config) -> list[str]:
    """Topics that have a partition for each of the events': in the order in which they grow, events last."""
    return [config.dead_letters, config.outcomes, config.predictions.topic, config.feedback.topic, config.events.topic]


def uneven(config: Config, counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """What is wrong with the numbers of partitions, and what to type."""
    there = {name: counts[name] for name in partitioned(config) if name in counts}
    most, events = max(there.values(), default=0), config.events.topic
    for name, count in there.items():
        if count < most:
            other = events if there.get(events) == most else next(n for n, c in there.items() if c == most)
            yield (
                f"{other} has {most} partitions and {name} has {count}: they must be equal, "
                "because event and label meet in the partition of the same number",
                f"stream-ml topics grow CONFIG --partitions {most}",
            )
    if counts.get(config.training_log_topic, 1) != 1:
        name = config.training_log_topic
        yield (
            f"{name} has {counts[name]} partitions; the training log has one, because its "
            "order is the order of learning",
            "no topic can shrink: take another app.id, and make its topics: stream-ml topics create CONFIG",
        )


def grow_topics(config: Config, partitions: int | None) -> list[str]:
    """Give all topics that go with events as many partitions, events last; one line for each.

    Events come last, so that no event stands in a partition that has no place for its label or its prediction.

    Parameters
    ----------
    partitions
        How many; None: as many as the topic has that has most.

    Raises
    ------
    ConfigError
        A topic is missing, has more already, or Kafka refuses.
    """
    client = admin(config)
    with reaching(config):
        there = topics_there(client).topics
    counts = {name: len(there[name].partitions) for name in partitioned(config) if name in there}
    missing = [name for name in partitioned(config) if name not in counts]
    if missing:
        raise ConfigError(f"topics {', '.join(missing)} do not exist", "stream-ml topics create CONFIG")
    wanted, lines = partitions or max(counts.values()), []
    if wanted < max(counts.values()):
        raise ConfigError(f"a topic has {max(counts.values())} partitions already, and none can shrink to {wanted}")
    for name, count in counts.items():
        if count < wanted:
            try:
                client.create_partitions([NewPartitions(name, wanted)], request_timeout=TIMEOUT_S)[name].result()
            except KafkaException as exception:
                raise ConfigError(f"topic {name} cannot grow: {error_of(exception).str()}") from exception
        lines.append(f"{name}: {count} -> {wanted} partitions" if count < wanted else f"{name}: {count} partitions")
    return lines


def _settings(client: AdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for topic in names:
        try:
            entries = asked(partial(_settings_of, client, topic), made=True)
            found[topic] = {name: str(entry.value) for name, entry in entries.items()}
        except KafkaException as exception:
            log.warning("settings of %s cannot be read: %s", topic, error_of(exception).str())
    return found


def _settings_of(client: AdminClient, topic: str) -> dict[str, Any]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    found: dict[str, Any] = client.describe_configs([resource], request_timeout=TIMEOUT_S)[resource].result()
    return found


def _check_log(config: Config, settings: dict[str, str], problems: Problems) -> None:
    name = config.training_log_topic
    if "compact" in settings.get("cleanup.policy", "delete"):
        problems.add(
            f"{name} is compacted: examples with equal keys would vanish and the model could not be rebuilt",
            altered(name, "cleanup.policy=delete"),
        )
    for key in ("retention.ms", "retention.bytes"):
        if settings.get(key, "-1") != "-1":
            problems.add(
                f"{name} has {key}={settings[key]}: entries that the model is made of would be deleted",
                altered(name, f"{key}=-1"),
            )


def record_bytes_of(config: Config, topic: str) -> int:
    """The largest record that can be written to one topic, which need not be the app's."""
    settings = _settings(admin(config), [topic]).get(topic, {})
    return min(int(settings.get("max.message.bytes", BROKER_RECORD_BYTES)), _client_record_bytes(config))


def _client_record_bytes(config: Config) -> int:
    own = {**config.client_properties(), **config.client_properties("producer")}
    return int(own.get("message.max.bytes", CLIENT_RECORD_BYTES))


def record_bytes_max(config: Config, settings: dict[str, dict[str, str]]) -> int:
    """The largest record that can be written to every topic; ConfigError where it is too small for a dead letter."""
    own = (config.predictions.topic, config.training_log_topic, config.outcomes, config.dead_letters, config.signals)
    limits = [int(settings.get(name, {}).get("max.message.bytes", BROKER_RECORD_BYTES)) for name in own]
    limit = min(*limits, _client_record_bytes(config))
    if limit < RECORD_BYTES_LEAST:
        raise ConfigError(
            f"records of at most {limit} bytes can be written; a dead letter needs {RECORD_BYTES_LEAST}",
            f"raise max.message.bytes of {', '.join(own)}, and message.max.bytes of the producer",
        )
    return limit

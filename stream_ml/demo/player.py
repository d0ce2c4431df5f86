"""Plays the flights in the order of their time, as fast as the service keeps up: a model lags some hours at most."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import fastavro
from confluent_kafka import Message, Producer, TopicPartition

from stream_ml import formats
from stream_ml.admin.produce import put
from stream_ml.config import Config
from stream_ml.core.avro.record import encode_record
from stream_ml.core.log.heads import decode_pair
from stream_ml.core.partition.outputs import dead_letter_origin
from stream_ml.demo.flights import Item
from stream_ml.errors import FatalError
from stream_ml.kafka.clients import reader, take
from stream_ml.kafka.messages import record_of
from stream_ml.records import Produce

WINDOW_MS = 5 * 3_600_000  # of the flights' time is played at once
WAIT_S = 0.05  # for the next thing to be committed
STALL_MAX_S = 60.0  # without progress: then the worker is stuck


class Runs(Protocol):
    """A worker, as one that plays looks at it."""

    @property
    def returncode(self) -> int | None:
        """Of the process that has ended."""
        ...

    def poll(self) -> int | None:
        """None while it runs."""
        ...


class Window(NamedTuple):
    """Some hours of records, ready to be sent, and how many events and labels there are up to its end."""

    labels: list[Produce]
    events: list[Produce]
    events_end: int
    labels_end: int


def windows(config: Config, items: list[Item]) -> Iterator[Window]:
    """The items in windows: WINDOW_MS from an event on, with the labels up to the next window's first event."""
    targets = {
        "event": (config.events.topic, fastavro.parse_schema(formats.load("flight"))),
        "label": (config.feedback.topic, fastavro.parse_schema(formats.load("arrival"))),
    }
    found: dict[str, list[Produce]] = {"event": [], "label": []}
    sent, end_ms = {"event": 0, "label": 0}, 0
    for item in items:
        if item.kind == "event" and item.time_ms > end_ms:
            if found["event"]:
                yield Window(found["label"], found["event"], sent["event"], sent["label"])
                found = {"event": [], "label": []}
            end_ms = item.time_ms + WINDOW_MS
        topic, schema = targets[item.kind]
        found[item.kind].append(Produce(topic, -1, item.flight_id.encode(), encode_record(schema, item.values)))
        sent[item.kind] += 1
    yield Window(found["label"], found["event"], sent["event"], sent["label"])


class Player:
    """Produces windows, both topics with the flight's id as key."""

    def __init__(self, config: Config) -> None:
        settings = {
            "bootstrap.servers": config.kafka.bootstrap_servers,
            "enable.idempotence": True,  # a batch that is sent again must not overtake
            "linger.ms": 50,  # flush() sends at once, and all together
        }
        self._producer = Producer(settings)

    def play(self, records: list[Produce]) -> None:
        """Send records, and see that they have arrived."""
        for record in records:
            put(self._producer, record)
        self._producer.flush()


class Committed:
    """Counts what the service has committed, by reading its outputs.

    There is one partition, so the n-th prediction is that of the n-th event, and labels end in order but for a few.
    """

    def __init__(self, config: Config, items: list[Item]) -> None:
        self._config = config
        self._times = {kind: [item.time_ms for item in items if item.kind == kind] for kind in ("event", "label")}
        self.done = {"event": 0, "label": 0}
        self._consumer = reader(config)
        topics = (config.predictions.topic, config.training_log_topic, config.outcomes, config.dead_letters)
        self._consumer.assign([TopicPartition(topic, 0, 0) for topic in topics])

    def read(self, wait_s: float) -> None:
        """Count what is there; where nothing is, wait so long for it."""
        for message in take(self._consumer, 10_000, wait_s):
            if message.error() is None:
                kind = self._kind(message)
                if kind is not None:
                    self.done[kind] += 1

    def _kind(self, message: Message) -> str | None:
        config, topic = self._config, message.topic()
        if topic == config.training_log_topic:
            return "label" if decode_pair(message.value() or b"") is not None else None
        if topic == config.dead_letters:
            origin = dead_letter_origin(record_of(message))
            return "event" if origin is not None and origin[0] == config.events.topic else "label"
        return "event" if topic == config.predictions.topic else "label"

    def caught_up(self, window: Window) -> bool:
        """Whether all events up to a window's end are done, and all labels but those that wait for later events."""
        if self.done["event"] < window.events_end:
            return False
        labels = self._times["label"][self.done["label"] : window.labels_end]
        return not labels or labels[0] > self._times["event"][window.events_end - 1]

    def close(self) -> None:
        """Let go of the consumer."""
        self._consumer.close()


def play(config: Config, items: list[Item], worker: Runs, progress: Callable[[int], None]) -> None:
    """Play everything and wait until it is done.

    Parameters
    ----------
    progress
        Called with the number of records that are done.

    Raises
    ------
    FatalError
        The worker ended, or nothing was committed for STALL_MAX_S.
    """
    player, committed = Player(config), Committed(config, items)
    coming, played = windows(config, items), None
    ready = _next(coming, player)
    heard, last = time.monotonic(), 0
    while last < len(items):
        if ready is not None and (played is None or committed.caught_up(played)):
            player.play(ready.events)
            played, ready = ready, _next(coming, player)
        committed.read(WAIT_S)
        done = sum(committed.done.values())
        if done != last:
            heard, last = time.monotonic(), done
            progress(done)
        _check_alive(worker, heard)
    committed.close()


def _next(coming: Iterator[Window], player: Player) -> Window | None:
    """The next window, encoded while the service is at work, its labels sent ahead.

    The service holds labels back whose time has not come, and so has them at hand when their events come.
    """
    window = next(coming, None)
    if window is not None:
        player.play(window.labels)
    return window


def _check_alive(worker: Runs, heard: float) -> None:
    if worker.poll() is not None:
        raise FatalError(f"the worker ended with {worker.returncode}")
    if time.monotonic() - heard > STALL_MAX_S:
        raise FatalError(f"nothing was committed for {STALL_MAX_S:.0f} s")

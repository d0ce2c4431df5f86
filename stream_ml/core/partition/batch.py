"""What a turn of one partition takes, and what it gives: values alone."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

from stream_ml.core.inputs.events import Events
from stream_ml.core.inputs.labels import Labels
from stream_ml.core.inputs.readers import EventReader
from stream_ml.core.join.join import StagedJoin
from stream_ml.core.partition.answered import AnswerSeal
from stream_ml.core.partition.commit_metadata import Metadata
from stream_ml.core.partition.outputs import Topics
from stream_ml.core.partition.predictions import PredictionCodec
from stream_ml.records import Block, DeadLetter, Produce

Coordinates = tuple[str, int, int]


class PartitionSettings(NamedTuple):
    """What the cores of all partitions share. A model that has learned fewer than `cold_below` examples is cold.

    `inputs_id` names the two topics that are read, as Kafka knows them. `answers` believes what the scoring API says it
    has answered; None: nothing is believed.
    """

    reader: EventReader
    predictions: PredictionCodec
    topics: Topics
    writer: str
    record_bytes_max: int
    cold_below: int = 1
    inputs_id: tuple[str, str] = ("", "")
    answers: AnswerSeal | None = None


class Batch(NamedTuple):
    """Decoded input of one turn for one partition, each in offset order."""

    events: Events
    feedback: Labels
    events_at_end: bool
    feedback_at_end: bool
    poison_records: Collection[Coordinates] = ()

    def coordinates(self) -> list[Coordinates]:
        """Topic, partition and offset of each record."""
        both = (self.events.records, self.feedback.records)
        return [(records.topic, records.partition, offset) for records in both for offset in records.offsets]


class Outputs(NamedTuple):
    """Everything that one batch gives: records in order, the state to commit, and what to count.

    `dead_letters` has the first dead letter of each reason, for people. `readies`: other models are ready than were
    committed last.
    """

    blocks: list[Block]
    events_position: int
    feedback_position: int
    metadata: Metadata
    counts: Counter[tuple[str, str]]
    staged: StagedJoin
    dead_letters: dict[str, DeadLetter]
    readies: bool = False

    @property
    def is_due(self) -> bool:
        """Whether it is to be committed, although nothing may have been taken."""
        return self.moved or self.readies

    @property
    def moved(self) -> bool:
        """Whether there is anything to commit."""
        return any(block.keys for block in self.blocks)

    @property
    def records(self) -> Iterator[Produce]:
        """The records one by one, in the order of each topic."""
        return (produce for block in self.blocks for produce in block.produces())

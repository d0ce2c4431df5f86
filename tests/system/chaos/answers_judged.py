"""Whether what clients were told is what stands in the topics, to the last bit.

Each record of an asked event holds its sealed answer, so the topic says what a process answered, also where the answer
was lost on its way. Then, for each id:

1. Each answer that a client has is the sealed one of a record, and no two answers are of one record.
2. Records beyond that are of requests whose answer did not come; there are not more of them than such requests.
3. Each record's prediction is its sealed answer, with `served_by_api`; all but the first say `duplicate_event`.
4. An id that was asked once and answered has one record, and the prediction of that record is its answer.

And no other prediction says `served_by_api`. What is derived again from the log, the audit judges.
"""

from collections import Counter, defaultdict
from typing import Any, NamedTuple

from stream_ml.app.assemble import assemble
from stream_ml.core.avro.framing import Rejected
from stream_ml.core.join.watermark import NEVER_MS
from stream_ml.core.log.entry import decode_entry
from stream_ml.core.partition.answered import FLAG, HEADER, Answer
from stream_ml.storage.keys import answer_seal
from tests.support.service import Service
from tests.system.chaos.asking import PREFIX, AskedEvent

NOT_PUBLISHED = {"recorded", "frozen"}
TOLD_MAX = 20


class Told(NamedTuple):
    """What counts of a prediction."""

    class_name: str | None
    score: str | None  # all its bits
    lineage: str
    position: int
    epoch: int
    flags: tuple[str, ...]  # without who answered, and without what a second event of an id has


class Stands(NamedTuple):
    """A record of an asked event: its place, and what is sealed in it; None where nothing is."""

    partition: int
    offset: int
    sealed: Told | None


def judged(made: Service, asked: dict[str, AskedEvent]) -> dict[str, Any]:
    """Counts, and in `contradictions` what is wrong, in words."""
    return _Judge(made, asked).judge()


class _Judge:
    def __init__(self, made: Service, asked: dict[str, AskedEvent]) -> None:
        self._made, self._asked = made, asked
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._records = self._read_records()
        self._published: dict[tuple[int, int], dict[str, Any]] = {}
        for partition in range(made.partitions):
            for one in made.predictions(partition):
                before = self._published.setdefault((one["event_partition"], one["event_offset"]), one)
                self._demand(before is one, f"two predictions of one event: {before} {one}")

    def _demand(self, fact: bool, words: str) -> None:
        if not fact:
            self.wrong.append(words)

    def _read_records(self) -> dict[str, list[Stands]]:
        """By id, in the order of the topic."""
        parts = assemble(self._made.config)
        seal, found = answer_seal(self._made.config, parts.domain), defaultdict[str, list[Stands]](list)
        assert seal is not None
        for partition in range(self._made.partitions):
            for record in self._made.read(self._made.config.events.topic, partition):
                head = parts.reader.head(record, NEVER_MS)
                if isinstance(head, Rejected) or not head[2].startswith(PREFIX):
                    continue
                given, sealed = dict(record.headers).get(HEADER), None
                if given is not None:
                    answer = seal.read(given, record.topic, record.key, record.value or b"", head[2])
                    self._demand(isinstance(answer, Answer), f"the header of {head[2]} is not believed: {answer}")
                    sealed = _of_sealed(answer) if isinstance(answer, Answer) else None
                found[head[2]].append(Stands(partition, record.offset, sealed))
        return found

    def judge(self) -> dict[str, Any]:
        """All of them."""
        for name, one in self._asked.items():
            self._judge_one(name, one, self._records.get(name, []))
        self._demand(self._records.keys() <= self._asked.keys(), "events that nobody asked about")
        flagged = sum(FLAG in _words(one["flags"]) for one in self._published.values())
        self._demand(flagged == self.counts["published_as_served"], f"{flagged} predictions say {FLAG}")
        learned = self._learned()
        labelled = {name for name, one in self._asked.items() if one.receipts and one.answers}
        self._demand(labelled <= learned, f"labels that were not learned: {sorted(labelled - learned)[:5]}")
        told = ("answered", "recorded", "published_as_served", "published_as_scored", "asked_again", "lost_answers")
        return {
            **{name: self.counts[name] for name in told},
            "first_was_lost": self.counts["first_was_lost"],
            "labelled": len(labelled),
            "contradictions": len(self.wrong),
            "contradicts": self.wrong[:TOLD_MAX],
        }

    def _judge_one(self, name: str, one: AskedEvent, stands: list[Stands]) -> None:
        counts = self.counts
        counts["answered"] += len(one.answers)
        counts["recorded"] += len(stands)
        counts["asked_again"] += one.asked > 1
        self._demand(len({record.partition for record in stands}) <= 1, f"{name} is in two partitions")
        given = Counter(map(_of_answer, one.answers))
        for number, record in enumerate(stands):
            there = self._published.get((record.partition, record.offset))
            if there is None:
                self._demand(False, f"{name} at {record[:2]} has no prediction")
                continue
            told = _of_published(there)
            flags = _words(there["flags"])
            self._demand(there["event_id"] == name, f"{name}: the prediction is of {there['event_id']}")
            self._demand(("duplicate_event" in flags) == bool(number), f"{name}, record {number}: flags {flags}")
            if record.sealed is None:  # the model was unsound: the worker scores
                counts["published_as_scored"] += 1
                self._demand(FLAG not in flags, f"{name}: nothing was sealed, and {there} says {FLAG}")
                self._demand(any("unsound" in a["flags"] for a in one.answers) or one.uncertain > 0, f"{name}: no seal")
                continue
            same = told == record.sealed and FLAG in flags
            counts["published_as_served"] += same
            self._demand(same, f"{name}: sealed {record.sealed}, published {there}")
        self._answers_stand(name, one, stands, given)

    def _answers_stand(self, name: str, one: AskedEvent, stands: list[Stands], given: Counter[Told]) -> None:
        sealed = Counter(record.sealed for record in stands if record.sealed is not None)
        sound = Counter({told: count for told, count in given.items() if "unsound" not in told.flags})
        self._demand(sound <= sealed, f"{name}: answers that are not recorded: {sound - sealed}")
        lost = sealed - sound
        self.counts["lost_answers"] += lost.total()
        self._demand(len(stands) - given.total() <= one.uncertain, f"{name}: {len(stands)} records, {one}")
        first = stands[0] if stands else None
        if first is not None and first.sealed is not None and first.sealed not in given:
            self.counts["first_was_lost"] += 1
            self._demand(one.uncertain > 0, f"{name}: its first prediction was answered to nobody")
        if one.asked == 1 and one.answers:
            self._demand(len(stands) == 1, f"{name} was asked once, and has {len(stands)} records")
            if first is not None and first.sealed is not None:
                there = self._published.get(first[:2])
                self._demand(there is not None and _of_published(there) in given, f"{name}: {there}, told {given}")

    def _learned(self) -> set[str]:
        entries = (decode_entry(r.value or b"") for r in self._made.read(self._made.config.training_log_topic))
        return {entry.event_id for entry in entries if entry.kind == "example"}


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def _bits(score: float | None) -> str | None:
    return None if score is None else score.hex()


def _of_answer(one: dict[str, Any]) -> Told:
    """Of an answer over HTTP: its class is the label's JSON."""
    name = None if one["class"] is None else str(one["class"]).lower()
    flags = tuple(flag for flag in one["flags"] if flag not in NOT_PUBLISHED)
    return Told(name, _bits(one["score"]), one["lineage"], one["position"], one["epoch"], flags)


def _of_sealed(answer: Answer) -> Told:
    served = answer.served
    return Told(
        *(served.class_name, _bits(served.score), served.lineage, served.position, served.epoch, tuple(served.flags))
    )


def _of_published(one: dict[str, Any]) -> Told:
    flags = tuple(flag for flag in _words(one["flags"]) if flag not in (FLAG, "duplicate_event"))
    return Told(one["class"], _bits(one["score"]), one["lineage"], one["position"], one["epoch"], flags)

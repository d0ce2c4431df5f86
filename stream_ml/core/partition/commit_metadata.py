"""What committed offsets carry beside themselves: the state of a partition, as JSON.

The state stands on the offset of the events. The feedback's has only what shows that both are of one transaction, and
of which topics: whoever finds other tokens has lost one of the two.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stream_ml.core.avro.record import FORMATS_MAX
from stream_ml.core.join.watermark import Times
from stream_ml.core.log.entry import READER
from stream_ml.errors import FatalError

FORMAT = 2
LINEAGES_MAX = 4  # whose last signal is remembered; of an older one the signals would be reported again
LINEAGE_CHARS = 8  # of its digits
READY_MAX = 4  # models that an owner says are ready
KEYS_MAX = 4  # keys of answers that are named: ten bytes each
BYTES_MAX = 1_000  # Kafka's own limit is offset.metadata.max.bytes, 4096 by default

_NO_METADATA = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


class OutputEnds(NamedTuple):
    """Ends of what a partition writes to, sampled between two transactions: later outputs lie at or after them."""

    predictions: int
    outcomes: int
    dead_letters: int
    training_log: int


class Metadata(NamedTuple):
    """A partition's state as of its last transaction; keys as in docs/reference/formats.md.

    `signalled` has the last position signalled by lineage, of partition 0. `inputs_id` names the topics that the
    offsets are of: one that is deleted and recreated has other records at the same offsets. `ready` has lineage and
    position of the models that the owner has at the log's end, who serves first. `key_ids` name the keys by which it
    believes answers of the scoring API, at most KEYS_MAX of them; none: it believes none.
    """

    next_sequence: int
    times: Times
    inputs_ms: tuple[int, int]
    events_floor: int
    feedback_floor: int
    ends: OutputEnds
    token: str
    writer: str
    signalled: Mapping[str, int] = {}
    inputs_id: tuple[str, str] = ("", "")
    reader: int = READER
    log_partition: int = 0
    ready: Sequence[tuple[str, int]] = ()
    key_ids: Sequence[str] = ()

    def feedback_text(self) -> str:
        """JSON for the feedback's offset."""
        return json.dumps({"v": FORMAT, "tok": self.token, "ti": list(self.inputs_id)}, separators=(",", ":"))

    def text(self) -> str:
        """JSON for the events' offset; FatalError past the limit, which only a name can cause."""
        found = json.dumps(
            {
                "v": FORMAT,
                "rd": self.reader,
                "lp": self.log_partition,
                "seq": self.next_sequence,
                "wm": self.times.watermark_ms,
                "et": self.times.events_expired_ms,
                "lt": self.times.labels_expired_ms,
                "in": list(self.inputs_ms),
                "ef": self.events_floor,
                "ff": self.feedback_floor,
                "from": dict(zip("podl", self.ends, strict=True)),
                "tok": self.token,
                "tid": self.writer,
                **({"sig": dict(self.signalled)} if self.signalled else {}),
                **({"rdy": [list(one) for one in self.ready[:READY_MAX]]} if self.ready else {}),
                **({"kid": list(self.key_ids[:KEYS_MAX])} if self.key_ids else {}),
                "ti": list(self.inputs_id),
            },
            separators=(",", ":"),
        )
        if len(found.encode()) > BYTES_MAX:
            raise FatalError(f"commit metadata of {len(found)} characters: app.id or worker.instance is too long")
        return found


def parse_metadata(text: str | None) -> Metadata | None:
    """The state out of the events' offset; None where there is none of ours, or of another format."""
    try:
        found: dict[str, Any] = json.loads(text or "")
        if found["v"] != FORMAT:
            return None
        return Metadata(
            next_sequence=int(found["seq"]),
            times=Times(int(found["wm"]), int(found["et"]), int(found["lt"])),
            inputs_ms=(int(found["in"][0]), int(found["in"][1])),
            events_floor=int(found["ef"]),
            feedback_floor=int(found["ff"]),
            ends=OutputEnds(*(int(found["from"][name]) for name in "podl")),
            token=str(found["tok"]),
            writer=str(found["tid"]),
            signalled={str(lineage): int(position) for lineage, position in found.get("sig", {}).items()},
            inputs_id=(str(found["ti"][0]), str(found["ti"][1])),
            reader=int(found["rd"]),
            log_partition=int(found["lp"]),
            ready=tuple((str(lineage), int(position)) for lineage, position in found.get("rdy", ())),
            key_ids=tuple(map(str, found.get("kid", ()))),
        )
    except _NO_METADATA:
        return None


class FeedbackMark(NamedTuple):
    """What the feedback's offset carries."""

    token: str
    inputs_id: tuple[str, str]


def parse_feedback_mark(text: str | None) -> FeedbackMark | None:
    """The mark out of the feedback's offset; None where there is none of ours, or of another format."""
    try:
        found: dict[str, Any] = json.loads(text or "")
        if found["v"] != FORMAT:
            return None
        return FeedbackMark(str(found["tok"]), (str(found["ti"][0]), str(found["ti"][1])))
    except _NO_METADATA:
        return None


def other_format(text: str | None) -> int | None:
    """The version of a text of ours that this code does not read; None of its own, and of anybody else's."""
    try:
        version = json.loads(text or "")["v"]
    except _NO_METADATA:
        return None
    return version if type(version) is int and version != FORMAT and 0 < version <= FORMATS_MAX else None


def last_signalled(signalled: Mapping[str, int], lineage: str) -> int:
    """The last position of this lineage that was signalled; -1 before the first."""
    return signalled.get(lineage[:LINEAGE_CHARS], -1)


def signalled_upto(signalled: Mapping[str, int], lineage: str, position: int) -> dict[str, int]:
    """The positions with this lineage's last one; those that were not heard of for longest are forgotten."""
    name = lineage[:LINEAGE_CHARS]
    others = [(other, at) for other, at in signalled.items() if other != name]
    return dict([*others[1 - LINEAGES_MAX :], (name, position)])


class RestorePoints:
    """Where outputs stood at known input positions: tells a rebuild where to begin, whatever the clocks said."""

    KEPT_MAX = 256  # when there are more, every second one goes: a rebuild then begins a little earlier

    def __init__(self, events: int, feedback: int, ends: OutputEnds) -> None:
        self._marks = [(events, feedback, ends)]

    def add(self, events: int, feedback: int, ends: OutputEnds) -> None:
        """Note the ends as they are while everything before these positions, and nothing else, is committed."""
        self._marks.append((events, feedback, ends))
        if len(self._marks) > self.KEPT_MAX:
            self._marks = [self._marks[0], *self._marks[2::2]]

    def since(self, events: int, feedback: int) -> int:
        """How many records of both inputs lie between the newest mark and these positions."""
        newest = self._marks[-1]
        return events - newest[0] + feedback - newest[1]

    def before(self, events_floor: int, feedback_floor: int) -> OutputEnds:
        """The latest ends that no output of a record at or above the floors can precede."""
        found = self._marks[0][2]
        for events, feedback, ends in self._marks:
            if events > events_floor or feedback > feedback_floor:
                break
            found = ends
        return found

    def prune(self, events_floor: int, feedback_floor: int) -> None:
        """Forget marks that committed floors have left behind."""
        while len(self._marks) > 1 and self._marks[1][0] <= events_floor and self._marks[1][1] <= feedback_floor:
            del self._marks[0]

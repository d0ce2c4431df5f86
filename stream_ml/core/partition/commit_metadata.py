"""What a committed offset carries beside itself: the state of a partition, one JSON text on both of its offsets."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from stream_ml.core.join.watermark import Times
from stream_ml.errors import FatalError

FORMAT = 2
LINEAGES_MAX = 4  # whose last signal is remembered; of an older one the signals would be reported again
LINEAGE_CHARS = 8  # of its digits
BYTES_MAX = 1_000  # Kafka's own limit is offset.metadata.max.bytes, 4096 by default


class OutputEnds(NamedTuple):
    """Ends of what a partition writes to, sampled between two transactions: later outputs lie at or after them."""

    predictions: int
    outcomes: int
    dead_letters: int
    training_log: int


class Metadata(NamedTuple):
    """A partition's state as of its last transaction; keys as in the contract.

    `signalled` has the last position signalled by lineage, of partition 0. `inputs_id` names the topics that the
    offsets are of: one that is deleted and recreated has other records at the same offsets.
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

    def text(self) -> str:
        """JSON for the offset's metadata; FatalError past the limit, which only a name can cause."""
        found = json.dumps(
            {
                "v": FORMAT,
                "seq": self.next_sequence,
                "wm": self.times.watermark_ms,
                "et": self.times.events_expired_ms,
                "lt": self.times.labels_expired_ms,
                "in": list(self.inputs_ms),
                "ef": self.events_floor,
                "ff": self.feedback_floor,
                "from": list(self.ends),
                "tok": self.token,
                "tid": self.writer,
                **({"sig": dict(self.signalled)} if self.signalled else {}),
                "ti": list(self.inputs_id),
            },
            separators=(",", ":"),
        )
        if len(found.encode()) > BYTES_MAX:
            raise FatalError(f"commit metadata of {len(found)} characters: app.id or worker.instance is too long")
        return found


def parse_metadata(text: str | None) -> Metadata | None:
    """Metadata out of a committed offset; None where there is none of ours, or of a later format."""
    try:
        found: dict[str, Any] = json.loads(text or "")
        if found["v"] not in (1, FORMAT):
            return None
        if found["v"] == 1:  # signals of one lineage, and topics without a name
            found = {**found, "sig": {}, "ti": ["", ""]}
        return Metadata(
            next_sequence=int(found["seq"]),
            times=Times(int(found["wm"]), int(found["et"]), int(found["lt"])),
            inputs_ms=(int(found["in"][0]), int(found["in"][1])),
            events_floor=int(found["ef"]),
            feedback_floor=int(found["ff"]),
            ends=OutputEnds(*(int(end) for end in found["from"])),
            token=str(found["tok"]),
            writer=str(found["tid"]),
            signalled={str(lineage): int(position) for lineage, position in found.get("sig", {}).items()},
            inputs_id=(str(found["ti"][0]), str(found["ti"][1])),
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


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

"""What a worker does now.

::

    starting ──► rebalancing ◄──► restoring ◄──► running
                      ▲               ▲             ▲
                      └──────────► blocked ◄────────┘
    each ──► stopping

The group's moves are incremental: in `rebalancing` and `restoring` the partitions that are owned are served meanwhile.
"""

from enum import Enum

from stream_ml.kafka.consumers import Group
from stream_ml.kafka.topic_watch import Verdict
from stream_ml.worker.partitions.assignment import Ownership


class WorkerState(Enum):
    """States of a worker, as its status names them."""

    STARTING = "starting"  # the log is folded; the group is not joined yet
    REBALANCING = "rebalancing"  # the group has given nothing yet, or is on its move
    RESTORING = "restoring"  # partitions that the group gave are claimed, and their joins rebuilt
    RUNNING = "running"  # what the group gave is owned, or suspended
    BLOCKED = "blocked"  # a topic is not as it was: nothing is read and nothing written
    STOPPING = "stopping"  # told to stop: what is committed is learned, then a checkpoint


def state_of(verdict: Verdict, group: Group, ownership: Ownership) -> WorkerState:
    """The state of a worker that has started and was not told to stop."""
    if verdict.blocking:
        return WorkerState.BLOCKED
    if not group.settled:
        return WorkerState.REBALANCING
    return WorkerState.RESTORING if ownership.wanted else WorkerState.RUNNING

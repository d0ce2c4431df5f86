"""What a claim writes into the training log: starts of partitions, the schema of predictions, the first models."""

import logging
import time
from typing import Any

from stream_ml.app.parts import Parts
from stream_ml.core.log.entry import encode_command, encode_schema, encode_start
from stream_ml.core.partition.outputs import RECORD_OVERHEAD
from stream_ml.follower.follower import Follower
from stream_ml.follower.recipes import declaration
from stream_ml.follower.takeover import free_name, serve_arguments
from stream_ml.records import Block

log = logging.getLogger(__name__)


class ClaimEntries:
    """Entries of one worker, each only where the log has not got it; several that start at once may each write it."""

    def __init__(self, parts: Parts, follower: Follower, record_bytes_max: int) -> None:
        self._parts, self._follower = parts, follower
        self._config, self._record_bytes_max = parts.config, record_bytes_max

    def start(self, number: int, events: int, feedback: int, partitions: int, backlog_end: int = 0) -> Block:
        """The entry that stands before every example of a partition: without it none is learned."""
        of = (number, events, feedback, partitions, backlog_end)
        return self._block(encode_start(*of, written_at_ms=_now_ms(), writer=self._config.transactional_id))

    def schema(self) -> list[Block]:
        """The entry of our predictions' schema."""
        config, codec = self._config, self._parts.predictions
        if (codec.topic, codec.fingerprint) in self._follower.book.facts.output_schemas:
            return []
        of = (codec.fingerprint, codec.text, codec.topic)
        value = encode_schema(*of, written_at_ms=_now_ms(), writer=config.transactional_id)
        if self._is_too_large(value):
            size = f"{len(value):,} bytes, and {config.training_log_topic} takes {self._record_bytes_max:,}"
            log.warning("the schema of predictions is not put into the log: %s", size)
            return []
        return [self._block(value)]

    def models(self, *, first: bool) -> list[Block]:
        """A declaration of the configuration's model, where the log does not know it.

        Parameters
        ----------
        first
            Whether partition 0 is among those that are claimed: then also who serves, where the log does not say so.
        """
        config, commands = self._config, self._commands(first=first)
        writer = config.transactional_id
        values = [encode_command(*of, written_at_ms=_now_ms(), writer=writer) for of in commands.items()]
        if values and self._is_too_large(values[0]):
            log.warning("the model is not declared: its declaration would take %s bytes", f"{len(values[0]):,}")
            return []
        return [self._block(*values)] if values else []

    def _commands(self, *, first: bool) -> dict[str, dict[str, Any]]:
        follower = self._follower
        roles, own = follower.book.facts.roles, follower.recipes.own
        undeclared = follower.take_over.undeclared(follower.lineup)
        if undeclared is not None:
            return {"declare": undeclared}
        if not first or roles.table.lineage:
            return {}
        found = {"serve": serve_arguments(own.lineage, 0, self._config.instance, "the first model of this log")}
        known = roles.declared.get(own.lineage)
        if known is None or known.retired:
            name = free_name(own, roles)
            found = {"declare": {**declaration(own, self._config, name=name), "epoch": 0}, **found}
        return found

    def _is_too_large(self, value: bytes) -> bool:
        return len(value) + RECORD_OVERHEAD > self._record_bytes_max

    def _block(self, *values: bytes) -> Block:
        return Block(self._config.training_log_topic, 0, [None] * len(values), list(values), {})


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

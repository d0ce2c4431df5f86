"""What was answered becomes an event, with the answer in a sealed header: the worker publishes exactly that."""

import secrets
from collections.abc import Sequence
from typing import Any

from stream_ml.config import Config
from stream_ml.core.api.bodies import envelope, new_id
from stream_ml.core.api.door import Recorded
from stream_ml.core.api.places import Places, is_by_place
from stream_ml.core.api.problems import Fault, Problem
from stream_ml.core.api.scoring import Moment
from stream_ml.core.model.estimator import Scored
from stream_ml.core.partition.answered import Answer, AnswerSeal
from stream_ml.core.partition.predictions import served_of
from stream_ml.records import Headers, Version
from stream_ml.serve.producer import Writer

NOT_PUBLISHED = ("frozen", "recorded")  # words of an answer that no prediction has


class Recorder:
    """Writes events with what was answered about them."""

    def __init__(self, config: Config, seal: AnswerSeal, writer: Writer) -> None:
        self._topic, self._seal, self._writer = config.events.topic, seal, writer

    async def write(
        self,
        moment: Moment,
        whole: Sequence[Recorded],
        scores: Sequence[Scored],
        told: Sequence[dict[str, Any]],
        now_ms: int,
    ) -> None:
        """Write n events, each with its score and the flags that are told of it; Problem where Kafka does not confirm.

        Of a model that the log does not give (unsound) nothing is sealed: the worker scores such an event itself.
        """
        records = []
        for item, scored, one in zip(whole, scores, told, strict=True):
            headers: Headers = ()
            if "unsound" not in one["flags"]:
                flags = tuple(flag for flag in one["flags"] if flag not in NOT_PUBLISHED)
                of = moment.of
                served = served_of(scored, Version(of.lineage, of.position), flags)._replace(epoch=of.epoch)
                answer = Answer(item.instance.event_id or "", served, of.examples_learned, now_ms)
                headers = [self._seal.header(self._topic, item.key, item.value, answer)]
            records.append((item.key, item.value, headers))
        await self._writer.write(self._topic, records)


def wanted(said: Any, most: int, places: Places) -> list[Any] | None:
    """The instances of a document that are to be recorded; None where its caller says that they are not."""
    instances: list[Any]
    if is_by_place(said):
        instances, partial, record, _ = places.named(said)
    else:
        instances, partial, record = envelope(said, "instances", most)
    if record is False:
        return None
    if partial:
        fault = Fault("/on_error", "schema_mismatch", "what is recorded is recorded whole: leave on_error out")
        raise Problem("not-of-schema", fault.detail, faults=[fault])
    return instances


def own_id(now_ms: int) -> str:
    """An id for an event that has none."""
    return new_id(now_ms, secrets.token_bytes(10))

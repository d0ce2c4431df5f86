"""From a checkpoint to a replica, and what has to hold for it to be believed."""

import contextlib
import logging
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from stream_ml.app.parts import Parts
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.replica import Replica
from stream_ml.core.log.seals import LogSeal
from stream_ml.core.model.lineage import LINEAGE_DIGITS, digest_of
from stream_ml.errors import CheckpointError, ConfigError
from stream_ml.kafka.clients import admin
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.log_reader import log_value
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.kafka.topics import TopicFacts
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore
from stream_ml.storage.keys import key_of

log = logging.getLogger(__name__)


def log_range(parts: Parts) -> tuple[int, int]:
    """First offset and end of the training log now, open transactions included; asks Kafka."""
    where = (parts.config.training_log_topic, 0)
    return ends(admin(parts.config), [where])[where]


def replica_of(
    store: CheckpointStore,
    checkpoint: Checkpoint,
    settings: FoldSettings,
    types: list[str],
    facts: TopicFacts,
    spec: dict[str, Any],
) -> Replica:
    """The replica in a checkpoint.

    Raises
    ------
    CheckpointError
        It is of another log, or predicts something else than when it was written. An older one, or the log, helps.
    """
    of = checkpoint.header.get("log")
    if not isinstance(of, dict) or of.get("id") != facts.log.log_id:
        raise CheckpointError(f"checkpoint {checkpoint.position} belongs to another training log")
    if checkpoint.header.get("spec_sha256") != digest_of(spec):
        raise CheckpointError(f"checkpoint {checkpoint.position} is of another model, whose lineage begins alike")
    if of.get("topic_id") != facts.training_log_topic_id:
        log.info("checkpoint %d was made when the training log was another topic", checkpoint.position)
    content = store.content(checkpoint, types)
    replica = Replica(settings)
    try:
        replica.restore(content["state"])
        probes = replica.probe_bits()
        written = content["probe_bits"]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # what native classes raise is no Exception
        raise CheckpointError(f"checkpoint {checkpoint.position} has another content: {str(error)[:300]}") from error
    if probes != written or replica.position != checkpoint.position:
        raise CheckpointError(f"checkpoint {checkpoint.position} predicts differently from when it was written")
    return replica


def check_last_entry(parts: Parts, replica: Replica, seal: LogSeal | None, keep_alive: Callable[[], None]) -> None:
    """The log must still hold the very entry that was folded last; CheckpointError where it does not."""
    position, topic = replica.position, parts.config.training_log_topic
    if position == 0:
        return
    first, end = log_range(parts)
    if position > end:
        raise CheckpointError(f"checkpoint {position} is ahead of the training log, which ends at {end}")
    if position - 1 < first:
        raise CheckpointError(f"the training log begins at {first}, after checkpoint {position}")
    batches = read_range(parts.config, topic, 0, position - 1, position, keep_alive=keep_alive)
    entries = [record for batch in batches for record in batch]
    if [sha256(log_value(entry, seal)).hexdigest() for entry in entries] != [replica.last_digest]:
        raise CheckpointError(f"the training log holds another entry before {position} than the checkpoint folded")


def untrained(parts: Parts, settings: FoldSettings) -> Replica:
    """A replica that has folded nothing.

    Raises
    ------
    ConfigError
        The log no longer begins at 0: without a checkpoint the model cannot be rebuilt. The operator brings one.
    """
    config = parts.config
    first, _ = log_range(parts)
    if first > 0:
        raise ConfigError(
            f"{config.training_log_topic} begins at {first}, and there is no usable checkpoint of lineage "
            f"{settings.lineage}: the model cannot be rebuilt from its beginning",
            f"put a checkpoint into {config.path(config.checkpoints.directory) / settings.lineage}, "
            "or go back to the settings and versions that wrote the last one",
        )
    return Replica(settings)


def newest_replica(parts: Parts, facts: TopicFacts) -> Replica:
    """The replica in the newest usable checkpoint, or an untrained one; nothing is read from Kafka."""
    config = parts.config
    spec = parts.spec(facts.log.log_id)
    settings = parts.fold_settings(digest_of(spec)[:LINEAGE_DIGITS])
    folder, types = config.path(config.checkpoints.directory), config.model.checkpoint_types
    key = key_of(config)
    store = CheckpointStore(folder, settings.lineage, keep=config.checkpoints.keep, key=key)
    for found in store.newest() if key or config.checkpoints.unsealed else ():
        with contextlib.suppress(CheckpointError):
            if isinstance(found, Checkpoint):
                return replica_of(store, found, settings, types, facts, spec)
    return Replica(settings)

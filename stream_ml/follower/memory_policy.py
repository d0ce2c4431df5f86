"""What is done about a model that is larger than it may be."""

import logging

from stream_ml.config import Config
from stream_ml.core.log.seals import LogSeal
from stream_ml.errors import FatalError, StreamMLError
from stream_ml.follower.model_size import HINT, ModelSize
from stream_ml.kafka.writing.commands import write_command

FROZEN_HINT = f"{HINT}; then type stream-ml resume CONFIG"

log = logging.getLogger(__name__)


def obey_policy(
    config: Config, size: ModelSize, lineage: str, seal: LogSeal | None, *, answers: bool, frozen: bool
) -> None:
    """Do what the configuration says; a model that does not answer stops learning alone.

    Parameters
    ----------
    answers
        Whether it is the one that answers.
    frozen
        Whether its learning is frozen already.

    Raises
    ------
    FatalError
        The policy says that the worker ends.
    """
    if size.policy == "exit" and answers:
        raise FatalError(f"{size.said()}, and model.memory_policy is exit", HINT)
    if size.policy == "tell" or frozen:
        return
    try:
        at = write_command(config, "freeze", {} if answers else {"lineage": lineage}, seal, writer=config.instance)
    except StreamMLError as error:  # Kafka is away, or refuses it
        log.warning("%s; learning could not be frozen, the next checkpoint tries again: %s", size.said(), error)
    else:
        log.error("%s: learning is frozen at %d of the log", size.said(), at, extra={"hint": FROZEN_HINT})

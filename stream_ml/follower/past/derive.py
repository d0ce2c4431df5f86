"""A model at any position of its log: from the newest checkpoint before it, or from the log's beginning."""

from typing import NamedTuple

from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.book import Book
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.log.seals import LogSeal
from stream_ml.errors import CheckpointError, ConfigError
from stream_ml.follower.past.judged import judged_entries
from stream_ml.follower.recipes import Recipe
from stream_ml.follower.restore import check_last_entry, log_range, model_of, own_checkpoints
from stream_ml.kafka.topics import TopicFacts
from stream_ml.storage.checkpoints import Checkpoint

REMADE_MAX = 50  # so often is it made anew because of halts that commands have ended


class Derived(NamedTuple):
    """A model at a position.

    Parameters
    ----------
    began_at
        Position of the checkpoint with which it began; 0: the log's beginning.
    """

    model: LineageModel
    settings: FoldSettings
    began_at: int


def model_at(
    recipe: Recipe, fresh: FoldSettings, facts: TopicFacts, position: int | None, seal: LogSeal | None
) -> Derived:
    """A model as it was when it had this version.

    Parameters
    ----------
    fresh
        Settings of its fold with payloads of their own.
    position
        None: as the log's end gives it now.

    Raises
    ------
    ConfigError
        The log does not give it: it begins later and no checkpoint helps, or it is a position of the future.
    """
    config = recipe.parts.config
    first, end = log_range(config)
    wanted = end if position is None else position
    if wanted > end:
        raise ConfigError(f"{recipe.name}/{wanted:,} lies ahead: {config.training_log_topic} ends at {end:,}")
    found = _restored(recipe, fresh, facts, wanted, seal)
    if found is None and first > 0:
        raise ConfigError(
            f"{config.training_log_topic} begins at {first:,}, and no checkpoint up to {wanted:,} of {recipe.name} "
            f"({recipe.lineage}) is in {config.path(config.checkpoints.directory)}: this version cannot be derived",
            "bring a checkpoint from a worker: stream-ml checkpoints import CONFIG FILE",
        )
    book, model, began_at = found or (Book(fresh), LineageModel(fresh), 0)
    for _ in range(REMADE_MAX):
        for judged in judged_entries(config, fresh, book, wanted, seal):
            model.fold(judged)
            if model.is_to_be_remade:
                break
        if not model.is_to_be_remade:
            return Derived(model, fresh, began_at)
        book, model, began_at = Book(fresh), model.successor(LineageModel(fresh)), 0
    raise ConfigError(f"{recipe.name} ({recipe.lineage}) has been halted too often to be derived")


def _restored(
    recipe: Recipe, fresh: FoldSettings, facts: TopicFacts, upto: int, seal: LogSeal | None
) -> tuple[Book, LineageModel, int] | None:
    """From the newest checkpoint up to there that is right; None where there is none."""
    store, there = own_checkpoints(recipe.parts.config, recipe.lineage, upto)
    for one in there:
        if not isinstance(one, Checkpoint):
            continue
        try:
            replica = model_of(store, one, recipe._replace(settings=fresh), facts)
            check_last_entry(recipe.parts.config, replica, seal, lambda: None)
        except CheckpointError:
            continue
        return replica.book, replica.only, one.position
    return None

"""From a checkpoint to a replica, and what has to hold for it to be believed."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

from stream_ml.app.parts import Parts
from stream_ml.config import Config
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.book import Book
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.fold.replica import Replica
from stream_ml.core.fold.watch import Watch
from stream_ml.core.log.seals import LogSeal
from stream_ml.core.model.lineage import canonical, core_of, digest_of
from stream_ml.core.model.selection import Commanded, Selection, may_seed
from stream_ml.errors import CheckpointError, ConfigError
from stream_ml.follower.recipes import Recipe, own_recipe
from stream_ml.kafka.clients import admin
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.log_reader import log_value
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.kafka.topics import TopicFacts
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore
from stream_ml.storage.keys import key_of

BOOK = "book"  # folder of the checkpoints of book and watch, which know no model

log = logging.getLogger(__name__)


def log_range(config: Config) -> tuple[int, int]:
    """First offset and end of the training log now, open transactions included; asks Kafka."""
    where = (config.training_log_topic, 0)
    return ends(admin(config), [where])[where]


def model_of(
    store: CheckpointStore, checkpoint: Checkpoint, recipe: Recipe, facts: TopicFacts, *, seeds: bool = False
) -> Replica:
    """The model in a checkpoint, with the book that it follows.

    Parameters
    ----------
    seeds
        Whether it may be of another lineage that has learned the same so far: see `seeds_of`.

    Raises
    ------
    CheckpointError
        It is of another log, or predicts something else than when it was written. An older one, or the log, helps.
    """
    _check_log(checkpoint, facts)
    if checkpoint.header.get("spec_sha256") != digest_of(recipe.spec) and not (
        seeds and may_begin(checkpoint.header, recipe)
    ):
        raise CheckpointError(f"checkpoint {checkpoint.position} is of another model, whose lineage begins alike")
    content = store.content(checkpoint, recipe.checkpoint_types)
    with _believed(checkpoint):
        book, model = _book(recipe.settings, content["book"]), LineageModel(recipe.settings)
        model.restore(content["model"])
        replica = Replica(recipe.settings, book, None, model)
        probes, written = model.probe_bits(), content["probe_bits"]
    if probes != written or {book.position, model.position} != {checkpoint.position}:
        raise CheckpointError(f"checkpoint {checkpoint.position} predicts differently from when it was written")
    return replica


def may_begin(header: dict[str, Any], recipe: Recipe) -> bool:
    """Whether a model may begin with a checkpoint of another lineage, by its header: all but their selections is the
    same, and by those both have learned the same up to there."""
    spec, commanded = header.get("spec"), header.get("commanded")
    if not isinstance(spec, dict) or header.get("spec_sha256") != digest_of(spec):
        return False
    if commanded is None or canonical(core_of(spec)) != canonical(core_of(recipe.spec)):
        return False
    own, other = Selection.of(recipe.spec.get("learn")), _selection_in(spec)
    if other is None or not isinstance(commanded, list) or len(commanded) != len(Commanded._fields):
        return False
    return may_seed(other, own, header["position"], Commanded(*commanded))


def _selection_in(spec: dict[str, Any]) -> Selection | None:
    """What a specification selects; None where a later version wrote it."""
    try:
        return Selection.of(spec.get("learn"))
    except ValueError:
        return None


def book_of(store: CheckpointStore, checkpoint: Checkpoint, settings: FoldSettings, facts: TopicFacts) -> Replica:
    """The book and the watch in a checkpoint, with no model; errors as of `model_of`."""
    _check_log(checkpoint, facts)
    content = store.content(checkpoint, [])
    with _believed(checkpoint):
        book, watch = _book(settings, content["book"]), Watch(settings)
        watch.restore(content["watch"])
    if book.position != checkpoint.position:
        raise CheckpointError(f"checkpoint {checkpoint.position} has another position inside")
    return Replica(settings, book, watch)


def _book(settings: FoldSettings, state: dict[str, Any]) -> Book:
    found = Book(settings)
    found.restore(state)
    return found


def _check_log(checkpoint: Checkpoint, facts: TopicFacts) -> None:
    of = checkpoint.header.get("log")
    if not isinstance(of, dict) or of.get("id") != facts.log.log_id:
        raise CheckpointError(f"checkpoint {checkpoint.position} belongs to another training log")
    if of.get("topic_id") != facts.training_log_topic_id:
        log.info("checkpoint %d was made when the training log was another topic", checkpoint.position)


class _believed:
    """Whatever goes wrong with a checkpoint's content is CheckpointError."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._position = checkpoint.position

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        if error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
            # What native classes raise is no Exception.
            raise CheckpointError(f"checkpoint {self._position} has another content: {str(error)[:300]}") from error


def check_last_entry(config: Config, replica: Replica, seal: LogSeal | None, keep_alive: Callable[[], None]) -> None:
    """The log must still hold the very entry that was folded last; CheckpointError where it does not."""
    position, topic = replica.book.position, config.training_log_topic
    if position == 0:
        return
    first, end = log_range(config)
    if position > end:
        raise CheckpointError(f"checkpoint {position} is ahead of the training log, which ends at {end}")
    if position - 1 < first:
        raise CheckpointError(f"the training log begins at {first}, after checkpoint {position}")
    batches = read_range(config, topic, 0, position - 1, position, keep_alive=keep_alive)
    entries = [record for batch in batches for record in batch]
    if [sha256(log_value(entry, seal)).hexdigest() for entry in entries] != [replica.book.last_digest]:
        raise CheckpointError(f"the training log holds another entry before {position} than the checkpoint folded")


def check_begins_at_0(config: Config, lineage: str) -> None:
    """See that a model without a checkpoint can be folded from the log's beginning.

    Raises
    ------
    ConfigError
        The log no longer begins at 0: without a checkpoint the model cannot be rebuilt. The operator brings one.
    """
    first, _ = log_range(config)
    if first > 0:
        raise ConfigError(
            f"{config.training_log_topic} begins at {first}, and there is no usable checkpoint of lineage "
            f"{lineage}: the model cannot be rebuilt from its beginning",
            f"put a checkpoint into {config.path(config.checkpoints.directory) / lineage}, "
            "or go back to the settings and versions that wrote the last one",
        )


Found = Iterator[Checkpoint | CheckpointError]


def own_checkpoints(config: Config, lineage: str, at_most: int | None = None) -> tuple[CheckpointStore, Found]:
    """Where the configuration keeps checkpoints of a lineage, and those up to a position as `CheckpointStore.newest`
    gives them; none where no key says which are to be believed."""
    kept, key = config.checkpoints, key_of(config)
    store = CheckpointStore(config.path(kept.directory), lineage, keep=kept.keep, key=key)
    return store, store.newest(at_most) if may_read(config, key) else iter(())


def may_read(config: Config, key: bytes | None) -> bool:
    """Whether something says which checkpoints are to be believed, or that all are."""
    return key is not None or config.checkpoints.unsealed


def seeds_of(config: Config, key: bytes | None, recipe: Recipe, at_most: int | None = None) -> Found:
    """Checkpoints of other lineages with which a model may begin, the newest first; in the place of a damaged one, what
    is wrong with it.

    Which they are is said by their headers: the payload of each is read when it is its turn.

    Parameters
    ----------
    at_most
        Position up to which one is looked for; None: any.
    """
    directory = config.path(config.checkpoints.directory)
    if not may_read(config, key) or not directory.is_dir():
        return
    names = {folder.name for folder in directory.iterdir()} - {BOOK, recipe.lineage}
    found: list[tuple[int, CheckpointStore]] = []
    for store in (CheckpointStore(directory, name, keep=1, key=key) for name in sorted(names)):
        usable = (header for header in store.headers(at_most) if may_begin(header, recipe))
        found += [(header["position"], store) for header in usable]
    for position, store in sorted(found, key=lambda one: -one[0]):
        try:
            yield store.read(position)
        except CheckpointError as error:
            yield error


def newest_model(parts: Parts, facts: TopicFacts) -> LineageModel:
    """The configuration's model in its newest usable checkpoint, or an untrained one; nothing is read from Kafka."""
    recipe = own_recipe(parts, facts.log)
    store, there = own_checkpoints(parts.config, recipe.lineage)
    for found in there:
        with contextlib.suppress(CheckpointError):
            if isinstance(found, Checkpoint):
                (model,) = model_of(store, found, recipe, facts).models.values()
                return model
    return LineageModel(recipe.settings)

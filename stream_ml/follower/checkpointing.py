"""When a follower writes checkpoints, what they say, and how it went.

There is one of book and watch, and one of each model with the book that it follows: each is loaded on its own.
They are written one after the other, each at the position that its replica has by then.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from stream_ml.app.parts import Parts
from stream_ml.config import Config
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.fold.replica import Replica
from stream_ml.core.model.lineage import digest_of
from stream_ml.errors import CheckpointError, OldFormat
from stream_ml.follower.cost import Cost
from stream_ml.follower.model_size import ModelSize
from stream_ml.follower.recipes import Recipe
from stream_ml.follower.restore import BOOK, book_of, may_read, model_of, seeds_of
from stream_ml.kafka.topics import TopicFacts
from stream_ml.observe.metrics import Metrics
from stream_ml.observe.status import CheckpointStatus
from stream_ml.storage.bucket import Bucket
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore
from stream_ml.storage.keys import key_of
from stream_ml.storage.mirror import Mirror
from stream_ml.storage.retention import pin, pins_of, unpin
from stream_ml.storage.writer import CheckpointWriter

BEGIN_S = 0.005  # what the turn that begins a checkpoint gives to it
VERIFY_S = 0.005  # a turn of the loop, for a checkpoint that holds nothing any more
PART = 10  # learning waits for what is pickled: for a tenth of the time at most
LEFT = "left-"  # how names of pins begin that a worker makes: and the epoch at which another model served
LEFT_MAX = 10

log = logging.getLogger(__name__)


class Kept(NamedTuple):
    """What one checkpoint is of: a replica's book and watch (`model` is None), or one of its models."""

    replica: Replica
    model: LineageModel | None

    @property
    def name(self) -> str:
        """The lineage; BOOK of book and watch."""
        return BOOK if self.model is None else self.model.settings.lineage

    @property
    def may_be_written(self) -> bool:
        """Whether it is where the log gives it, and not halted."""
        if self.replica.book.halt is not None or self.replica.interrupted or not self.replica.book.position:
            return False
        return self.model is None or (self.model.halt is None and self.model.is_healthy)


class Checkpointing:
    """The checkpoints of one follower, written a few milliseconds at a time between the turns of its loop.

    Attributes
    ----------
    sealed
        Whether they carry a seal: there is a key.
    waits
        Asked again and again while the bucket is waited for, whether to go on; None: it is not waited for. At a start
        alone.

    So many attributes: what was written, what is under way and where it goes are of one conversation.
    """

    def __init__(
        self,
        parts: Parts,
        facts: TopicFacts,
        recipe: Recipe,
        cost: Cost,
        metrics: Metrics,
        *,
        reads_only: bool = False,
    ) -> None:
        config = parts.config
        self._config, self._facts, self._cost, self._metrics = config, facts, cost, metrics
        self._reads_only = reads_only
        self._key = key_of(config, make=not reads_only)
        self.sealed = self._key is not None
        self._recipes: dict[str, Recipe] = {}
        self._stores: dict[str, CheckpointStore] = {}
        directory = config.path(config.checkpoints.directory)
        self._mirror = _mirror(config)
        self.waits: Callable[[], bool] | None = None
        self._problem = self.know(recipe)
        book = CheckpointStore(directory / BOOK, recipe.settings.watch, keep=config.checkpoints.keep, key=self._key)
        self._stores[BOOK] = book
        self._problem = self._problem or ("" if reads_only else book.prepare())
        self._sizes: dict[str, ModelSize] = {}
        self._writer, self._under_way, self._left = CheckpointWriter(), "", list[Kept]()
        self._position_under_way = -1
        self._begun_s = time.monotonic()
        self._written: dict[str, tuple[int, float]] = {}  # by name: position, and when (monotonic clock)
        self._size_is_new = ""  # the lineage of which it is
        self.stands_at: dict[str, int] = {}  # by name: where the newest one is of which this process knows

    @property
    def problem(self) -> str:
        """Why the last one could not be written, or the directory is not as it should be; empty where all is well."""
        return self._problem

    @property
    def away(self) -> str:
        """Why the newest ones are not in the bucket; empty where they are, or there is none."""
        return "" if self._mirror is None else self._mirror.problem

    def know(self, recipe: Recipe) -> str:
        """Be able to read and write the checkpoints of this lineage; why they cannot be written, as of `prepare`."""
        if recipe.lineage in self._recipes:
            return ""
        config = self._config
        directory = config.path(config.checkpoints.directory)
        of = config.checkpoints
        store = CheckpointStore(directory, recipe.lineage, keep=of.keep, key=self._key, spaced=of.spaced)
        problem = "" if self._reads_only else store.prepare()
        self._recipes[recipe.lineage], self._stores[recipe.lineage] = recipe, store
        return problem

    # --- at a start ---

    def restored_model(self, recipe: Recipe, at_most: int | None, check: Callable[[Replica], None]) -> Replica | None:
        """A model out of its newest checkpoint that is right, with its book; None where there is none.

        Without one of its own it begins with one of another lineage that has learned the same up to there.

        Parameters
        ----------
        at_most
            Position up to which one is looked for; None: any.
        check
            Raises CheckpointError where the log says that a replica cannot be right.
        """
        store, name = self._stores[recipe.lineage], recipe.lineage
        load = partial(model_of, store, recipe=recipe, facts=self._facts, seeds=True)
        found = self._restored(name, self._found(store, at_most), check, load)
        return found or self._restored(name, seeds_of(self._config, self._key, recipe, at_most), check, load)

    def restored_book(self, settings: FoldSettings, check: Callable[[Replica], None]) -> Replica | None:
        """Book and watch out of the newest checkpoint that is right; None where there is none."""
        store = self._stores[BOOK]
        load = partial(book_of, store, settings=settings, facts=self._facts)
        return self._restored(BOOK, self._found(store, None), check, load)

    def _restored(
        self,
        name: str,
        candidates: Iterable[Checkpoint | CheckpointError],
        check: Callable[[Replica], None],
        load: Callable[[Checkpoint], Replica],
    ) -> Replica | None:
        for found in candidates:
            try:
                if isinstance(found, CheckpointError):
                    raise found
                replica = load(found)
                check(replica)
            except OldFormat as error:  # as after every upgrade that changes it: nothing is broken
                log.info("checkpoint skipped: %s", error)
            except CheckpointError as error:
                self._metrics.count("checkpoint_failures")
                log.warning("checkpoint skipped: %s", error)
            else:
                self._cost.restore(found.header.get("cost"))
                self.stands_at[name] = max(self.stands_at.get(name, 0), found.position)
                of = found.header.get("lineage", name) if name != BOOK else name
                log.info("checkpoint at %d of %s loaded", found.position, of if of == name else f"{of}, for {name}")
                return replica
        return None

    def _found(self, store: CheckpointStore, at_most: int | None) -> Iterator[Checkpoint | CheckpointError]:
        """Those of a store, newest first; with those of the bucket while it is waited for. None without a key."""
        if not may_read(self._config, self._key):
            return iter(())
        if self._mirror is None or self.waits is None:
            return store.newest(at_most)
        return self._mirror.newest(store, at_most, self.waits)

    def pin_left(self, lineage: str, epoch: int) -> None:
        """Pin the newest checkpoint of a model that serves no longer, so that its version stays to be had.

        Of one that was left often the newest LEFT_MAX such pins stay; a disk that refuses one is reported.
        """
        store = self._stores.get(lineage)
        positions = () if store is None or self._reads_only else store.positions()
        if store is None or not positions:
            return
        try:
            pin(store.folder, positions[0], f"{LEFT}{epoch}", "it served until then")
            named = [(at, name) for at, names in pins_of(store.folder).items() for name in names]
            for at, name in sorted(one for one in named if one[1].startswith(LEFT))[:-LEFT_MAX]:
                unpin(store.folder, at, name)
        except OSError as error:
            log.warning("checkpoint %d of %s could not be pinned: %s", positions[0], lineage, error.strerror)
        else:
            log.info("checkpoint %d of %s, which served until %d, is pinned", positions[0], lineage, epoch)

    # --- between the turns ---

    @property
    def holds(self) -> bool:
        """Whether no model may change now, because one is being pickled."""
        return self._writer.holds

    @property
    def busy(self) -> bool:
        """Whether one is under way, or waits for the one before it."""
        return self._writer.busy or bool(self._left)

    def too_large(self) -> str:
        """The lineage of a model that the last one has found larger than it may be, else empty; asked once for each."""
        new, self._size_is_new = self._size_is_new, ""
        return new if new and self.size(new).over else ""

    def size(self, lineage: str) -> ModelSize:
        """How large a model is, as its last checkpoint found."""
        if lineage not in self._sizes:
            model = self._config.model
            self._sizes[lineage] = ModelSize(model.memory_max, model.memory_policy)
        return self._sizes[lineage]

    def write_if_due(self, replicas: Sequence[Replica], interval_s: float) -> bool:
        """Go on with those under way, or begin when the last ones are old enough; whether one was begun."""
        if self._writer.busy:
            self.write_on(VERIFY_S)
            return False
        if self._left:
            return self._begin_next(replicas)
        interval_s = max(interval_s, PART * self._writer.took_s)
        if time.monotonic() - self._begun_s < interval_s:
            return False
        return self.begin(replicas)

    def begin(self, replicas: Sequence[Replica]) -> bool:
        """Begin one of everything in these that has moved, the models first; whether one was begun."""
        self._begun_s = time.monotonic()
        models = [Kept(replica, model) for replica in replicas for model in replica.models.values()]
        self._left = [*models, *(Kept(replica, None) for replica in replicas if replica.is_watched)]
        return self._begin_next(replicas)

    def _begin_next(self, replicas: Sequence[Replica]) -> bool:
        """Begin the next one that is still there and has moved; a failure is reported, never fatal."""
        while self._left:
            kept = self._left.pop(0)
            there = kept.replica in replicas and (kept.model is None or kept.model in kept.replica.models.values())
            if not there or not kept.may_be_written:
                continue
            position = kept.replica.book.position
            if position != self._written.get(kept.name, (-1, 0.0))[0]:
                self._begin(kept, position)
                return True
        return False

    def _begin(self, kept: Kept, position: int) -> None:
        self._under_way, self._position_under_way = kept.name, position
        content: dict[str, Any] = {"book": kept.replica.book.state()}
        types: list[str] = []
        if kept.model is None:
            content |= {"watch": kept.replica.watch.state()}
        else:
            content |= {"model": kept.model.state(), "probe_bits": kept.model.probe_bits()}
            types = self._recipes[kept.name].checkpoint_types
        store = self._stores[kept.name]
        save = partial(store.save, position, self._header(kept), content, checkpoint_types=types)
        self._writer.begin(save)
        self.write_on(BEGIN_S)

    def write_on(self, budget_s: float) -> None:
        """Give so much time to the one under way."""
        with self._reported():
            if self._writer.turn(budget_s):
                self._wrote()

    def write_until(self, replicas: Sequence[Replica], until_s: float) -> bool:
        """Go on with those under way until then (monotonic clock); whether none is left."""
        while self.busy and time.monotonic() < until_s:
            if self._writer.busy:
                self.write_on(min(0.2, max(0.0, until_s - time.monotonic())))
            else:
                self._begin_next(replicas)
        return not self.busy

    def give_up(self) -> None:
        """Give up the one that holds the fold, because something waits for it; the next turn begins anew."""
        if self._writer.holds:
            self._writer.drop()
            self._left = []
            self._begun_s = -math.inf

    def leave(self, replicas: Sequence[Replica], after_s: float) -> None:
        """At the end of the process: leave what was not finished in time, and say what that means."""
        self._writer.drop(wait=False)
        for replica in replicas:
            for name in replica.models:
                stands_at, position = self.stands_at.get(name, 0), replica.book.position
                if stands_at < position:
                    log.warning(
                        "the last checkpoint of %s was not written within %.1f s (checkpoints.stop_wait): the one at "
                        "%d stands, and the next start folds %d entries again",
                        *(name, after_s, stands_at, position - stands_at),
                    )

    def close(self, most_s: float) -> None:
        """Let what was written last come into the bucket, for at most so long."""
        if self._mirror is not None and not self._reads_only:
            self._mirror.close(most_s)

    def written(self, lineage: str) -> CheckpointStatus:
        """Position and age of this process's last checkpoint of a model; None before the first."""
        if lineage not in self._written:
            return {"position": None, "age_seconds": None}
        position, written_s = self._written[lineage]
        return {"position": position, "age_seconds": round(time.monotonic() - written_s, 1)}

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except CheckpointError as error:
            self._metrics.count("checkpoint_failures")
            log.error("%s; scoring goes on, older checkpoints stay", error)
            self._problem = str(error)

    def _wrote(self) -> None:
        name, store = self._under_way, self._stores[self._under_way]
        self._written[name] = (self._position_under_way, time.monotonic())
        self.stands_at[name] = self._position_under_way
        self._problem = ""
        if self._mirror is not None:
            self._mirror.offer(store, self._position_under_way)
        self._metrics.set("checkpoint_timestamp_seconds", time.time())
        if name != BOOK:
            self.size(name).measured(store.pickled_bytes)
            self._size_is_new = name
            self._metrics.set("checkpoint_seconds", self._writer.took_s)
            self._metrics.set("checkpoint_bytes", store.size(self._position_under_way))

    def _header(self, kept: Kept) -> dict[str, Any]:
        head = {
            "app": self._config.app.id,
            "what": "book" if kept.model is None else "model",
            "halted_at": None,
            "log": {
                "id": self._facts.log.log_id,
                "hash_key": self._facts.log.hash_key,
                "partition": 0,
                "partitions": 1,
                "topic_id": self._facts.training_log_topic_id,
            },
            "last_digest": kept.replica.book.last_digest,
            "created_at": time.time_ns() // 1_000_000,
            "cost": self._cost.state(),
        }
        if kept.model is None:
            return {**head, "quality": kept.replica.watch.quality.report()}
        spec = self._recipes[kept.name].spec
        learned, commanded = kept.model.examples_learned, list(kept.model.freezing.commanded)
        digest = digest_of(spec)
        return {**head, "spec": spec, "spec_sha256": digest, "examples_learned": learned, "commanded": commanded}


def _mirror(config: Config) -> Mirror | None:
    """What keeps checkpoints in a bucket too, where the configuration names one."""
    bucket = config.checkpoints.bucket
    if bucket is None:
        return None
    return Mirror(Bucket(bucket), config.path(config.checkpoints.directory), wait_s=bucket.wait / 1000)

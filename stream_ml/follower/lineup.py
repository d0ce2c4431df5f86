"""The models that one process has ready, and those that are on their way there.

::

    wanted ──► chasing ──────────────► at the head ──► (retired) dropped
                  ▲                         │
                  └── corrupted, or its halt ended: a successor from a checkpoint

One that chases has a reader and a book of its own, and joins the head where both are at one position. A successor
answers while it chases: it is an older version, which the log gives.
"""

import logging
import time
from collections.abc import Callable, Iterator

from confluent_kafka import KafkaException

from stream_ml.app.parts import Parts
from stream_ml.core.fold.book import Book
from stream_ml.core.fold.halt import Refold
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.fold.replica import Replica
from stream_ml.core.log.seals import LogSeal
from stream_ml.errors import ConfigError, StreamMLError
from stream_ml.follower.checkpointing import Checkpointing
from stream_ml.follower.cost import Cost
from stream_ml.follower.recipes import Recipe, Recipes
from stream_ml.follower.restore import check_begins_at_0, check_last_entry
from stream_ml.follower.track import Slices, Track
from stream_ml.runtime.failpoints import passes

AGAIN_S = 30.0  # until a model that could not be had is tried again: its store, a key or Kafka may be there by then
PACE_S = 0.3  # from then on the pace of one that chases says how long it will take

log = logging.getLogger(__name__)


class Chase(Track):
    """A model that is behind, with a book of its own; `was_ready`: it is the successor of one at the head."""

    def __init__(
        self,
        parts: Parts,
        replica: Replica,
        seal: LogSeal | None,
        cost: Cost,
        slices: Slices,
        *,
        was_ready: bool,
    ) -> None:
        super().__init__(parts.config, replica, seal, cost, slices)
        self.was_ready = was_ready
        self.began_s, self.began_at = time.monotonic(), replica.book.position
        self.first_end = 0

    @property
    def model(self) -> LineageModel:
        """The one model."""
        return self.replica.only

    def left_s(self, end: int) -> float | None:
        """Seconds until it is where the log ends, at its pace so far and the log's; None where that is not known."""
        took_s, self.first_end = time.monotonic() - self.began_s, self.first_end or end
        gained = self.replica.read_position - self.began_at - (end - self.first_end)
        if gained <= 0 or took_s < PACE_S:
            return None
        return max(0.0, end - self.replica.read_position) * took_s / gained


class Lineup:
    """Models at the head of the log, and behind it; one thread only.

    Attributes
    ----------
    chasing
        By lineage.
    unbuildable
        By lineage that is wanted: why this process cannot have it.
    answers
        The lineage that answered last.
    builds
        Whether the configuration's model is wanted, whoever serves.

    So many attributes: what a model is made from and where it goes are given by the follower, once.
    """

    def __init__(
        self,
        parts: Parts,
        head: Replica,
        recipes: Recipes,
        checkpoints: Checkpointing,
        cost: Cost,
        seal: LogSeal | None,
        keep_alive: Callable[[], None],
        slices: Slices,
    ) -> None:
        self._parts, self._recipes, self._checkpoints, self._cost = parts, recipes, checkpoints, cost
        self._seal, self._keep_alive, self._slices = seal, keep_alive, slices
        self.head = head
        self.chasing: dict[str, Chase] = {}
        self.unbuildable: dict[str, str] = {}
        self._again_s: dict[str, float] = {}  # when it is tried again (monotonic clock)
        self.answers, self.builds = "", False

    # --- which ones ---

    @property
    def wanted(self) -> list[str]:
        """Lineages that are to be ready: who serves first, then standbys, the newest first."""
        roles, config = self.head.book.facts.roles, self._parts.config
        if not roles.table.lineage:
            return [self._recipes.own.lineage]
        table, own = roles.table.lineage, self._recipes.own.lineage
        standbys = [one.lineage for one in roles.standbys if one.lineage != own][: config.models.standbys_max]
        known = roles.declared.get(own)
        if own != table and (self.builds or table in self.unbuildable or (known is not None and known.standby)):
            standbys.insert(0, own)
        return [table, *standbys]

    def look_after(self) -> None:
        """Begin what is wanted, drop what is not, make anew what has to be, let join what is at the head."""
        wanted = self.wanted
        for lineage in wanted:
            there = lineage in self.head.models or lineage in self.chasing
            if not there and time.monotonic() >= self._again_s.get(lineage, 0.0):
                self._begin(lineage)
        for lineage in [one for one in self.chasing if one not in wanted and not self.chasing[one].was_ready]:
            self._drop(lineage)
        for lineage, model in list(self.head.models.items()):
            if model.is_to_be_remade and lineage not in self.chasing:
                if model.corrupted:
                    del self.head.models[lineage]
                self._succeed_or_do_without(model)
            elif lineage not in wanted and len(self.head.models) > 1 and lineage != self.answers:
                del self.head.models[lineage]
                log.info("model %s is not wanted any more: dropped at %d", lineage, model.position)
        for chase in list(self.chasing.values()):
            if chase.model.is_to_be_remade:
                self._drop(chase.model.settings.lineage)
                self._succeed_or_do_without(chase.model, was_ready=chase.was_ready)
        self._join()

    def _begin(self, lineage: str) -> None:
        recipe = self._recipes.of(lineage, self.head.book.facts.roles.declared.get(lineage))
        try:
            if isinstance(recipe, str):
                raise ConfigError(recipe)
            self._checkpoints.know(recipe)
            self._chase(self._restored(recipe, None), was_ready=False)
        except (StreamMLError, KafkaException) as error:
            if lineage == self._recipes.own.lineage and not self.head.models:
                raise
            self._missing(lineage, str(getattr(error, "message", error)))
        else:
            self.unbuildable.pop(lineage, None)

    def _missing(self, lineage: str, why: str) -> None:
        """Do without a model for a while, and say why."""
        if self.unbuildable.get(lineage) != why:
            log.error("model %s cannot be had here: %s", lineage, why)
        self.unbuildable[lineage] = why
        self._again_s[lineage] = time.monotonic() + AGAIN_S

    def _succeed_or_do_without(self, old: LineageModel, *, was_ready: bool = True) -> None:
        """Put a successor on the way; where there can be none the worker goes on without, if it has another model."""
        try:
            self._succeed(old, was_ready=was_ready)
        except (StreamMLError, KafkaException) as error:
            lineage = old.settings.lineage
            self.head.models.pop(lineage, None)
            if not self.head.models and not self.chasing:
                raise
            self._missing(lineage, str(getattr(error, "message", error)))

    def _restored(self, recipe: Recipe, at_most: int | None) -> Replica:
        """A model from a checkpoint, with its book, or a new one with a new book."""

        def check(replica: Replica) -> None:
            check_last_entry(self._parts.config, replica, self._seal, self._keep_alive)

        settings = self._recipes.fresh(recipe)
        found = self._checkpoints.restored_model(recipe._replace(settings=settings), at_most, check)
        if found is None:
            check_begins_at_0(self._parts.config, recipe.lineage)
            found = Replica(settings, Book(settings), None, LineageModel(settings))
        return found

    def _chase(self, replica: Replica, *, was_ready: bool) -> None:
        if replica.book.position == self.head.book.position and not self.head.interrupted:
            self.head.join(replica.only)
            return
        chase = Chase(self._parts, replica, self._seal, self._cost, self._slices, was_ready=was_ready)
        self.chasing[replica.settings.lineage] = chase

    def _succeed(self, old: LineageModel, *, was_ready: bool = True) -> None:
        """Put a successor on the way, from a checkpoint before the halt."""
        halt, lineage = old.halt, old.settings.lineage
        assert halt is not None  # noqa: S101 - it is to be remade
        recipe = self._recipes.of(lineage, self.head.book.facts.roles.declared.get(lineage))
        assert isinstance(recipe, Recipe)  # noqa: S101 - it was built
        if halt.corrupted:
            said = "model %s is corrupted at %d (%s): folding again from a checkpoint before it"
            log.warning(said, lineage, halt.position, halt.message)
        else:
            log.info("halt at %d of %s ended: folding again from a checkpoint before it", halt.position, lineage)
        restored = self._restored(recipe, halt.position)
        model = old.successor(restored.only)
        if model is not restored.only:
            check_begins_at_0(self._parts.config, lineage)
            settings = self._recipes.fresh(recipe)
            restored = Replica(settings, Book(settings), None, model)
        overrides = restored.book.halts.overrides
        restored.book.halts.overrides = self.head.book.halts.overrides.handed_on()
        restored.book.halts.overrides.restore(overrides.state())
        self._chase(restored, was_ready=was_ready)

    def _drop(self, lineage: str) -> None:
        self.chasing.pop(lineage).close()

    def _join(self) -> None:
        for lineage, chase in list(self.chasing.items()):
            if chase.replica.book.position == self.head.book.position and not chase.model.is_to_be_remade:
                passes("model-joins")
                chase.model.recovered()
                self.head.join(chase.model)
                self._drop(lineage)
                log.info("model %s has caught up with the log at %d", lineage, self.head.book.position)

    # --- in the turns ---

    @property
    def limit(self) -> int | None:
        """Where the head has to stop for a model that is ahead of it; None where none is.

        While the book is halted it reads on: its command may stand behind that model, which it meets when it goes back.
        """
        if self.head.book.halt is not None:
            return None
        ahead = [chase.replica.book.position for chase in self.chasing.values()]
        return min((at for at in ahead if at > self.head.book.position), default=None)

    @property
    def is_behind(self) -> bool:
        """Whether a model has something to fold."""
        return any(chase.replica.read_position < self.head.read_position for chase in self.chasing.values())

    def step(self) -> bool:
        """Fold a chunk of each that chases, up to where the head is; whether there was anything to do."""
        worked = False
        for chase in list(self.chasing.values()):
            if chase.replica.read_position < self.head.read_position:
                result = chase.step(0.0, self.head.read_position)
                if isinstance(result, Refold):
                    chase.go_back()
                worked = worked or result is not None
        return worked

    # --- who answers ---

    @property
    def may_answer(self) -> bool:
        """Whether one is ready that may answer now: who serves; the one before, while that one learns the whole log;
        any, where who serves cannot be had here."""
        models, lineage = self.head.models, self.wanted[0]
        if lineage in models:
            return True
        if lineage in self.unbuildable:
            return bool(models)
        chase = self.chasing.get(lineage)
        return chase is not None and not chase.began_at and self.head.book.facts.roles.table.before in models

    def answering(self) -> tuple[LineageModel, bool]:
        """The model that answers now, and whether the table names another one."""
        lineage = self.wanted[0]
        for name in (lineage, self.answers, self.head.book.facts.roles.table.before, self._recipes.own.lineage):
            model = self._ready(name)
            if model is not None:
                break
        else:
            model = next(self._any())
        left, self.answers = self.answers, model.settings.lineage
        if left not in ("", self.answers) and self.answers == lineage:
            self._checkpoints.pin_left(left, self.head.book.facts.roles.table.epoch)
        return model, self.answers != lineage

    def _ready(self, lineage: str) -> LineageModel | None:
        chase = self.chasing.get(lineage)
        model = self.head.models.get(lineage)
        if model is None and chase is not None and chase.was_ready and not chase.model.corrupted:
            model = (
                chase.model if chase.model.position or not self.head.models else None
            )  # rather another than a cold one
        return model

    def _any(self) -> Iterator[LineageModel]:
        """Whatever there is, the one that has learned most first: better than no answer."""
        found = [*self.head.models.values(), *(chase.model for chase in self.chasing.values())]
        yield from sorted(found, key=lambda model: (model.corrupted, -model.position))

    @property
    def replicas(self) -> list[Replica]:
        """All that may be kept in checkpoints."""
        return [self.head, *(chase.replica for chase in self.chasing.values())]

    def close(self) -> None:
        """Let go of all readers."""
        for lineage in list(self.chasing):
            self._drop(lineage)

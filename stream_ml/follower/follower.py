"""Follows the training log: reads and folds in slices, keeps models ready, writes checkpoints.

Whoever wants the models of now has one: a worker, which lets it fold between its own steps. Read first: `start`,
`turn`.
"""

import logging
import math
import time
from collections.abc import Callable

from confluent_kafka import KafkaException

from stream_ml.app.parts import Parts
from stream_ml.core.fold.book import Book
from stream_ml.core.fold.halt import Folded, FoldResult, Halt, Halted, Refold, Remake
from stream_ml.core.fold.replica import Replica
from stream_ml.core.fold.watch import Watch
from stream_ml.core.log.seals import LogSeal
from stream_ml.core.partition.serving import Serving
from stream_ml.errors import ConfigError, FatalError
from stream_ml.follower.checkpointing import Checkpointing
from stream_ml.follower.cost import Cost
from stream_ml.follower.lineup import Lineup
from stream_ml.follower.memory_policy import obey_policy
from stream_ml.follower.recipes import Recipes
from stream_ml.follower.restore import check_begins_at_0, check_last_entry, log_range
from stream_ml.follower.said import HaltsTold, folded_words
from stream_ml.follower.takeover import NEAR_S, TakeOver
from stream_ml.follower.track import BETWEEN_ANSWERS, BETWEEN_TURNS, CHUNK_S, Track
from stream_ml.kafka.errors import said_of
from stream_ml.kafka.topics import TopicFacts
from stream_ml.observe.metrics import Metrics
from stream_ml.observe.status import Folding

REPORT_S = 2.0  # between two lines that say how far a long fold is
START_WAIT_S = 60.0  # for the log's end at start; a dead worker's transaction holds it for 10 s at most
CHASE_S = 0.05  # of a turn, for models that are behind: events that come meanwhile wait so long
TOLD_MAX = 3  # models whose findings are told: a partition's state remembers so many beside the watch

log = logging.getLogger(__name__)


class Follower:
    """The head of the log with the models that are ready, those behind it, and their checkpoints; one thread only.

    Parameters
    ----------
    keep_alive
        Is called again and again while a long fold goes on.
    seal
        Tells which entries are to be believed; None: all are.
    builds
        Whether it is here for the configuration's model, whoever serves.
    reads_only
        Whether it writes nothing, neither commands nor checkpoints, and does little at once: others wait for answers.

    Attributes
    ----------
    folding
        How far a long fold is; None while there is none.

    So many attributes: it makes the parts of a follower, and calls them in their order.
    """

    def __init__(
        self,
        parts: Parts,
        facts: TopicFacts,
        metrics: Metrics,
        keep_alive: Callable[[], None],
        seal: LogSeal | None,
        *,
        builds: bool = False,
        reads_only: bool = False,
    ) -> None:
        self._parts, self.keep_alive, self.seal = parts, keep_alive, seal
        self._builds, self._reads_only = builds, reads_only
        self._slices = BETWEEN_ANSWERS if reads_only else BETWEEN_TURNS
        self.recipes = Recipes(parts, facts, seal)
        self._settings = self.recipes.own.settings
        self.cost = Cost()
        self.checkpoints = Checkpointing(parts, facts, self.recipes.own, self.cost, metrics, reads_only=reads_only)
        self.take_over = TakeOver(parts.config, self.recipes.own, seal)
        self._head: Track | None = None
        self._follow(Replica(self._settings, Book(self._settings), Watch(self._settings)))
        self._at_end_s = time.monotonic()
        self._told = HaltsTold(parts.config.training_log_topic)
        self._started = False
        self.folding: Folding | None = None

    def _follow(self, replica: Replica) -> None:
        self.replica = replica
        made_from = (self._parts, replica, self.recipes, self.checkpoints, self.cost, self.seal, self.keep_alive)
        self.lineup = Lineup(*made_from, self._slices)
        self.lineup.builds = self._builds
        self.take_over.serves, self.take_over.proposes = not self._builds, not self._reads_only

    # --- start ---

    def start(self, stop: Callable[[], bool] = lambda: False, interval_s: float = 60.0) -> None:
        """Load the newest checkpoints that are right, fold to the log's end as it is now, until a model can answer.

        A long fold writes checkpoints on the way, so what it has done is kept whatever ends it.

        Raises
        ------
        ConfigError
            There is no usable checkpoint and the log no longer begins at 0: the model cannot be rebuilt.
        """
        if not self._reads_only:
            self.recipes.keep_own()
        self.checkpoints.waits = lambda: not (self.keep_alive() or stop())
        self._follow(self._restored())
        self._head = Track(self._parts.config, self.replica, self.seal, self.cost, self._slices)
        self.fold_past_end(stop=stop, interval_s=interval_s, until_ready=True)
        until_s = time.monotonic() + NEAR_S
        while not stop() and time.monotonic() < until_s and self.take_over.is_near(self.lineup):
            self.turn(CHASE_S)
            self.take_over.look(self.lineup)
        if not stop():
            model, _ = self.lineup.answering()
            log.info("model ready: version %s/%d, %d examples learned", *model.version, model.examples_learned)
            self._started = True
        self.checkpoints.waits = None

    def _restored(self) -> Replica:
        """Book and watch from their newest checkpoint, else new ones; where the log has lost its beginning, the
        book that the own model follows, with a new watch."""

        def check(replica: Replica) -> None:
            check_last_entry(self._parts.config, replica, self.seal, self.keep_alive)

        found = self.checkpoints.restored_book(self._settings, check)
        if found is not None:
            return found
        try:
            check_begins_at_0(self._parts.config, self.recipes.own.lineage)
            book = Book(self._settings)
        except ConfigError:
            of_model = self.checkpoints.restored_model(self.recipes.own, None, check)
            if of_model is None:
                raise
            book = of_model.book
            log.warning("quality and drift begin anew at %d: the log does not hold what was before", book.position)
        return Replica(self._settings, book, Watch(self._settings))

    def fold_past_end(
        self,
        end: int | None = None,
        *,
        stall_max_s: float = START_WAIT_S,
        most_s: float = math.inf,
        stop: Callable[[], bool] = lambda: False,
        interval_s: float = math.inf,
        until_ready: bool = False,
    ) -> None:
        """Fold everything that the log holds now, open transactions that end meanwhile included.

        Parameters
        ----------
        end
            Of the log, where it is known already.
        most_s
            For at most so long; what is left the next process folds.
        stop
            Says whether to give up.
        interval_s
            Between two checkpoints on the way.
        until_ready
            Go on until a model is there that can answer.

        Raises
        ------
        FatalError
            Nothing came for `stall_max_s` before that end; a restart tries again.
        """
        topic = self._parts.config.training_log_topic
        end = log_range(self._parts.config)[1] if end is None else end
        began_s = reported_s = time.monotonic()
        deadline = began_s + stall_max_s
        if until_ready:
            self.lineup.look_after()
        self._say_how_far(end)
        while not stop() and not (self.is_past(end) and (not until_ready or self._may_answer())):
            before = self._read_upto()
            self._step(0.2 if not self.lineup.chasing else 0.01)
            if until_ready and not self.checkpoints.holds:
                self.lineup.step()
                self.lineup.look_after()
            self.keep_alive()
            self._say_how_far(end)
            if time.monotonic() - began_s > most_s:
                break
            if interval_s < math.inf:
                self.checkpoint_if_due(interval_s)
            if time.monotonic() - reported_s > REPORT_S:
                reported_s = time.monotonic()
                assert self.folding is not None  # noqa: S101
                log.info("%s", folded_words(self.folding))
            if self._read_upto() != before or self.checkpoints.holds:
                deadline = time.monotonic() + stall_max_s
            elif time.monotonic() > deadline:
                raise FatalError(
                    f"{topic} cannot be read to its end {end}: stuck at {min(before)}",
                    "a transaction that nobody ends may hold it: kafka-transactions.sh find-hanging",
                )
        self.folding = None

    def _may_answer(self) -> bool:
        """Whether a model is there that can answer, and nothing more is to be declared before the group is joined."""
        self.take_over.at_start(self.lineup)
        return self.lineup.may_answer

    def _read_upto(self) -> list[int]:
        return [replica.read_position for replica in self.lineup.replicas]

    def _say_how_far(self, end: int) -> None:
        """What a status says of a long fold: how far the head is, or the model that will answer."""
        chase = next(iter(self.lineup.chasing.values()), None)
        left_s = None
        position = self.replica.read_position
        if chase is not None and self.is_past(end):
            position, left_s = chase.replica.read_position, chase.left_s(end)
        self.folding = {"position": position, "end": end, "left_seconds": left_s}

    def how_far(self, lineage: str) -> str:
        """How far a model is that is behind, in words."""
        chase, end = self.lineup.chasing.get(lineage), self.replica.read_position
        if chase is None:
            return f"model {lineage} is waited for: the log is read up to {end:,}"
        return folded_words({"position": chase.replica.read_position, "end": end, "left_seconds": chase.left_s(end)})

    def is_past(self, end: int) -> bool:
        """Whether everything before this end of the log is folded."""
        assert self._head is not None  # noqa: S101
        return self._head.is_past(end)

    # --- in the loop ---

    def turn(self, budget_s: float) -> None:
        """Fold what is committed, for at most this long; models that are behind get a share of it."""
        deadline = time.monotonic() + budget_s
        while self._step(0.0) and time.monotonic() < deadline:
            pass
        self.lineup.look_after()
        if self.lineup.chasing:
            self._chase(budget_s, deadline)
        self._told.look(self.replica)  # a model that joined may have brought its halt, and nothing follows in the log

    def _chase(self, budget_s: float, deadline: float) -> None:
        """Let those that are behind come on: in the time that is left, or a share of it where the head needs it all."""
        now_s, share_s = time.monotonic(), self._parts.config.models.background_share * budget_s
        until_s = now_s + max(share_s, min(deadline - now_s, CHASE_S))
        while not self.checkpoints.holds and self.lineup.step() and time.monotonic() < until_s:
            self.lineup.look_after()
        self.lineup.look_after()

    def turn_during_commit(self, budget_s: float, most: int | None) -> None:
        """Fold while a transaction is being committed; what is behind waits for the next `turn`.

        Parameters
        ----------
        most
            So many entries or a few more; None: what the time allows.
        """
        deadline, began = time.monotonic() + budget_s, self.replica.read_position
        while self._step(0.0) and time.monotonic() < deadline:
            if most is not None and self.replica.read_position - began >= most:
                break

    @property
    def chases(self) -> bool:
        """Whether a model is behind, or has to be made anew."""
        return bool(self.lineup.chasing) or any(model.is_to_be_remade for model in self.replica.models.values())

    @property
    def book(self) -> Book:
        """What the log says, up to its head."""
        return self.replica.book

    @property
    def watch(self) -> Watch:
        """Quality and drift of what was served."""
        return self.replica.watch

    @property
    def halt(self) -> Halt | None:
        """Where learning is halted: of the book, or of the model that answers; None where it is not."""
        return self.book.halt or self.lineup.answering()[0].halt

    @property
    def behind(self) -> bool:
        """Whether there is something at hand to be folded: at the head, or by a model that is behind it."""
        return self._head is not None and (self._head.behind or self.lineup.is_behind)

    @property
    def held_s(self) -> float | None:
        """For how long an open transaction has held back the log's newest entries; None where none does."""
        return None if self._head is None else self._head.reader.held_s

    @property
    def serving(self) -> Serving:
        """Who answers now."""
        model, superseded = self.lineup.answering()
        others = [other for other in self.replica.models.values() if other is not model]
        book = self.replica.book
        return Serving(
            model=model,
            book=book,
            watch=self.replica.watch,
            epoch=book.facts.roles.table.epoch,
            superseded=superseded,
            told=[model, *others][:TOLD_MAX],
            ready=self._ready,
        )

    @property
    def _ready(self) -> list[tuple[str, int]]:
        """Models at the head that are not halted, as the table and the standbys have them."""
        found = [self.replica.models.get(lineage) for lineage in self.lineup.wanted]
        return [(one.settings.lineage, one.position) for one in found if one is not None and one.halt is None]

    @property
    def lag_s(self) -> float:
        """How far learning of the model that answers is behind the log, in seconds; 0: it has learned all of it."""
        chase = self.lineup.chasing.get(self.lineup.answers)
        answers_behind = chase is not None and self.lineup.answers not in self.replica.models
        written_at_ms = (chase.replica if chase is not None and answers_behind else self.replica).book.written_at_ms
        behind = time.time() - written_at_ms / 1000
        if answers_behind:
            return max(0.0, behind)
        return max(0.0, min(time.monotonic() - self._at_end_s, behind))

    def _step(self, wait_s: float) -> bool:
        """Fold a chunk at the head; whether there was one."""
        head = self._head
        assert head is not None  # noqa: S101
        if self.checkpoints.holds:
            self.checkpoints.write_on(CHUNK_S)
            return True
        result = head.step(wait_s, self.lineup.limit)
        if result is not None:
            self._after(result)
        if head.at_end:
            self._at_end_s = time.monotonic()
        return result is not None

    def _after(self, result: FoldResult) -> None:
        """Do what follows from folding: read again where a halt has ended, log new ones."""
        match result:
            case Refold():
                log.info("halt at %d ended: folding again from there", result.position)
                assert self._head is not None  # noqa: S101
                self._head.go_back()
            case Halted():
                self._told.of_book(result.halt)
            case Folded() | Remake():
                pass
        self._told.look(self.replica)

    # --- checkpoints ---

    def checkpoint_if_due(self, interval_s: float) -> bool:
        """Write checkpoints when the last ones are old enough; whether one was begun."""
        large = self.checkpoints.too_large()
        if large:
            answers, model = large == self.lineup.answers, self.replica.models.get(large)
            frozen = model is None or model.frozen
            size, config = self.checkpoints.size(large), self._parts.config
            obey_policy(config, size, large, self.seal, answers=answers, frozen=frozen)
        return self.checkpoints.write_if_due(self.lineup.replicas, interval_s)

    def finish(self, stall_max_s: float, checkpoint_max_s: float) -> None:
        """Fold what is committed and write checkpoints, as far as that goes so quickly; close the consumers."""
        until_s = time.monotonic() + checkpoint_max_s
        if self._head is None:
            return
        if any(replica.interrupted for replica in self.lineup.replicas):
            log.warning("interrupted in the middle of the fold: no checkpoint is written, the next start folds again")
            self.close()
            return
        self.checkpoints.write_until(self.lineup.replicas, until_s)  # those under way first: nearer to their end
        try:
            if self._started:  # one that was told to stop in a long fold has not committed anything
                self.fold_past_end(stall_max_s=stall_max_s, most_s=stall_max_s)
        except (FatalError, KafkaException) as error:
            log.warning("not everything was folded at the end: %s", said_of(error))
        if not self.checkpoints.busy:
            self.checkpoints.begin(self.lineup.replicas)
        if not self.checkpoints.write_until(self.lineup.replicas, until_s):
            self.checkpoints.leave(self.lineup.replicas, checkpoint_max_s)
        self.checkpoints.close(max(0.0, until_s - time.monotonic()))
        self.close()

    def close(self) -> None:
        """Close the consumers."""
        if self._head is not None:
            self._head.close()
            self.lineup.close()

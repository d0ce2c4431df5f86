"""A whole follower over a list instead of Kafka. What reads and writes the training log is replaced, nothing else."""

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from stream_ml.app.assemble import assemble
from stream_ml.config import Config, load_config
from stream_ml.core.fold.book import Book
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.fold.replica import Replica
from stream_ml.core.fold.roles import Roles
from stream_ml.core.fold.watch import Watch
from stream_ml.core.log.entry import decode_entry, encode_command, encode_genesis, encode_start
from stream_ml.core.log.identity import LogIdentity
from stream_ml.core.log.seals import LogSeal
from stream_ml.errors import CheckpointError
from stream_ml.follower import follower, lineup, memory_policy, recipes, restore, takeover, track
from stream_ml.follower.follower import Follower
from stream_ml.follower.recipes import Recipe, Recipes, declaration
from stream_ml.follower.takeover import serve_arguments
from stream_ml.follower.track import BETWEEN_TURNS
from stream_ml.kafka.topics import TopicFacts
from stream_ml.observe.metrics import Metrics
from stream_ml.records import LogRecord
from tests.core.fold.test_fold import Driver
from tests.core.fold.test_models_side_by_side import bits, drive, kept
from tests.support.partition import EVENT, EVENTS, FEEDBACK, NOW_MS, PREDICTIONS, _truth, example

LOG_ID = "1" * 32
FACTS = TopicFacts(1, "topic-id", 1_000_000, log=LogIdentity(LOG_ID, "a" * 32))
STALL_MAX_S = 10.0  # a start that is stuck fails after so long
SLOW = BETWEEN_TURNS._replace(chunk_s=1e-9)  # of a model so slow that each chunk has the fewest examples

LINEAR = {"factory": "river.linear_model:LogisticRegression"}
RIDGE = {"factory": "river.linear_model:LogisticRegression", "name": "ridge", "params": {"l2": 0.1}}
BAYES = {"factory": "river.naive_bayes:GaussianNB"}
BRITTLE = {"factory": "tests.core.fold.test_fold:Brittle", "checkpoint_types": ["tests.core.fold.test_fold.Brittle"]}


class Log:
    """The training log.

    Attributes
    ----------
    first
        Its first offset; later than 0 once older entries are gone.
    written
        Names and arguments of the commands that followers wrote.
    """

    def __init__(self) -> None:
        self.values = [
            encode_genesis(LOG_ID, "a" * 32, "app", written_at_ms=NOW_MS, writer="app-w1"),
            encode_start(0, 0, 0, written_at_ms=NOW_MS, writer="app-w1"),
        ]
        self.first = 0
        self.written: list[tuple[str, dict[str, Any]]] = []
        self._sequence = 0

    @property
    def end(self) -> int:
        return len(self.values)

    @property
    def records(self) -> list[LogRecord]:
        return [LogRecord(offset, value) for offset, value in enumerate(self.values)]

    @property
    def roles(self) -> Roles:
        """Who serves, and which models there are, by all that it holds."""
        found = Roles()
        for offset, value in enumerate(self.values):
            found.note(offset, decode_entry(value), LOG_ID)
        return found

    # --- what tests put there ---

    def add(self, *values: bytes) -> int:
        """Append these; the offset of the first."""
        at = self.end
        self.values += values
        return at

    def example(self, x: float, *, missing: int = 0) -> int:
        """Append an example, of which so many before it are missing; its offset."""
        self._sequence += missing + 1
        return self.add(example(self._sequence - 1, x, x > 0))

    def usual(self, count: int) -> int:
        """Append so many examples in which there is nothing to say; the offset of the first."""
        at = self.end
        for _ in range(count):
            self.example(float(self._sequence % 7 - 3))
        return at

    def command(self, command: str, /, **arguments: Any) -> int:
        """Append a command of an operator; its offset."""
        return self.add(encode_command(command, arguments, written_at_ms=NOW_MS, writer="operator"))

    # --- in the place of Kafka ---

    def range(self, _: Config) -> tuple[int, int]:
        return self.first, self.end

    def check_last_entry(self, _: Config, replica: Replica, *__: Any) -> None:
        position = replica.book.position
        digests = [sha256(value).hexdigest() for value in self.values[max(0, position - 1) : position]]
        if position and digests != [replica.book.last_digest]:
            raise CheckpointError(f"the training log holds another entry before {position} than the checkpoint folded")

    def write(self, _: Config, command: str, arguments: dict[str, Any], seal: LogSeal | None, *, writer: str) -> int:
        assert seal is None
        self.written.append((command, arguments))
        return self.add(encode_command(command, arguments, written_at_ms=NOW_MS, writer=writer))

    def arguments_at(self, _: Config, position: int, __: LogSeal | None) -> dict[str, Any]:
        return decode_entry(self.values[position]).parsed_arguments()


class ListReader:
    """Reads the list as `LogReader` reads the log; nobody has to wait for what is there."""

    def __init__(self, log: Log, position: int) -> None:
        self._log, self.position, self.end_seen, self.held_s = log, position, -1, None

    @property
    def at_end(self) -> bool:
        return self.end_seen >= self.position

    def seek(self, position: int) -> None:
        self.position, self.end_seen = position, -1

    def take(self, most: int, wait_s: float) -> list[LogRecord]:
        stop = min(self._log.end, self.position + most)
        found = [LogRecord(offset, self._log.values[offset]) for offset in range(self.position, stop)]
        self.position = stop
        if stop == self._log.end:
            self.end_seen = stop
        return found

    def close(self) -> None:
        pass


@contextlib.contextmanager
def on_a_list() -> Iterator[Log]:
    """A new log, which all followers read and write that are made meanwhile.

    What waits is made quick: a command that was not read back is written again at once, a model that could not be
    had is tried again at once, and a start that is stuck ends soon.
    """
    log, defaults = Log(), Follower.fold_past_end.__kwdefaults__
    assert defaults is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(track, "LogReader", lambda _, position, seal: ListReader(log, position))
        for module in (follower, restore):
            patch.setattr(module, "log_range", log.range)
        for reading in (follower, lineup):
            patch.setattr(reading, "check_last_entry", log.check_last_entry)
        for writing in (takeover, memory_policy):
            patch.setattr(writing, "write_command", log.write)
        patch.setattr(recipes, "declaration_at", log.arguments_at)
        patch.setattr(takeover, "AGAIN_S", 0.0)
        patch.setattr(lineup, "AGAIN_S", 0.0)
        patch.setattr(follower, "BETWEEN_TURNS", SLOW)
        patch.setitem(defaults, "stall_max_s", STALL_MAX_S)
        yield log


class App:
    """The app of `tests.support.partition` in a folder: its configurations differ in the model."""

    def __init__(self, folder: Path, log: Log) -> None:
        self.folder, self.log = folder, log
        self._numbers = itertools.count()
        for name, schema in (("visit", EVENT), ("truth", _truth("binary"))):
            (folder / f"{name}.avsc").write_text(json.dumps(schema), "utf-8")

    def config(
        self,
        model: dict[str, Any],
        *,
        serve: dict[str, Any] | None = None,
        features: dict[str, Any] | None = None,
        **models: Any,
    ) -> Config:
        """A configuration with this model; `models`, `serve` and `features` are the sections of that name."""
        content = {
            "app": {"id": "app"},
            "worker": {"instance": "w1"},
            "kafka": {"bootstrap_servers": "unused:9092"},
            "events": {"topic": EVENTS, "schema": "visit.avsc", "id": "id", "time": "t"},
            "feedback": {
                "topic": FEEDBACK,
                "schema": "truth.avsc",
                "id": "id",
                "time": "t",
                "label": "y",
                "ttl": "1h",
            },
            "predictions": {"topic": PREDICTIONS},
            "model": {"task": "binary", **model},
            "models": models,
            "serve": serve or {},
            "features": features or {},
        }
        file = self.folder / f"app{next(self._numbers)}.yaml"
        file.write_text(json.dumps(content), "utf-8")
        return load_config(file)

    def follower(self, config: Config, *, builds: bool = False, reads_only: bool = False) -> Follower:
        """A follower that has not started."""
        parts, metrics = assemble(config), Metrics()
        return Follower(parts, FACTS, metrics, lambda: None, None, builds=builds, reads_only=reads_only)

    def started(self, config: Config, *, builds: bool = False) -> Follower:
        """A follower that has."""
        found = self.follower(config, builds=builds)
        found.start()
        return found

    def recipe(self, config: Config) -> Recipe:
        """What its model is made from; it is in the model store from now on."""
        found = Recipes(assemble(config), FACTS)
        found.keep_own()
        return found.own

    # --- commands ---

    def declare(self, config: Config, **changes: Any) -> str:
        """Let an operator declare its model, with these arguments changed; the lineage."""
        recipe = self.recipe(config)
        said = declaration(recipe, config, name=str(next(self._numbers)))
        self.log.command("declare", **said | changes)
        return recipe.lineage

    def serve(self, lineage: str) -> int:
        """Let an operator put this model in the place of the one that serves; the command's offset."""
        return self.log.command("serve", **serve_arguments(lineage, self.log.roles.table.epoch, "operator"))

    def retire(self, lineage: str) -> int:
        """Let an operator retire this model; the command's offset."""
        return self.log.command("retire", lineage=lineage, epoch=self.log.roles.table.epoch)

    def serving(self, config: Config) -> str:
        """Let an operator declare a model and put it in place; the lineage."""
        lineage = self.declare(config)
        self.serve(lineage)
        return lineage

    def forget_checkpoints(self, name: str, after: int = -1) -> None:
        """Remove the checkpoints of this lineage, or of the book, that are later than `after`."""
        for file in (self.folder / "checkpoints" / name).glob("*.ckpt"):
            if int(file.stem) > after:
                file.unlink()


# --- drive ---


def turn_until(worker: Follower, done: Callable[[], bool], turns: int = 2_000) -> None:
    """Give it the shortest turns until something is so."""
    for _ in range(turns):
        if done():
            return
        worker.turn(0.0)
    raise AssertionError(f"not within {turns:,} turns; {worker.lineup.chasing=}, {worker.lineup.unbuildable=}")


def settle(worker: Follower, log: Log) -> Follower:
    """Fold all that there is, until no model is behind."""
    worker.turn(0.0)
    turn_until(worker, lambda: worker.is_past(log.end) and not worker.chases)
    return worker


def write_checkpoints(worker: Follower) -> None:
    """Write one of everything that has moved."""
    replicas, until_s = worker.lineup.replicas, time.monotonic() + 30
    assert worker.checkpoints.write_until(replicas, until_s)  # what is under way comes first
    worker.checkpoints.begin(replicas)
    assert worker.checkpoints.write_until(replicas, until_s)


def end_at_once(worker: Follower) -> None:
    """End it as `kill -9` does: nothing more is written."""
    worker.checkpoints.leave([], 0.0)


# --- what has to come out ---


def alone(log: Log, recipe: Recipe) -> LineageModel:
    """The model of a replica that has it alone, folded from 0."""
    return Driver(log.records, lambda: recipe.settings._replace(payloads=recipe.parts.new_payloads())).run(50).only


def book_alone(log: Log, recipe: Recipe) -> Replica:
    """Book and watch without any model, folded from 0."""
    settings = recipe.settings._replace(payloads=recipe.parts.new_payloads())
    found = Replica(settings, Book(settings), Watch(settings))
    drive(found, log.records, 50)
    return found


def assert_as_from_0(worker: Follower, log: Log, *recipes_here: Recipe) -> None:
    """Book, watch and these models are those of folds from 0."""
    book = book_alone(log, worker.recipes.own)
    assert kept(worker.replica) == kept(book)
    assert worker.book.facts.roles.table == book.book.facts.roles.table == log.roles.table
    for recipe in recipes_here:
        assert bits(worker.replica.models[recipe.lineage]) == bits(alone(log, recipe)), recipe.name

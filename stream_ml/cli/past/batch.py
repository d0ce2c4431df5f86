"""One work of ``stream-ml predict``: files, or ranges of the events' topic, into a file, a topic or a database."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stream_ml.cli.past.progress import Progress
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.errors import ConfigError, FatalError

if TYPE_CHECKING:
    from stream_ml.app.parts import Parts
    from stream_ml.core.fold.lineage_model import LineageModel
    from stream_ml.offline.batch.scoring import BatchScorer, Piece
    from stream_ml.offline.batch.sinks import Sink

TOPIC = "topic:"  # how an --out begins that names a topic
Ranges = Mapping[int, tuple[int, int]]


class Work(NamedTuple):
    """Rows that are scored by one version.

    Parameters
    ----------
    files, ranges
        Files, or offsets of the events' topic by partition.
    key
        By which ranges are asked for: a later process goes on with those that were found first.
    replaces
        Whether a file with its result is to go, once the new one is whole.
    """

    files: Sequence[Path]
    ranges: Ranges
    key: str = ""
    replaces: bool = False

    def names(self, topic: str) -> list[str]:
        """By which rows are told, in the order in which they are scored."""
        return [path.name for path in self.files] or [f"{topic}[{number}]" for number in self.ranges]


class Target(NamedTuple):
    """Where predictions go, and by which version.

    Parameters
    ----------
    out
        As --out has it; `table` is of a database.
    at
        Model or version as typed; None: what serves now.
    """

    out: str
    table: str = "predictions"
    at: str | None = None

    @property
    def shown(self) -> str:
        """In words: an address may hold a password."""
        if self.out.startswith(TOPIC):
            return f"the topic {self.out.removeprefix(TOPIC)}"
        return f"the table {self.table}" if "://" in self.out else self.out

    @property
    def is_file(self) -> bool:
        """Whether each work needs a name of its own."""
        return not self.out.startswith(TOPIC) and "://" not in self.out


class Scored(NamedTuple):
    """What was done; `refused_file` has the rows that could not be used."""

    rows: int
    predictions: int
    refused: int
    version: str
    seconds: float
    out: str
    refused_file: Path
    left_out: Sequence[str]
    examples_learned: int = 1
    why: str = ""

    def plain(self) -> dict[str, object]:
        """As JSON values."""
        of = ("rows", "predictions", "refused", "version", "seconds", "out")
        return {name: getattr(self, name) for name in of}

    def words(self) -> str:
        """For people; a line for each thing to know."""
        said = f"{self.predictions:,} predictions of {self.rows:,} rows by {self.version} in {self.seconds:.1f} s"
        lines = [f"{said}: {self.out}"]
        if not self.examples_learned:
            lines.append("this model has learned nothing: its answers say nothing either")
        if self.refused:
            first = f"; the first one: {self.why}" if self.why else ""
            lines.append(f"{self.refused:,} rows could not be used: {self.refused_file}{first}")
        if self.left_out:
            lines.append(f"columns that are no field of the event: {', '.join(self.left_out[:20])}")
        return "\n".join(lines)


def score(
    config: Config,
    work: Work,
    target: Target,
    progress: Progress,
    keep_on: Callable[[], bool] = lambda: True,
) -> Scored | None:
    """Score all of it, or go on with it; None where it was to stop before its end.

    Raises
    ------
    ConfigError
        A file, the target or the version is not what it has to be.
    FatalError
        The target cannot be written any more.
    """
    from stream_ml.offline.batch.scoring import BatchScorer

    began_s = time.monotonic()
    work, parts, model, sink = _opened(config, work, target)
    scorer, why = BatchScorer(parts, model), ""
    try:
        if sink.done.rows:
            say(f"going on: {sink.done.rows:,} rows are scored already", err=True)
        if sink.problem:
            say(sink.problem, err=True)
        for name, piece in _pieces(config, scorer, work, sink.done.upto):
            sink.take(name, piece)
            if piece.refused and not why:
                why = piece.refused[0].why
            progress(f"{name}: {sink.done.rows:,} rows, {sink.done.refused:,} refused", None)
            if not keep_on():
                return None
        sink.finish()
    except OSError as error:
        raise FatalError(
            f"{target.shown} could not be written: {error.strerror or type(error).__name__}",
            "make room or grant the rights, then the same command goes on",
        ) from error
    finally:
        sink.close()
    done, (lineage, position) = sink.done, model.version
    return Scored(
        rows=done.rows,
        predictions=done.predictions,
        refused=done.refused,
        version=f"{lineage}/{position}",
        seconds=round(time.monotonic() - began_s, 1),
        out=target.shown,
        refused_file=sink.refused_file,
        left_out=sorted(scorer.left_out),
        examples_learned=model.examples_learned,
        why=why,
    )


def between(first: Mapping[int, int], stop: Mapping[int, int]) -> dict[int, tuple[int, int]]:
    """Ranges of the partitions in which there is something."""
    return {number: (first[number], end) for number, end in sorted(stop.items()) if first[number] < end}


def _opened(config: Config, work: Work, target: Target) -> "tuple[Work, Parts, LineageModel, Sink]":
    """Model and sink; a work that was begun goes on with the version, and the offsets, with which it was."""
    from stream_ml.offline.batch.sinks import FileSink, TableSink, asked_of, begun, work_of

    asked = asked_of(work.files, work.key, target.at)
    name = hashlib.sha256(json.dumps([target.out, target.table, asked]).encode()).hexdigest()[:16]
    if target.out.startswith(TOPIC):
        return _to_topic(config, work, target, name)
    if not target.is_file:
        parts, model = _model(config, target.at)
        refused_file = Path(f"{target.table}.{name[:8]}.refused.jsonl")
        return work, parts, model, TableSink(target.out, target.table, refused_file)
    out, at = Path(target.out), target.at
    said = begun(out)
    if said is not None and said["asked"] == asked:
        ranges = {int(number): (first, stop) for number, (first, stop) in said["ranges"].items()}
        work, at = work._replace(ranges=ranges), said["version"]
    parts, model = _model(config, at)
    version = "/".join(map(str, model.version))
    return work, parts, model, FileSink(out, work_of(asked, version, work.ranges), replaces=work.replaces)


def _to_topic(config: Config, work: Work, target: Target, name: str) -> "tuple[Work, Parts, LineageModel, Sink]":
    from stream_ml.kafka.writing.progress import ProgressWriter
    from stream_ml.offline.batch.topic import TopicSink

    topic = target.out.removeprefix(TOPIC)
    writer = ProgressWriter(config, topic, name)
    try:
        said = writer.progress
        if "left" in said:
            work = work._replace(ranges={number: (first, stop) for number, first, stop in said["left"]})
        parts, model = _model(config, said.get("version") or target.at)
        of = (topic, "/".join(map(str, model.version)), Path(f"{topic}.{name[:8]}.refused.jsonl"))
        sink = TopicSink(writer, parts.predictions, *of, work.names(config.events.topic), work.ranges)
        return work, parts, model, sink
    except BaseException:
        writer.close()
        raise


def _pieces(
    config: Config, scorer: "BatchScorer", work: Work, done: Mapping[str, int]
) -> "Iterator[tuple[str, Piece]]":
    """All rows that are not done, a piece at a time, with the name of where they come from."""
    from stream_ml.kafka.reading.ranges import read_range
    from stream_ml.records import Records

    for path in work.files:
        for piece in scorer.score_file(path, done.get(path.name, 0)):
            yield path.name, piece
    topic = config.events.topic
    for number, (first, stop) in work.ranges.items():
        name = f"{topic}[{number}]"
        begins = max(first, done.get(name, first))
        for batch in read_range(config, topic, number, begins, stop, keep_alive=lambda: None):
            yield name, scorer.score_records(Records.of(topic, number, batch))


def _model(config: Config, at: str | None) -> "tuple[Parts, LineageModel]":
    """The model that is asked for, with the parts of its app."""
    from stream_ml.admin.models.log import ModelLog
    from stream_ml.app.assemble import assemble
    from stream_ml.cli.run import fix_hash_seed
    from stream_ml.follower.past.derive import model_at
    from stream_ml.follower.past.logged_models import version_of
    from stream_ml.follower.recipes import Recipes, built

    name, position = version_of(at) if at is not None else (None, None)
    log = ModelLog(config)
    fix_hash_seed(log.facts.log)
    recipes = Recipes(assemble(config), log.facts, log.seal)
    if name is None and not log.roles.table.lineage:
        recipe = recipes.own
    elif name is not None and not log.roles.declared and recipes.own.lineage.startswith(name):
        recipe = recipes.own  # the version that this verb has named before the first worker came
    else:
        recipe = built(recipes, log.named(log.roles.table.lineage if name is None else name))
    derived = model_at(recipe, recipes.fresh(recipe), log.facts, position, log.seal)
    return recipe.parts, derived.model


def checked_files(files: Sequence[Path]) -> None:
    """Raise ConfigError where a file is none, or two have one name."""
    from stream_ml.offline.rows import kind_of

    for path in files:
        kind_of(path)
    names = [path.name for path in files]
    if len(set(names)) < len(names):
        raise ConfigError("two files have the same name, by which rows are told", "rename one of them")

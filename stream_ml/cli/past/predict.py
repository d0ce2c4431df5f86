"""``stream-ml predict``: files scored by the model, or by any version of it."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_ml.cli.options import configured
from stream_ml.cli.past.progress import Progress
from stream_ml.cli.past.times import time_of
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.errors import ConfigError, FatalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream_ml.app.parts import Parts
    from stream_ml.core.fold.lineage_model import LineageModel
    from stream_ml.offline.batch.scoring import BatchScorer, Piece
    from stream_ml.offline.batch.sinks import Sink


@configured
def predict(
    config: Config,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE...]", help="Parquet, CSV, JSON lines or Avro; none: events of the topic."),
    ] = None,
    out: Annotated[
        str, typer.Option(help="predictions.parquet, predictions.jsonl, or a database: postgresql://..., sqlite:///...")
    ] = "predictions.parquet",
    from_: Annotated[
        str | None, typer.Option("--from", help="Of the topic: events that came at this time or later.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Of the topic: events that came before this time.")] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="NAME[/POSITION]", help="Model or version; default: what serves now, as the log ends."),
    ] = None,
    table: Annotated[str, typer.Option(help="Of a database.")] = "predictions",
    as_json: Annotated[bool, typer.Option("--json", help="What was done, as one JSON object.")] = False,
) -> None:
    """Score files, or events of the topic: exactly what the service would predict, by one version of its model.

    Nothing is written to Kafka, and nothing is learned. Rows that the schema refuses go into a file beside the result,
    with their reason. A file is there whole or not at all; the same command goes on where it was ended.
    """
    from stream_ml.offline.batch.scoring import BatchScorer
    from stream_ml.offline.batch.sinks import FileSink, TableSink, version_begun, work_of
    from stream_ml.offline.rows import kind_of

    if bool(files) is (from_ is not None or to is not None):
        raise ConfigError("name files, or events of the topic by both --from and --to", "stream-ml predict CONFIG FILE")
    for path in files or []:
        kind_of(path)
    names = [path.name for path in files or []]
    if len(set(names)) < len(names):
        raise ConfigError("two files have the same name, by which rows are told", "rename one of them")
    ranges = {} if files else _ranges(config, time_of(from_, "--from"), time_of(to, "--to"))
    began_s, is_table = time.monotonic(), "://" in out
    shown = f"the table {table}" if is_table else out  # an address may hold a password
    parts, model = _model(config, at or (None if is_table else version_begun(Path(out))))
    version = f"{model.settings.lineage}/{model.position}"
    sink: Sink
    if is_table:
        sink = TableSink(out, table, Path(f"{table}.refused.jsonl"))
    else:
        sink = FileSink(Path(out), work_of(files or [], version, ranges))
    if sink.done.rows:
        say(f"going on: {sum(sink.done.rows.values()):,} rows are scored already", err=True)
    scorer, progress = BatchScorer(parts, model), Progress()
    try:
        for name, piece in _pieces(config, scorer, files or [], ranges, sink.done.rows):
            sink.take(name, piece)
            progress(f"{name}: {sum(sink.done.rows.values()):,} rows, {sink.done.refused:,} refused", None)
        sink.finish()
    except OSError as error:
        raise FatalError(
            f"{shown} could not be written: {error.strerror or type(error).__name__}",
            "make room or grant the rights, then the same command goes on",
        ) from error
    done, took_s = sink.done, time.monotonic() - began_s
    said = {
        "rows": sum(done.rows.values()),
        "predictions": done.predictions,
        "refused": done.refused,
        "version": version,
        "seconds": round(took_s, 1),
        "out": shown,
    }
    if as_json:
        say(json.dumps(said))
        return
    say(f"{done.predictions:,} predictions of {said['rows']:,} rows by {version} in {took_s:.1f} s: {said['out']}")
    if done.refused:
        say(f"{done.refused:,} rows could not be used: {sink.refused_file}")
    if scorer.left_out:
        say(f"columns that are no field of the event: {', '.join(sorted(scorer.left_out)[:20])}")


def _ranges(config: Config, from_ms: int | None, to_ms: int | None) -> dict[int, tuple[int, int]]:
    """First offset and stop of each partition of the events between two times.

    Raises
    ------
    ConfigError
        One of the times is missing; or no event came between them, or they are gone.
    """
    from stream_ml.kafka.clients import admin
    from stream_ml.kafka.reading.ends import since
    from stream_ml.kafka.reading.newest import partitions_of

    if from_ms is None or to_ms is None:
        raise ConfigError("events of the topic are named by --from and --to", "give both")
    topic = config.events.topic
    where = partitions_of(config, topic)
    first, stop = (since(admin(config), where, ms) for ms in (from_ms, to_ms))
    found = {number: (first[topic, number][0], stop[topic, number][0]) for _, number in where}
    if all(begin >= end for begin, end in found.values()):
        raise ConfigError(f"no event of {topic} came between --from and --to, or none is kept any more")
    return found


def _pieces(
    config: Config,
    scorer: "BatchScorer",
    files: list[Path],
    ranges: dict[int, tuple[int, int]],
    done: dict[str, int],
) -> "Iterator[tuple[str, Piece]]":
    """All rows that are not done, a piece at a time, with the name of where they come from."""
    from stream_ml.kafka.reading.ranges import read_range
    from stream_ml.records import Records

    for path in files:
        for piece in scorer.score_file(path, done.get(path.name, 0)):
            yield path.name, piece
    topic = config.events.topic
    for number, (first, stop) in ranges.items():
        name, read = f"{topic}[{number}]", 0
        skipped = done.get(name, 0)
        for batch in read_range(config, topic, number, first, stop, keep_alive=lambda: None):
            left = batch[max(0, skipped - read) :]
            read += len(batch)
            if left:
                yield name, scorer.score_records(Records.of(topic, number, left))


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

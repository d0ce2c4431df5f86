"""``stream-ml predict``: files scored by the model, or by any version of it."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_ml.cli.options import configured
from stream_ml.cli.past.progress import Progress
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.errors import ConfigError, FatalError

if TYPE_CHECKING:
    from stream_ml.app.parts import Parts
    from stream_ml.core.fold.lineage_model import LineageModel
    from stream_ml.offline.batch.sinks import Sink


@configured
def predict(
    config: Config,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Parquet, CSV, JSON lines or Avro.")],
    out: Annotated[
        str, typer.Option(help="predictions.parquet, predictions.jsonl, or a database: postgresql://..., sqlite:///...")
    ],
    at: Annotated[
        str | None,
        typer.Option(metavar="NAME[/POSITION]", help="Model or version; default: what serves now, as the log ends."),
    ] = None,
    table: Annotated[str, typer.Option(help="Of a database.")] = "predictions",
    as_json: Annotated[bool, typer.Option("--json", help="What was done, as one JSON object.")] = False,
) -> None:
    """Score files: exactly the predictions that the service would give for these events by one version of its model.

    Nothing is written to Kafka, and nothing is learned. Rows that the schema refuses go into a file beside the result,
    with their reason. A file is there whole or not at all; the same command goes on where it was ended.
    """
    from stream_ml.offline.batch.scoring import BatchScorer
    from stream_ml.offline.batch.sinks import FileSink, TableSink, version_begun, work_of
    from stream_ml.offline.rows import kind_of

    for path in files:
        kind_of(path)
    names = [path.name for path in files]
    if len(set(names)) < len(names):
        raise ConfigError("two files have the same name, by which rows are told", "rename one of them")
    began_s, is_table = time.monotonic(), "://" in out
    shown = f"the table {table}" if is_table else out  # an address may hold a password
    parts, model = _model(config, at or (None if is_table else version_begun(Path(out))))
    version = f"{model.settings.lineage}/{model.position}"
    sink: Sink
    if is_table:
        sink = TableSink(out, table, Path(f"{table}.refused.jsonl"))
    else:
        sink = FileSink(Path(out), work_of(files, version))
    if sink.done.rows:
        say(f"going on: {sum(sink.done.rows.values()):,} rows are scored already", err=True)
    scorer, progress = BatchScorer(parts, model), Progress()
    try:
        for path in files:
            for piece in scorer.score_file(path, sink.done.rows.get(path.name, 0)):
                sink.take(path.name, piece)
                rows = sum(sink.done.rows.values())
                progress(f"{path.name}: {rows:,} rows, {sink.done.refused:,} refused", None)
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

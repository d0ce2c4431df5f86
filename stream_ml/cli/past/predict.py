"""``stream-ml predict``: files scored by the model, or by any version of it; once, or by a schedule."""

import json
from pathlib import Path
from typing import Annotated

import typer

from stream_ml.cli.options import configured
from stream_ml.cli.past.batch import TOPIC, Target, Work, between, checked_files, score
from stream_ml.cli.past.progress import Progress
from stream_ml.cli.past.times import time_of
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.errors import ConfigError


@configured
def predict(
    config: Config,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="Parquet, CSV, JSON lines or Avro; none: events of the topic. With --schedule patterns, in quotes.",
        ),
    ] = None,
    out: Annotated[
        str,
        typer.Option(
            help="predictions.parquet, predictions.jsonl, topic:NAME, or a database: postgresql://..., sqlite:///..."
        ),
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
    schedule: Annotated[
        str | None,
        typer.Option(
            metavar="CRON",
            help="'0 3 * * *': run on, and score at these times what has come since: files, or events from --from on.",
        ),
    ] = None,
    zone: Annotated[str, typer.Option(help="Of the schedule, such as Europe/Berlin.")] = "UTC",
    as_json: Annotated[bool, typer.Option("--json", help="What was done, as one JSON object.")] = False,
) -> None:
    """Score files, or events of the topic: exactly what the service would predict, by one version of its model.

    Nothing is learned, and nothing is written to the app's own topics. Rows that the schema refuses go into a file
    beside the result, with their reason. A file is there whole or not at all; the same command goes on where it was
    ended.
    """
    target = Target(out, table, at)
    if out == TOPIC:
        raise ConfigError("--out topic: names no topic", f"--out {TOPIC}NAME")
    if schedule is not None:
        from stream_ml.cli.past.schedule import run_scheduled

        begins_ms = time_of(from_, "--from")
        if to is not None or bool(files) is (begins_ms is not None):
            raise ConfigError(
                "a schedule scores files, or events from --from on", "name patterns of files, or --from alone"
            )
        run_scheduled(config, files or [], begins_ms, target, schedule, zone, as_json=as_json)
        return
    if bool(files) is (from_ is not None or to is not None):
        raise ConfigError(
            "name files, or events of the topic by both --from and --to",
            "stream-ml predict CONFIG FILE; from time to time: --schedule",
        )
    paths = [Path(file) for file in files or []]
    for path in paths:
        if not path.exists() and set("*?[") & set(path.name):
            raise ConfigError(f"{path} is no file", "patterns go with --schedule; without it the shell knows them")
    checked_files(paths)
    work = Work(paths, {}) if paths else _events(config, time_of(from_, "--from"), time_of(to, "--to"))
    done = score(config, work, target, Progress())
    assert done is not None  # noqa: S101 - nobody told it to stop
    say(json.dumps(done.plain()) if as_json else done.words())
    if done.refused and not done.predictions:
        raise typer.Exit(1)  # nothing of it could be used: whoever automates it has to know


def _events(config: Config, from_ms: int | None, to_ms: int | None) -> Work:
    if from_ms is None or to_ms is None:
        raise ConfigError("events of the topic are named by --from and --to", "give both")
    if from_ms >= to_ms:
        raise ConfigError("--to does not lie behind --from", "exchange them")
    from stream_ml.kafka.reading.newest import offsets_since

    topic = config.events.topic
    found = between(offsets_since(config, topic, from_ms), offsets_since(config, topic, to_ms))
    if not found:
        raise ConfigError(
            f"no event of {config.events.topic} came between --from and --to, or none is kept any more",
            "the times are Kafka's, of when records came: stream-ml tail CONFIG events shows them",
        )
    return Work([], found, key=f"{from_ms}:{to_ms}")

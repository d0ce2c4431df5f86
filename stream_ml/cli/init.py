"""``stream-ml init``: the files of a new app, from answers or flags."""

import json
import re
import sys
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from stream_ml.cli.say import say
from stream_ml.errors import ConfigError
from stream_ml.records import Framing
from stream_ml.units import duration_ms

if TYPE_CHECKING:
    from stream_ml.cli.scaffold import Answers, Side
    from stream_ml.core.avro.schema import Schema


def init(
    directory: Annotated[Path, typer.Argument(help="Where the files go; made where it is missing.")],
    app: Annotated[str | None, typer.Option(help="Name of the app: group id and prefix of its topics.")] = None,
    kafka: Annotated[str | None, typer.Option(help="Bootstrap servers, for example localhost:9092.")] = None,
    events: Annotated[str | None, typer.Option(help="Topic of events.")] = None,
    feedback: Annotated[str | None, typer.Option(help="Topic of labels.")] = None,
    predictions: Annotated[str | None, typer.Option(help="Topic for predictions.")] = None,
    task: Annotated[str | None, typer.Option(help="binary, multiclass or regression.")] = None,
    ttl: Annotated[str | None, typer.Option(help="How long after its event a label may come, for example 2d.")] = None,
    event_schema: Annotated[Path | None, typer.Option(help="Avro schema of events that you have (.avsc).")] = None,
    label_schema: Annotated[Path | None, typer.Option(help="Avro schema of labels that you have (.avsc).")] = None,
    framing: Annotated[str, typer.Option(help="Of schemas that you have: bare, confluent or single-object.")] = "bare",
    event_schema_id: Annotated[int | None, typer.Option(help="Confluent framing: the id of events' schema.")] = None,
    label_schema_id: Annotated[int | None, typer.Option(help="Confluent framing: the id of labels' schema.")] = None,
    from_topic: Annotated[
        bool, typer.Option("--from-topic", help="Look at records of the topic of events, and propose a schema.")
    ] = False,
) -> None:
    """Write stream_ml.yaml, model.py, schemas, sample records and a README of ten lines. Asks what no flag says."""
    from stream_ml.cli.scaffold import TODO, Answers, Task, files
    from stream_ml.config.section import NAME

    if directory.is_file():
        raise ConfigError(f"{directory} is a file: name a folder")
    name = _ask(app, "Name of the app", directory.resolve().name or "app")
    answers = Answers(
        app=name,
        servers=_ask(kafka, "Kafka's bootstrap servers", "localhost:9092"),
        events=_ask(events, "Topic of events", f"{name}-events"),
        feedback=_ask(feedback, "Topic of labels", f"{name}-labels"),
        predictions=_ask(predictions, "Topic for predictions", f"{name}-predictions"),
        task=_ask(task, f"Task ({', '.join(get_args(Task))})", "binary"),  # type: ignore[arg-type]
        ttl=_ask(ttl, "How long after its event a label may come", "2d"),
        schema_ids=(event_schema_id, label_schema_id),
    )
    for what in (answers.app, answers.events, answers.feedback, answers.predictions):
        if not re.fullmatch(NAME, what):
            raise ConfigError(
                f"{what!r} is no name for an app or a topic",
                "letters, digits, dots, dashes, underscores, a letter or digit first: --app, --events, ...",
            )
    if answers.task not in get_args(Task):
        raise ConfigError(f"{answers.task} is no task", f"write {', '.join(get_args(Task))}")
    _check_answers(answers, framing, (event_schema, label_schema))
    sides = _sides(answers, event_schema, label_schema, framing, directory=directory, from_topic=from_topic)
    made = files(answers, *sides, samples=event_schema is None and label_schema is None and not from_topic)
    taken = [file for file in made if (directory / file).exists()]
    if taken:
        raise ConfigError(f"{', '.join(taken)} in {directory} would be overwritten", "name an empty directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file, text in made.items():
            (directory / file).write_text(text, "utf-8")
            say(f"wrote {directory / file}")
    except OSError as error:
        raise ConfigError(f"{directory} cannot be made: {error.strerror}", "name another folder") from error
    if TODO in made["stream_ml.yaml"]:
        say("\nwhat the schemas do not say stands as TODO in stream_ml.yaml: name it")
    say(f"\nnext: cd {directory} and look into README.md")


def _check_answers(answers: "Answers", framing: str, schemas: tuple[Path | None, Path | None]) -> None:
    """Refuse what `check` would refuse, before a file is written."""
    if framing not in get_args(Framing):
        raise ConfigError(f"{framing} is no framing", f"--framing: {', '.join(get_args(Framing))}")
    for file, number, flag in zip(schemas, answers.schema_ids, ("event", "label"), strict=True):
        if framing == "confluent" and file is not None and number is None:
            raise ConfigError(f"Confluent framing names schemas by an id: give --{flag}-schema-id")
    try:
        duration_ms(answers.ttl)
    except ValueError as error:
        raise ConfigError(f"--ttl: {error}") from None
    if not answers.servers.strip():
        raise ConfigError("--kafka is empty", "for example localhost:9092")
    uses = {"events": answers.events, "feedback": answers.feedback, "predictions": answers.predictions}
    for one, other in combinations(uses, 2):
        if uses[one] == uses[other]:
            raise ConfigError(f"topic {uses[one]} is named for {one} and for {other}: give each a topic of its own")


def _ask(given: str | None, question: str, default: str) -> str:
    if given is not None:
        return given
    return str(typer.prompt(question, default=default)) if sys.stdin.isatty() else default


def _sides(
    answers: "Answers",
    event_schema: Path | None,
    label_schema: Path | None,
    framing: str,
    *,
    directory: Path,
    from_topic: bool,
) -> "tuple[Side, Side]":
    from stream_ml.cli.scaffold import sides_of
    from stream_ml.core.avro.schema import Schema, load_schema

    def schema_of(file: Path | None) -> tuple[Schema, str] | None:
        if file is None:
            return None
        try:
            text = file.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file} is no text: {error.reason}", "name a schema in JSON (.avsc)") from None
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
        return load_schema(text, where=str(file)), text

    events = schema_of(event_schema)
    if from_topic and events is None:
        events, framing = _proposed(answers, directory), "bare"
    return sides_of(events, schema_of(label_schema), answers.task, framing)


def _proposed(answers: "Answers", directory: Path) -> "tuple[Schema, str]":
    from stream_ml.admin.infer_schema import propose
    from stream_ml.config import Config
    from stream_ml.core.avro.schema import load_schema

    anything: dict[str, Any] = {"schema": directory, "id": "key"}
    clients: dict[str, Any] = {  # only the address is used
        "app": {"id": answers.app},
        "kafka": {"bootstrap_servers": answers.servers},
        "events": {**anything, "topic": answers.events},
        "feedback": {**anything, "topic": answers.feedback, "label": "label", "ttl": answers.ttl},
        "predictions": {"topic": answers.predictions},
        "model": {"factory": "model:build", "task": answers.task},
    }
    config = Config(**clients)
    seen = propose(config, answers.events)
    say(f"{answers.events}: {seen.records} records looked at: {seen.looks}")
    if seen.schema is None:
        raise ConfigError(
            f"the records of {answers.events} name or need a schema that only their producer has",
            "give it: stream-ml init --event-schema FILE --framing ...",
        )
    text = json.dumps(seen.schema, indent=2) + "\n"
    say("these are JSON, and the service reads Avro: event.avsc is a proposal for the producer, to be looked over")
    return load_schema(text, where=answers.events), text

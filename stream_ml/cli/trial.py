"""``stream-ml produce``, ``play`` and ``try``: give the service records, or see what would become of one."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

import typer

from stream_ml.cli.options import configured
from stream_ml.cli.say import say
from stream_ml.config import Config, Source
from stream_ml.errors import ConfigError, TransientError

if TYPE_CHECKING:
    from stream_ml.admin.produce import Timed
    from stream_ml.core.avro.framing import Payloads
    from stream_ml.kafka.topics import TopicFacts

What = Annotated[Literal["events", "feedback"], typer.Argument(help="events or feedback.")]


@contextlib.contextmanager
def _lines(file: str) -> Iterator[IO[str]]:
    if file == "-":
        yield sys.stdin
        return
    try:
        with Path(file).open(encoding="utf-8", errors="surrogateescape") as opened:
            yield opened
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error


def _numbered(opened: IO[str]) -> Iterator[tuple[int, str]]:
    """Lines and their numbers; ConfigError names the one that is no text."""
    for number, text in enumerate(opened, 1):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:  # what could not be decoded
            raise ConfigError(f"line {number}: is no UTF-8") from None
        yield number, text


@configured
def produce(
    config: Config,
    what: What,
    file: Annotated[str, typer.Argument(help="A file with one JSON object a line; - for standard input.")],
    rate: Annotated[float | None, typer.Option(help="Records a second at most.", min=0.001)] = None,
    partitioner: Annotated[
        str | None, typer.Option(help="murmur2_random hashes keys as Java's clients do; both topics need the same.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="With events: a file of labels; both are written in the order of their times.")
    ] = None,
) -> None:
    """Write JSON lines into the topic of events or feedback, as Avro by its schema and framing.

    History is loaded with both files at once (--labels): events that are loaded alone move time on, and their labels
    find them expired.
    """
    from stream_ml.admin.produce import Line, Written, by_time, encoded_at
    from stream_ml.admin.produce import produce as write
    from stream_ml.app.assemble import payloads_of
    from stream_ml.core.inputs.rows import RowEncoder

    if labels is not None and what != "events":
        raise ConfigError("--labels goes with events", "type stream-ml produce CONFIG events EVENTS --labels LABELS")
    source = config.events if what == "events" else config.feedback
    hashed = config.client_properties("producer") | ({"partitioner": partitioner} if partitioner else {})
    config = config.model_copy(update={"kafka": config.kafka.model_copy(update={"producer": hashed})})
    if labels is not None:
        both = (
            timed(config.events, payloads_of(config, config.events), "events", file),
            timed(config.feedback, payloads_of(config, config.feedback), "feedback", labels),
        )
        topics = f"{config.events.topic} and {config.feedback.topic}"
        say(f"{write(config, topics, by_time(*both), rate):,} records written to {topics}, in the order of their times")
        return
    rows = RowEncoder(source, payloads_of(config, source), what)
    with _lines(file) as opened:
        lines = (Line(number, text) for number, text in _numbered(opened) if text.strip())
        records = (Written(source.topic, *encoded_at(rows, line)) for line in lines)
        count = write(config, source.topic, records, rate)
    say(f"{count:,} records written to {source.topic}")


@configured
def play(
    config: Config,
    events: Annotated[str, typer.Argument(help="A file of events, one JSON object a line.")],
    labels: Annotated[str, typer.Argument(help="A file of labels, one JSON object a line.")],
    step: Annotated[int, typer.Option(help="Events at a time, at most.", min=1)] = 20,
) -> None:
    """Write events and labels in the order of their times, each step after the worker has taken the one before."""
    from stream_ml.admin.play import Played, play_all
    from stream_ml.app.assemble import payloads_of

    def played(source: Source, file: str, what: str) -> list[Played]:
        found = timed(source, payloads_of(config, source), what, file)
        return sorted(
            (Played(time_ms, record.topic, record.key, record.value) for time_ms, record in found),
            key=lambda one: one.time_ms,
        )

    both = (played(config.events, events, "events"), played(config.feedback, labels, "feedback"))
    done = play_all(config, *both, step)
    say(f"{done[0]:,} events and {done[1]:,} labels played; stream-ml top --once shows what was learned")


def timed(source: Source, payloads: "Payloads", what: str, file: str) -> "Iterator[Timed]":
    """The records that the lines of a file describe, with their times; 0 where one has none."""
    from stream_ml.admin.produce import Line, Written, encoded_at
    from stream_ml.core.avro.fields import composed, find_field, getter, time_ms_of
    from stream_ml.core.inputs.rows import RowEncoder

    rows, time_of = RowEncoder(source, payloads, what), None
    if source.time != "record":
        field = find_field(payloads.reader, source.time, where=f"{what}.time")
        time_of = composed(getter(field), time_ms_of(field, where=f"{what}.time"))
    with _lines(file) as opened:
        for number, text in _numbered(opened):
            if text.strip():
                key, value, timestamp_ms = encoded_at(rows, Line(number, text))
                decoded = payloads.decode_one(value)[1]
                time_ms = timestamp_ms if time_of is None else time_of(decoded) if isinstance(decoded, dict) else 0
                yield time_ms or 0, Written(source.topic, key, value, timestamp_ms)


@configured
def attempt(
    config: Config,
    record: Annotated[str, typer.Argument(help="The record as JSON; - for standard input.")],
    feedback: Annotated[bool, typer.Option("--feedback", help="It is a label, not an event.")] = False,
) -> None:
    """Say what would become of a record, without writing anything: fields, features, prediction, or why not."""
    from stream_ml.admin.produce import Line, encoded
    from stream_ml.app.assemble import assemble
    from stream_ml.core.inputs.rows import RowEncoder
    from stream_ml.records import Record

    facts = _facts(config)
    parts = assemble(config)
    text = sys.stdin.read() if record == "-" else record
    source, reader = (config.feedback, parts.feedback) if feedback else (config.events, parts.reader)
    rows = RowEncoder(source, reader.payloads, "feedback" if feedback else "events")
    key, value = encoded(rows, Line(1, text))
    now_ms = time.time_ns() // 1_000_000
    found = reader.decode_one(Record(source.topic, 0, 0, now_ms, key, value), now_ms)
    say(json.dumps(_judged(parts, found, facts), indent=2, default=str))


def _facts(config: Config) -> "TopicFacts | None":
    """What the topics say, the identity of the log included; None where nobody tells it."""
    from stream_ml.cli.run import fix_hash_seed
    from stream_ml.follower.identity import identified
    from stream_ml.kafka.topics import inspect_topics

    try:
        facts = identified(config, inspect_topics(config), make=False)
    except (ConfigError, TransientError):
        return None
    fix_hash_seed(facts.log)
    return facts


def _judged(parts: Any, found: Any, facts: "TopicFacts | None") -> dict[str, Any]:
    from stream_ml.core.fold.lineage_model import LineageModel
    from stream_ml.core.model.estimator import ModelFailed
    from stream_ml.follower.restore import newest_model
    from stream_ml.records import DeadLetter, Label

    if isinstance(found, DeadLetter):
        return {"becomes": "dead letter", "reason": found.reason, "message": found.message}
    if isinstance(found, Label):
        target = found.target.class_name if found.target.class_name is not None else found.target.value
        return {"becomes": "label", "event_id": found.event_id, "time_ms": found.time_ms, "label": target}
    model = newest_model(parts, facts) if facts else LineageModel(parts.fold_settings(""))
    head = {"event_id": found.event_id, "time_ms": found.time_ms, "features": found.features}
    try:
        scored = model.model.score_one(found.features)
    except ModelFailed as error:
        return {"becomes": "dead letter", "reason": "model_refused", "message": f"the model raised {error}", **head}
    by = f"{model.version.lineage}/{model.position}" if model.position else "an untrained model"
    said = {"class": scored.class_name, "score": scored.score, "scores": scored.scores, "value": scored.value}
    flags = [name for name, is_set in (("cold", scored.cold), ("imputed", found.imputed)) if is_set]
    prediction = {name: value for name, value in said.items() if value is not None}
    return {
        "becomes": "prediction",
        **head,
        "prediction": prediction,
        "flags": flags,
        "scored_by": by,
        "carried": found.carried,
    }

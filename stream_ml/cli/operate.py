"""The verbs of operators: topics, offsets, schemas, and commands to every replica."""

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_ml.cli.options import configured
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.errors import ConfigError

if TYPE_CHECKING:
    from stream_ml.app.parts import Parts
    from stream_ml.core.log.logged_schemas import WrittenSchema

topics = typer.Typer(no_args_is_help=True, help="The topics that the service needs.")
offsets = typer.Typer(no_args_is_help=True, help="Where each partition goes on.")
schema = typer.Typer(no_args_is_help=True, help="Avro schemas of what the service writes.")

Anyway = Annotated[bool, typer.Option("--anyway", help="Write it although nothing says that learning halts there.")]
Later = Annotated[
    bool, typer.Option("--later", help="Also an entry that looks like a later version's: you know that none wrote it.")
]
Model = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Only this model, by its name or lineage; else all.")
]
Position = Annotated[int, typer.Argument(help="Position in the training log where learning halted.", min=0)]


@topics.command("create")
@configured
def create(
    config: Config,
    partitions: Annotated[
        int, typer.Option(help="Of topics that are partitioned, where events is missing.", min=1)
    ] = 4,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Make the topics that are missing; what exists is left as it is."""
    from stream_ml.follower.identity import identity
    from stream_ml.kafka.clients import admin
    from stream_ml.kafka.topics import create_topics, topic_ids

    for line in create_topics(config, partitions, dry_run=dry_run):
        say(line)
    if not dry_run:
        topic = config.training_log_topic
        identity(config, topic_ids(admin(config), [topic])[topic], make=True)
    say(f"{config.training_log_topic} is kept for ever: stream-ml check CONFIG --labels RATE says how fast it grows")


@topics.command("grow")
@configured
def grow(
    config: Config,
    partitions: Annotated[
        int | None, typer.Option(help="How many each gets; default: as many as the one has that has most.", min=1)
    ] = None,
) -> None:
    """Give events and all topics that go with it more partitions; running workers take them up by themselves.

    The partition of a key changes with their number: a label that is produced after the change does not meet an event
    that was produced before it, unless its partition is the same.
    """
    from stream_ml.kafka.topics import grow_topics

    for line in grow_topics(config, partitions):
        say(line)


@offsets.command("show")
@configured
def show(config: Config) -> None:
    """Committed positions of each partition beside what its topics hold."""
    from stream_ml.admin.continuation import continuation
    from stream_ml.admin.observer import Observer
    from stream_ml.kafka.topics import inspect_topics
    from stream_ml.storage.keys import log_seal

    lost, facts = False, inspect_topics(config)
    seal = log_seal(config, facts.training_log_topic_id)
    say("partition  events (of first-end)      feedback (of first-end)    next sequence  writer")
    for shown in Observer(config, facts.partitions).shown():
        pair, metadata = shown.pair, shown.pair.metadata
        columns = [
            f"{pair.partition:<10}",
            f"{_position(pair.events, shown.events):<26}",
            f"{_position(pair.feedback, shown.feedback):<26}",
            f"{metadata.next_sequence if metadata else '-':<14}",
            metadata.writer if metadata else "- (no state of this service)",
        ]
        say(" ".join(columns))
        if metadata is None:
            events, feedback, *_ = continuation(config, pair.partition, seal)
            lost = lost or bool(events or feedback)
            if events or feedback:
                say(f"           by its outputs it was at events {events}, feedback {feedback}")
    if lost:
        say("\n-> with the workers stopped: stream-ml offsets set CONFIG --partition P --events N --feedback N")


def _position(position: int | None, held: tuple[int, int]) -> str:
    return f"{'-' if position is None else position} of {held[0]}-{held[1]}"


@offsets.command("set")
@configured
def set_(
    config: Config,
    partition: Annotated[int, typer.Option(min=0)],
    events: Annotated[int, typer.Option(min=0, help="Next event to score.")],
    feedback: Annotated[int, typer.Option(min=0, help="Next label to read.")],
    forget_waiting: Annotated[
        bool, typer.Option("--forget-waiting", help="Give up events and labels before that wait: read nothing of them.")
    ] = False,
) -> None:
    """Set where a partition goes on; its sequence continues. Workers must be stopped."""
    from stream_ml.admin.offsets import set_offsets
    from stream_ml.kafka.topics import inspect_topics
    from stream_ml.storage.keys import log_seal

    facts = inspect_topics(config)
    count = facts.partitions
    if partition >= count:
        raise ConfigError(f"there is no partition {partition}: {config.events.topic} has {count}")
    seal = log_seal(config, facts.training_log_topic_id)
    say(set_offsets(config, partition, events, feedback, seal, forget=forget_waiting))


@schema.command("list")
@configured
def list_schemas(
    config: Config,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Every schema that records of the app were written with, by fingerprint; reads the training log.

    A worker says the same at /v1/schemas, without reading anything.
    """
    from stream_ml.app.assemble import assemble

    for one in _written(assemble(config)):
        if as_json:
            say(json.dumps(one.plain()))
        else:
            say(f"{one.fingerprint}  {'now   ' if one.current else 'before'}  {one.topic}")


@schema.command("show")
@configured
def show_schema(
    config: Config,
    what: Annotated[
        str, typer.Argument(help="predictions, outcomes, training-log, signals; or a fingerprint that a record names.")
    ],
) -> None:
    """The schema of what the app writes now, or wrote once, as JSON."""
    from stream_ml import formats
    from stream_ml.app.assemble import assemble

    names = {"outcomes": "outcome", "training-log": "log_entry", "signals": "signal"}
    if what == "predictions":
        say(json.dumps(assemble(config).predictions.schema, indent=2))
    elif what in names:
        say(json.dumps(formats.load(names[what]), indent=2))
    elif re.fullmatch("[0-9a-fA-F]{16}", what):
        say(json.dumps(json.loads(_named(config, what.lower()).text), indent=2))
    else:
        known = ", ".join(["predictions", *names])
        raise typer.BadParameter(f"{what!r} is none of {known}, and no fingerprint of 16 hex digits")


def _named(config: Config, fingerprint: str) -> "WrittenSchema":
    """The schema with a fingerprint: of those of now without asking Kafka."""
    from stream_ml.app.assemble import assemble

    parts = assemble(config)
    for found in (partial(parts.written_schemas, ()), partial(_written, parts)):
        for one in found():
            if one.fingerprint == fingerprint:
                return one
    raise ConfigError(f"no schema of this app has the fingerprint {fingerprint}", "stream-ml schema list CONFIG")


def _written(parts: "Parts") -> "list[WrittenSchema]":
    from stream_ml.admin.logged import logged_schemas
    from stream_ml.kafka.topics import inspect_topics
    from stream_ml.storage.keys import log_seal

    config = parts.config
    sealed = config.training_log.key_file is not None
    found, false = logged_schemas(
        config, log_seal(config, inspect_topics(config).training_log_topic_id) if sealed else None
    )
    if false:
        places = ", ".join(map(str, false[:5]))
        say(
            f"{len(false)} entries of {config.training_log_topic} are no schemas as they say: at {places}",
            err=True,
        )
    return parts.written_schemas(found)


def add_commands(app: typer.Typer) -> None:
    """Add the verbs that write a command into the training log."""

    @app.command()
    @configured
    def skip(
        config: Config, position: Position, anyway: Anyway = False, later: Later = False, of: Model = None
    ) -> None:
        """Let learning go on after the entry at which it halted, without learning it."""
        _lift(config, "skip", position, of, anyway=anyway, **({"later": True} if later else {}))

    @app.command()
    @configured
    def accept(config: Config, position: Position, anyway: Anyway = False, of: Model = None) -> None:
        """Let learning go on with the example at which it halted, although it is far from all others."""
        _lift(config, "accept", position, of, anyway=anyway)

    @app.command("accept-gap")
    @configured
    def accept_gap(config: Config, position: Position, anyway: Anyway = False) -> None:
        """Let learning go on with the example at which it halted, although examples before it are missing."""
        _lift(config, "accept-gap", position, None, anyway=anyway)

    @app.command()
    @configured
    def freeze(config: Config, of: Model = None) -> None:
        """Stop learning in every replica from here on; what comes meanwhile is not learned later either."""
        _order(config, "freeze", {}, of)

    @app.command()
    @configured
    def resume(config: Config, of: Model = None) -> None:
        """Learn again after freeze."""
        _order(config, "resume", {}, of)

    @app.command()
    @configured
    def rebaseline(config: Config) -> None:
        """Take what is now as the reference of every drift, in every worker: what was before is forgotten."""
        _order(config, "rebaseline", {}, None)


def _lift(config: Config, command: str, position: int, of: str | None, *, anyway: bool, **more: bool) -> None:
    from stream_ml.admin.halts import check_halted, check_passable
    from stream_ml.kafka.topics import inspect_topics
    from stream_ml.storage.keys import log_seal

    if not anyway:
        check_halted(config, position, command)
    if not more.get("later"):
        check_passable(config, position, log_seal(config, inspect_topics(config).training_log_topic_id))
    _order(config, command, {"position": position, **more}, of)


def _order(config: Config, command: str, arguments: dict[str, Any], of: str | None) -> None:
    from stream_ml.kafka.topics import inspect_topics
    from stream_ml.kafka.writing.commands import write_command
    from stream_ml.storage.keys import log_seal

    who = "every replica"
    if of is not None:
        from stream_ml.admin.models.log import ModelLog

        known = ModelLog(config).named(of)
        arguments, who = arguments | {"lineage": known.lineage}, f"model {known.name} ({known.lineage})"
    seal = log_seal(config, inspect_topics(config).training_log_topic_id)
    at = write_command(config, command, arguments, seal)
    say(f"{command} stands in {config.training_log_topic} at {at}; {who} obeys it there")

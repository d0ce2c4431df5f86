"""The verbs of who looks on: top (one worker, live), tail (a topic, decoded), and dead letters."""

import http.client
import itertools
import json
import re
import time
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from stream_ml.cli.options import configured
from stream_ml.cli.probe import own_url
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.errors import ConfigError, TransientError
from stream_ml.observe.problems import all_printable, printable
from stream_ml.units import time_text

dead_letters = typer.Typer(no_args_is_help=True, help="Records that could not be used.")

ASK_S = 1.0
TIMEOUT_S = 5.0
STATUS_BYTES_MAX = 10_000_000
_NO_STATUS = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)

Last = Annotated[int, typer.Option(help="So many of each partition, the newest.", min=0)]
if TYPE_CHECKING:
    from stream_ml.observe.status import AnyStatus
    from stream_ml.records import Record

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@configured
def top(
    config: Config,
    url: Annotated[str | None, typer.Option(help="Of the worker, for example http://host:8080.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Print it once, and exit 1 where something is wrong.")] = False,
) -> None:
    """How a worker is: throughput, lag, quality, drift and what is wrong, live on a terminal."""
    from rich.console import Console
    from rich.live import Live

    from stream_ml.observe.status import Problem
    from stream_ml.observe.terminal import Shown, panel
    from stream_ml.storage.keys import token_of

    address = f"{url or own_url(config.http.host, config.http.port)}/v1/status"
    console = Console()
    token = token_of(config)
    status = _status(address, token)
    if once or not console.is_terminal:
        console.print(panel(status))
        raise typer.Exit(1 if any(one["severity"] != "info" for one in status["problems"]) else 0)
    shown = [status]
    with Live(Shown(lambda: shown[-1]), console=console, refresh_per_second=2):
        while True:
            time.sleep(ASK_S)  # the status is made anew as often
            try:
                shown[:] = [_status(address, token)]
            except TransientError as error:
                gone = Problem(severity="critical", text=str(error), suggestion="")
                shown[:] = [cast("AnyStatus", {**shown[-1], "ready": False, "problems": [gone]})]


def _status(address: str, token: bytes) -> "AnyStatus":
    if not re.match(r"https?://[^/\s]+", address):
        raise ConfigError(f"{address.removesuffix('/v1/status')} is no address: http://HOST:PORT")
    from stream_ml.observe.terminal import panel

    asked = urllib.request.Request(address)  # noqa: S310 - an address of the operator's
    if token:
        asked.add_unredirected_header("Authorization", f"Bearer {token.decode('latin-1')}")
    try:
        with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as answer:  # noqa: S310
            found: dict[str, Any] = json.loads(answer.read(STATUS_BYTES_MAX))
            if "problems" not in found:
                raise ValueError("it says something else")
            shown = cast("AnyStatus", all_printable(found))
            panel(shown)  # what cannot be shown is no status
            return shown
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
        http.client.HTTPException,
    ) as error:
        raise TransientError(
            f"no worker answers at {address}: {error}", "is it running, and is http.port right? --url names another"
        ) from error


@configured
def tail(
    config: Config,
    what: Annotated[
        str, typer.Argument(help="events, feedback, predictions, outcomes, dead-letters, signals or training-log.")
    ],
    last: Last = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="And what comes from now on, until Ctrl-C.")] = False,
    where: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=VALUE", help="Only those of them with it; dotted; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The newest committed records of a topic, decoded."""
    from stream_ml.admin.decode import look_at
    from stream_ml.app.assemble import assemble
    from stream_ml.kafka.reading.newest import follow as following
    from stream_ml.kafka.reading.newest import newest

    wanted = [_condition(text) for text in where or ()]
    topic, values_of = look_at(assemble(config), what)
    records, ended = newest(config, topic, last)
    for record in itertools.chain(records, following(config, ended) if follow else ()):
        values = values_of(record)
        if all(_text(_at(values, path)) == value for path, value in wanted):
            if as_json:
                say(json.dumps(_placed(record, values)))
            else:
                say(_line(record, values))


def _placed(record: "Record", values: dict[str, Any]) -> dict[str, Any]:
    """A record's fields, and where it stands; `produce` takes key and timestamp from there."""
    key = record.key
    place: dict[str, Any] = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    place |= {"timestamp_ms": record.timestamp_ms, "key": None if key is None else key.decode("utf-8", "replace")}
    return values | {"record": place} if "record" in values else {"record": place} | values


@configured
def show_one(
    config: Config,
    what: Annotated[
        str, typer.Argument(help="events, feedback, predictions, outcomes, dead-letters, signals, training-log.")
    ],
    place: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="As `tail --json` names it.")],
) -> None:
    """One record of a topic, decoded: of the training log an example's event and its features, too."""
    from stream_ml.admin.decode import look_at, short_name
    from stream_ml.app.assemble import assemble

    parts = assemble(config)
    topic, values_of = look_at(parts, short_name(parts, what), whole=True)
    record = _record_at(config, topic, place)
    values = _placed(record, values_of(record))
    if record.headers:
        values["headers"] = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
    say(json.dumps(values, indent=2))


def _record_at(config: Config, topic: str, text: str) -> "Record":
    """The record at PARTITION:OFFSET; ConfigError says what there is instead."""
    from stream_ml.kafka.clients import admin
    from stream_ml.kafka.errors import reaching
    from stream_ml.kafka.reading.ends import ends
    from stream_ml.kafka.reading.newest import partitions_of
    from stream_ml.kafka.reading.ranges import read_range

    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal() and int(partition) < 2**31 and int(offset) < 2**63 - 1):
        raise ConfigError(f"{text} is no PARTITION:OFFSET, like 0:17", "tail --json names the place of each record")
    where, number = (topic, int(partition)), int(offset)
    with reaching(config):
        if where not in partitions_of(config, topic):
            raise ConfigError(f"there is no record at {text}: {topic} has no partition {partition}")
        first, end = ends(admin(config), [where])[where]
        if not first <= number < end:
            raise ConfigError(f"there is no record at {text}: partition {partition} of {topic} holds {first} to {end}")
        found = [r for batch in read_range(config, *where, number, number + 1, keep_alive=lambda: None) for r in batch]
    if not found:
        raise ConfigError(f"there is no record at {text} of {topic}: a transaction's marker, or an aborted record")
    return found[0]


def _condition(text: str) -> tuple[list[str], str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ConfigError(f"--where {text}: it is FIELD=VALUE, like class=true or event_offset=7")
    return name.split("."), value


def _at(values: Any, path: list[str]) -> Any:
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _line(record: "Record", values: dict[str, Any]) -> str:
    at = time_text(record.timestamp_ms)
    said = " ".join(
        f"{name}={printable(_text(value))}" for name, value in values.items() if value not in (None, "", [], {})
    )
    return f"{at} {record.partition}:{record.offset} {said}"


@dead_letters.command("ls")
@configured
def ls(
    config: Config,
    last: Last = 1000,
    each: Annotated[bool, typer.Option("--each", help="Each dead letter instead of one line a reason.")] = False,
    as_json: AsJson = False,
) -> None:
    """Dead letters by reason: how many, of which topic, since when, and one of them in words."""
    from stream_ml.admin.decode import dead_letter
    from stream_ml.kafka.reading.newest import newest

    records, _ = newest(config, config.dead_letters, last)
    if each:
        for record in records:
            place = {"dead_letter": f"{record.partition}:{record.offset}"}
            say(json.dumps(place | dead_letter(record)))
        return
    groups: dict[tuple[str, str], list[tuple[int, dict[str, Any]]]] = {}
    for record in records:
        values = dead_letter(record)
        groups.setdefault((values["reason"], values["topic"]), []).append((record.timestamp_ms, values))
    rows = [
        {
            "reason": reason,
            "topic": topic,
            "dead_letters": len(found),
            "first": time_text(found[0][0]),
            "last": time_text(found[-1][0]),
            "example": found[-1][1]["message"],
        }
        for (reason, topic), found in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]
    if as_json:
        for row in rows:
            say(json.dumps(row))
    elif not rows:
        say("there are none")
    else:
        for row in rows:
            where = printable(f"{row['reason']} in {row['topic']}, {row['first']} to {row['last']}")
            say(f"{row['dead_letters']:>7} {where}")
            say(f"        {printable(str(row['example']))}")
        say("\n-> once what is wrong is mended: stream-ml dead-letters redrive CONFIG --reason R")


@dead_letters.command("show")
@configured
def show(
    config: Config,
    dead_letter: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="As `ls --each` names it.")],
) -> None:
    """One dead letter whole: its headers, and its value as far as it can be decoded."""
    from stream_ml.admin.decode import dead_letter as decoded
    from stream_ml.admin.decode import look_at
    from stream_ml.app.assemble import assemble

    found = _record_at(config, config.dead_letters, dead_letter)
    values = decoded(found)
    parts = assemble(config)
    what = {config.events.topic: "events", config.feedback.topic: "feedback"}.get(values["topic"])
    values["headers"] = {name: (value or b"").decode("utf-8", "replace") for name, value in found.headers}
    if what is not None:
        values["decoded"] = look_at(parts, what)[1](found)
    say(json.dumps(values, indent=2))


@dead_letters.command("redrive")
@configured
def redrive(
    config: Config,
    reason: Annotated[list[str], typer.Option(help="Letters of this reason; repeatable.")],
    most: Annotated[int, typer.Option(help="So many at most.", min=1)] = 1_000_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be written.")] = False,
    old: Annotated[
        bool,
        typer.Option("--old", help="Where none was ever redriven, or long ago: dead letters older than 6 days, too."),
    ] = False,
    unproven: Annotated[
        bool | None,
        typer.Option(help="Whether dead letters are written whose record retention has deleted; nothing proves them."),
    ] = None,
) -> None:
    """Write dead letters to their topics again, each once, after what was wrong with them is mended.

    A dead letter is compared with the record that it says it was: one that somebody made up is not written.
    """
    from stream_ml.admin.redrive import redrive as write_again
    from stream_ml.core.partition.outputs import REASONS

    for name in reason:
        if name not in REASONS:
            raise ConfigError(f"--reason {name}: it is none of {', '.join(REASONS)}")
    total: Counter[str] = Counter()
    for name in reason:
        done = write_again(config, name, most - sum(total.values()), dry_run=dry_run, old=old, unproven=unproven)
        total += done.written
        for topic, count in done.written.items():
            say(f"{name}: {count} {'would be ' if dry_run else ''}written to {topic}")
        if done.cut:
            say(f"{name}: {done.cut} were cut at 900 kB and stay; their producers have the whole")
        if done.foreign:
            say(f"{name}: {done.foreign} are not the record that they name, or name none of ours, and stay")
        if done.unproven:
            say(f"{name}: {done.unproven} are of records that retention has deleted, and stay")
    if not total:
        say("nothing was left to redrive")

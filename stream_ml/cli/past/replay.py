"""``stream-ml replay``: models on the past, beside each other and beside what was served."""

import contextlib
import errno
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_ml.cli.options import configured
from stream_ml.cli.past.times import time_of
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.errors import ConfigError, FatalError
from stream_ml.runtime.collector import OF_A_REPLAY, calm_collector
from stream_ml.units import duration_ms

if TYPE_CHECKING:
    from stream_ml.offline.replay.report import Outcome

Specs = Annotated[
    list[Path] | None,
    typer.Option(
        "--spec", help="A file with sections model, features, learning: a model like the configuration's but for them."
    ),
]
Names = Annotated[list[str] | None, typer.Option("--model", help="A model that the log declares, by name or lineage.")]
Files = Annotated[
    list[Path] | None, typer.Option("--file", help="Parquet, CSV, JSON lines or Avro instead of the training log.")
]
Bounds = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-if",
        help="'SPEC.METRIC < NUMBER', 'SPEC worse than SPEC by NUMBER', 'SPEC not better than SPEC': exit code 1 then.",
    ),
]


@configured
def replay(
    config: Config,
    spec: Specs = None,
    model: Names = None,
    grid: Annotated[
        Path | None, typer.Option(help="A file whose model.params are lists: every combination, by halving.")
    ] = None,
    file: Files = None,
    topics: Annotated[
        bool, typer.Option("--topics", help="The topics of events and labels instead: also what nobody has scored yet.")
    ] = False,
    label: Annotated[
        str | None, typer.Option(help="With --file, column of the label; default: feedback.label.")
    ] = None,
    delay: Annotated[
        str | None,
        typer.Option(help="With --file: a duration that labels take, or the column that has it (or their time)."),
    ] = None,
    moment: Annotated[str | None, typer.Option(help="With --file, column of the time; default: events.time.")] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", help="Labels (--topics: events) from this time on; models begin untrained."),
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Labels (--topics: events) before this time.")] = None,
    score_from: Annotated[
        str | None, typer.Option(help="Events before this time are learned and not compared.")
    ] = None,
    block: Annotated[str | None, typer.Option(help="Length of a block of the test; default: chosen, and said.")] = None,
    mature: Annotated[
        str | None, typer.Option(help="A label that took longer does not count; default: as 95 in 100 take.")
    ] = None,
    margin: Annotated[float, typer.Option(help="A difference of the loss that does not matter.", min=0.0)] = 0.0,
    alpha: Annotated[float, typer.Option(help="Probability of a wrong decision.", min=1e-9, max=0.5)] = 0.05,
    assume: Annotated[
        list[str] | None,
        typer.Option(help="0s, 1h, 1d: how good each model had been, had labels taken so long. Each is one more run."),
    ] = None,
    fail_if: Bounds = None,
    out: Annotated[Path | None, typer.Option(help="Folder for report.html and report.json.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder for what is written on the way; default: the system's.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Models at once; 0: one for each core.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object instead of text.")] = False,
) -> None:
    """Replay the past: score and learn again what was learned, with any models, and say which is better.

    From the training log each example is scored where it was served, so real delays count; from --topics where its
    event came, as labels had come by then. From files labels come when --delay says, in River's order. Differences are
    judged by blocks of time, never by single pairs. Exit code 1 where a bound of --fail-if fails.
    """
    from stream_ml.cli.past.timelines import Asked, of_files, of_log, of_topics
    from stream_ml.core.evaluation.blocks import Limits
    from stream_ml.offline.replay.compare import Terms

    began_s = time.monotonic()
    calm_collector(OF_A_REPLAY)
    assumed = [_assumed(text) for text in assume or []]
    terms = Terms(
        from_ms=time_of(score_from, "--score-from"),
        block_ms=_duration(block, "--block"),
        mature_ms=_duration(mature, "--mature"),
        limits=Limits(alpha=alpha, margin=margin),
    )
    if file:
        if model or from_ or to or topics:
            raise ConfigError("--model, --topics, --from and --to are of Kafka", "leave them out, or --file")
    elif label or delay or moment:
        raise ConfigError("--label, --delay and --moment are columns of files", "name some: --file FILE")
    with _working(work) as folder:
        given = Asked(config, spec or [], model or [], grid, terms, fail_if or [], jobs or os.cpu_count() or 1, assumed)
        bounds = time_of(from_, "--from"), time_of(to, "--to")
        if file:
            outcome = of_files(given, file, label, delay, moment, folder, began_s)
        elif topics:
            outcome = of_topics(given, *bounds, folder, began_s)
        else:
            outcome = of_log(given, *bounds, folder, began_s)
    _tell(outcome, out, as_json=as_json)
    sys.exit(1 if outcome.failed else 0)


def _tell(outcome: "Outcome", out: Path | None, *, as_json: bool) -> None:
    from stream_ml.offline.replay.report import FEEDBACK, assumed_of, page, table_of, words_of
    from stream_ml.storage.files import replaced

    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            replaced(out / "report.json", json.dumps(outcome.plain(), indent=1).encode())
            replaced(out / "report.html", page(outcome).encode())
        except OSError as error:
            raise FatalError(
                f"the report cannot be written to {out}: {error.strerror}", "name another --out"
            ) from error
    if as_json:
        say(json.dumps(outcome.plain()))
        return
    comparison, source = outcome.comparison, outcome.source
    delays = comparison.delays()
    late = f", labels after {delays['p50']:,.0f} s (median), {delays['p90']:,.0f} s (nine of ten)" if delays else ""
    say(
        f"{source.examples:,} examples of {source.what}, {int(comparison.counts.sum()):,} compared{late}; "
        f"{outcome.took_s:.1f} s"
    )
    for line in (*table_of(outcome), *map(words_of, outcome.pairs), *assumed_of(outcome)):
        say(line)
    for name, one in outcome.entrants.items():
        if one.stopped:
            say(f"{name}: {one.stopped}")
        if one.ran.halted:
            say(f"{name} stopped learning {one.ran.halted}")
        if one.ran.failed:
            say(f"{name} could not score {one.ran.failed:,} examples")
    for note in (*source.notes, *(f"left out, {why}: {count:,}" for why, count in comparison.left_out.items())):
        say(note)
    say(FEEDBACK)
    if out is not None:
        say(f"{out / 'report.html'}, {out / 'report.json'}")
    for words in outcome.failed:
        say(f"failed: {words}", err=True)


@contextlib.contextmanager
def _working(work: Path | None) -> Iterator[Path]:
    """A folder for the tape, which goes in the end."""
    try:
        with tempfile.TemporaryDirectory(prefix="stream-ml-replay-", dir=work) as folder:
            yield Path(folder)
    except OSError as error:
        if isinstance(error, ConfigError | FatalError):
            raise
        where = work or Path(tempfile.gettempdir())
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FatalError(
                f"{where} is full: the replay was not finished", "name a folder with more room: --work FOLDER"
            ) from error
        raise FatalError(f"{where} cannot be used: {error.strerror or error}", "name another --work") from error


def _assumed(text: str) -> int:
    """A delay that is assumed; 0 is one, too."""
    try:
        return 0 if text in ("0", "0s") else duration_ms(text)
    except ValueError as error:
        raise ConfigError(f"--assume: {error}") from None


def _duration(text: str | None, option: str) -> int | None:
    try:
        found = None if text is None else duration_ms(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None
    if found == 0:
        raise ConfigError(f"{option} is 0, and it takes a while", "write a duration, such as 6h")
    return found

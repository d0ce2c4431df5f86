"""``stream-ml replay``: models on the past, beside each other and beside what was served."""

import contextlib
import errno
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_ml.cli.options import configured
from stream_ml.cli.past.progress import Progress
from stream_ml.cli.past.times import time_of
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.errors import ConfigError, FatalError
from stream_ml.units import duration_ms

if TYPE_CHECKING:
    from stream_ml.core.log.identity import LogIdentity
    from stream_ml.offline.replay.compare import Terms
    from stream_ml.offline.replay.report import Outcome, Source
    from stream_ml.offline.replay.specs import Spec
    from stream_ml.offline.replay.tape import Tape

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
    label: Annotated[
        str | None, typer.Option(help="With --file, column of the label; default: feedback.label.")
    ] = None,
    delay: Annotated[
        str | None,
        typer.Option(help="With --file: a duration that labels take, or the column that has it (or their time)."),
    ] = None,
    moment: Annotated[str | None, typer.Option(help="With --file, column of the time; default: events.time.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Models begin untrained with labels from this time on.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="They end before labels of this time.")] = None,
    score_from: Annotated[
        str | None, typer.Option(help="Events before this time are learned and not compared.")
    ] = None,
    block: Annotated[str | None, typer.Option(help="Length of a block of the test; default: chosen, and said.")] = None,
    mature: Annotated[
        str | None, typer.Option(help="A label that took longer does not count; default: as 95 in 100 take.")
    ] = None,
    margin: Annotated[float, typer.Option(help="A difference of the loss that does not matter.", min=0.0)] = 0.0,
    alpha: Annotated[float, typer.Option(help="Probability of a wrong decision.", min=1e-9, max=0.5)] = 0.05,
    fail_if: Bounds = None,
    out: Annotated[Path | None, typer.Option(help="Folder for report.html and report.json.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder for what is written on the way; default: the system's.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Models at once; 0: one for each core.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object instead of text.")] = False,
) -> None:
    """Replay the past: score and learn again what was learned, with any models, and say which is better.

    From the training log each example is scored where it was served, so real delays count. From files labels come when
    --delay says, in River's order. Differences are judged by blocks of time, never by single pairs. Exit code 1 where a
    bound of --fail-if fails.
    """
    from stream_ml.core.evaluation.blocks import Limits
    from stream_ml.offline.replay.compare import Terms

    began_s = time.monotonic()
    terms = Terms(
        from_ms=time_of(score_from, "--score-from"),
        block_ms=_duration(block, "--block"),
        mature_ms=_duration(mature, "--mature"),
        limits=Limits(alpha=alpha, margin=margin),
    )
    if file:
        if model or from_ or to:
            raise ConfigError("--model, --from and --to are of the training log", "leave them out, or --file")
    elif label or delay or moment:
        raise ConfigError("--label, --delay and --moment are columns of files", "name some: --file FILE")
    with _working(work) as folder:
        given = _Given(config, spec or [], model or [], grid, terms, fail_if or [], jobs or os.cpu_count() or 1)
        if file:
            outcome = _of_files(given, file, label, delay, moment, folder, began_s)
        else:
            outcome = _of_log(given, time_of(from_, "--from"), time_of(to, "--to"), folder, began_s)
    _tell(outcome, out, as_json=as_json)
    sys.exit(1 if outcome.failed else 0)


class _Given:
    """What was asked for, and the models that come of it."""

    def __init__(
        self,
        config: Config,
        files: Sequence[Path],
        names: Sequence[str],
        grid: Path | None,
        terms: "Terms",
        bounds: Sequence[str],
        jobs: int,
    ) -> None:
        from stream_ml.offline.replay.bounds import bound_of

        self.config, self.terms, self.jobs = config, terms, jobs
        self._files, self._names, self.grid = files, names, grid
        self.bounds = [bound_of(text) for text in bounds]

    def specs(self, log: "LogIdentity", known: Callable[[str], "Spec"]) -> "list[Spec]":
        """The models, the bounds checked against their names."""
        from stream_ml.app.assemble import assemble
        from stream_ml.offline.replay import specs

        found = [specs.spec_of_file(self.config, path, log) for path in self._files]
        found += [known(name) for name in self._names]
        if self.grid is not None:
            found += specs.grid(self.config, self.grid, log)
        if not found:
            parts = assemble(self.config)
            found = [specs.own_spec(parts, log)]
        return specs.apart(found)

    def check_bounds(self, specs: "Sequence[Spec]", *, served: bool) -> None:
        """See that each bound is about something."""
        from stream_ml.offline.replay.bounds import check_names
        from stream_ml.offline.replay.compare import BASELINE, SERVED, metrics_of

        names = [*([SERVED] if served else []), *(one.name for one in specs), BASELINE]
        check_names(self.bounds, names, metrics_of(specs[0].recipe.parts.domain.task))


def _of_log(given: _Given, from_ms: int | None, to_ms: int | None, folder: Path, began_s: float) -> "Outcome":
    from stream_ml.admin.models.log import ModelLog
    from stream_ml.app.assemble import assemble
    from stream_ml.cli.run import fix_hash_seed
    from stream_ml.follower.recipes import Recipes, built
    from stream_ml.offline.replay.from_log import tape_of_log
    from stream_ml.offline.replay.report import Source
    from stream_ml.offline.replay.specs import Spec, plans_of

    config = given.config
    log = ModelLog(config)
    fix_hash_seed(log.facts.log)
    recipes = Recipes(assemble(config), log.facts, log.seal)

    def known(name: str) -> Spec:
        declared = log.named(name)
        return Spec(declared.name, built(recipes, declared))

    specs = given.specs(log.facts.log, known)
    given.check_bounds(specs, served=True)
    progress = Progress()
    settings = [recipes.fresh(one) for one in plans_of(specs)[0]]
    read = tape_of_log(
        config,
        settings,
        log.seal,
        folder,
        from_ms=from_ms,
        to_ms=to_ms,
        said=lambda position, end: progress("reading the log", position / max(1, end)),
    )
    notes = [read.problem] if read.problem else []
    source = Source(config.training_log_topic, "served", read.end - read.first, read.tape.examples, notes)
    return _outcome(given, read.tape, specs, settings[0], source, progress, began_s, served=True)


def _of_files(
    given: _Given,
    files: Sequence[Path],
    label: str | None,
    delay: str | None,
    moment: str | None,
    folder: Path,
    began_s: float,
) -> "Outcome":
    from stream_ml.core.log.identity import NO_LOG
    from stream_ml.offline.replay.from_files import Columns, tape_of_files
    from stream_ml.offline.replay.report import Source
    from stream_ml.offline.replay.specs import plans_of
    from stream_ml.runtime.hash_seed import run_under

    config = given.config
    if delay is not None and moment is None and config.events.time == "record":
        raise ConfigError(
            "events.time is record: rows of files have no time of their own, by which --delay could be counted",
            "name the column that has it: --moment COLUMN",
        )
    run_under(NO_LOG.hash_seed)

    def known(name: str) -> Any:
        raise ConfigError(f"{name} is a model of a log", "leave --model out, or --file")

    specs = given.specs(NO_LOG, known)
    given.check_bounds(specs, served=False)
    progress, taken = Progress(), _delay(delay)
    settings = [one.settings for one in plans_of(specs)[0]]
    columns = Columns(label or config.feedback.label, taken, moment)
    parts = specs[0].recipe.parts
    said = lambda rows: progress(f"reading files: {rows:,} rows", None)  # noqa: E731
    read = tape_of_files(parts, settings, files, columns, folder, said)
    notes = []
    if read.refused:
        first = read.refused[0]
        notes.append(
            f"{len(read.refused):,} of {read.rows:,} rows are refused; the first is row {first.number} of "
            f"{first.file}: {first.why}"
        )
    if read.left_out:
        notes.append(f"columns that are no field of the event: {', '.join(sorted(read.left_out)[:20])}")
    how = "labels at once" if taken is None else f"labels delayed by {delay}"
    what = ", ".join(path.name for path in files)
    source = Source(what, f"moment, {how}", read.rows, read.tape.examples, notes)
    return _outcome(given, read.tape, specs, settings[0], source, progress, began_s, served=False)


def _outcome(
    given: _Given,
    tape: "Tape",
    specs: "Sequence[Spec]",
    settings: Any,
    source: "Source",
    progress: Progress,
    began_s: float,
    *,
    served: bool,
) -> "Outcome":
    from stream_ml.offline.replay.bounds import failed
    from stream_ml.offline.replay.compare import SERVED
    from stream_ml.offline.replay.replay import Replay
    from stream_ml.offline.replay.report import Outcome

    made = Replay(tape, specs, settings, given.jobs, lambda name, share: progress(f"replaying {name}", share))
    if given.grid is not None:
        made.halve(given.terms, served=served)
    else:
        made.run(served=served)
    comparison = made.comparison(given.terms)
    if not comparison.counts.any():
        raise ConfigError(
            "no example is left to compare: " + ", ".join(f"{why}: {n:,}" for why, n in comparison.left_out.items()),
            "widen --score-from, or leave out the model that says nothing",
        )
    names = [name for name, one in made.entrants.items() if not one.stopped]
    reference = SERVED if served else names[0]
    pairs = [comparison.pair(name, reference) for name in names if name != reference]
    measured = [comparison.measure(name) for name in comparison.names]
    measures = {one.name: one.measures for one in measured}

    def verdict(first: str, second: str) -> Any:
        return comparison.pair(first, second, course=False).verdict

    for name in (name for bound in given.bounds for name in (bound.first, bound.second) if name in made.entrants):
        if made.entrants[name].stopped:
            raise ConfigError(f"--fail-if: {name} {made.entrants[name].stopped}: it is compared with nothing")
    wrong = [words for bound in given.bounds if (words := failed(bound, measures, verdict))]
    took_s = time.monotonic() - began_s
    return Outcome(given.config.app.id, source, comparison, measured, made.entrants, pairs, wrong, took_s)


def _tell(outcome: "Outcome", out: Path | None, *, as_json: bool) -> None:
    from stream_ml.offline.replay.report import FEEDBACK, page, table_of, words_of
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
    for line in (*table_of(outcome), *map(words_of, outcome.pairs)):
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


def _duration(text: str | None, option: str) -> int | None:
    try:
        found = None if text is None else duration_ms(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None
    if found == 0:
        raise ConfigError(f"{option} is 0, and it takes a while", "write a duration, such as 6h")
    return found


def _delay(text: str | None) -> int | str | None:
    """A duration, or the name of a column."""
    if text is None:
        return None
    try:
        return duration_ms(text)
    except ValueError:
        return text

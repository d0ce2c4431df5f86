"""What is replayed by ``stream-ml replay``: the training log, the topics, or files; and the outcome of it."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream_ml.cli.past.progress import Progress
from stream_ml.config import Config
from stream_ml.errors import ConfigError
from stream_ml.units import duration_ms

if TYPE_CHECKING:
    from stream_ml.core.log.identity import LogIdentity
    from stream_ml.offline.replay.compare import Terms
    from stream_ml.offline.replay.report import Outcome, Source
    from stream_ml.offline.replay.specs import Spec
    from stream_ml.offline.replay.tape import Tape


class Asked:
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
        assumed: Sequence[int] = (),
    ) -> None:
        from stream_ml.offline.replay.bounds import bound_of

        self.config, self.terms, self.jobs, self.assumed = config, terms, jobs, sorted(set(assumed))
        self._files, self.names, self.grid = files, names, grid
        self.bounds = [bound_of(text) for text in bounds]

    def specs(self, log: "LogIdentity", known: Callable[[str], "Spec"], *, own: bool = False) -> "list[Spec]":
        """The models; with `own` the configuration's first, whatever else is named."""
        from stream_ml.app.assemble import assemble
        from stream_ml.offline.replay import specs

        found = [specs.spec_of_file(self.config, path, log) for path in self._files]
        found += [known(name) for name in self.names]
        if self.grid is not None:
            found += specs.grid(self.config, self.grid, log)
        if not found or own:
            mine = specs.own_spec(assemble(self.config), log)
            found = [mine, *(one for one in found if one.recipe.lineage != mine.recipe.lineage)]
        return specs.apart(found)

    def check_bounds(self, specs: "Sequence[Spec]", *, served: bool) -> None:
        """See that each bound is about something."""
        from stream_ml.offline.replay.bounds import check_names
        from stream_ml.offline.replay.compare import BASELINE, SERVED, metrics_of

        names = [*([SERVED] if served else []), *(one.name for one in specs), BASELINE]
        check_names(self.bounds, names, metrics_of(specs[0].recipe.parts.domain.task))


def of_log(given: Asked, from_ms: int | None, to_ms: int | None, folder: Path, began_s: float) -> "Outcome":
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


def of_topics(given: Asked, from_ms: int | None, to_ms: int | None, folder: Path, began_s: float) -> "Outcome":
    from stream_ml.admin.models.log import ModelLog
    from stream_ml.app.assemble import assemble
    from stream_ml.cli.run import fix_hash_seed
    from stream_ml.core.log.identity import NO_LOG
    from stream_ml.follower.recipes import Recipes, built
    from stream_ml.offline.replay.from_topics import tape_of_topics
    from stream_ml.offline.replay.report import Source
    from stream_ml.offline.replay.specs import Spec, plans_of
    from stream_ml.runtime.hash_seed import run_under

    config, parts = given.config, assemble(given.config)
    log = ModelLog(config) if given.names else None
    if log is None:
        run_under(NO_LOG.hash_seed)
    else:
        fix_hash_seed(log.facts.log)

    def known(name: str) -> Spec:
        assert log is not None  # noqa: S101 - a model is named
        declared = log.named(name)
        return Spec(declared.name, built(Recipes(parts, log.facts, log.seal), declared))

    specs = given.specs(NO_LOG if log is None else log.facts.log, known, own=True)
    given.check_bounds(specs, served=False)
    progress = Progress()
    read = tape_of_topics(
        specs[0].recipe.parts,
        [one.settings for one in plans_of(specs)[0]],
        folder,
        from_ms=from_ms,
        to_ms=to_ms,
        said=lambda done, most: progress("reading the topics", done / max(1, most)),
    )
    what = f"{config.events.topic} and {config.feedback.topic}"
    source = Source(what, "topics", read.events + read.labels, read.tape.examples, read.notes)
    settings = specs[0].recipe.settings
    return _outcome(given, read.tape, specs, settings, source, progress, began_s, served=False)


def of_files(
    given: Asked,
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
    if (delay is not None or given.assumed) and moment is None and config.events.time == "record":
        raise ConfigError(
            "events.time is record: rows of files have no time of their own, by which a delay could be counted",
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
    given: Asked,
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
    from stream_ml.offline.replay.report import Assumed, Outcome

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
    assumed = []
    for delay_ms in given.assumed:
        with tempfile.TemporaryDirectory(dir=tape.work) as folder:
            assumed.append(Assumed(delay_ms, made.assuming(delay_ms, given.terms, Path(folder))))
    took_s = time.monotonic() - began_s
    return Outcome(given.config.app.id, source, comparison, measured, made.entrants, pairs, wrong, took_s, assumed)


def _delay(text: str | None) -> int | str | None:
    """A duration, or the name of a column."""
    if text is None:
        return None
    try:
        return duration_ms(text)
    except ValueError:
        return text

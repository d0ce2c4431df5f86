"""A replay: one tape, any number of models on it in processes of their own, and what came of each.

Read first: `Replay.run`.
"""

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stream_ml.core.fold.batches import FoldSettings
from stream_ml.errors import FatalError
from stream_ml.offline.replay.compare import SERVED, Comparison, Facts, Terms
from stream_ml.offline.replay.run import Ran, Said, run, served_numbers
from stream_ml.offline.replay.specs import Spec, plans_of
from stream_ml.offline.replay.tape import Tape
from stream_ml.runtime.collector import OF_A_REPLAY, calm_collector
from stream_ml.units import duration_text

RUNGS = (8, 4, 2, 1)  # a part of the tape each: an eighth, a quarter, half, all


class Entrant(NamedTuple):
    """A model on the tape and how it ran; `stopped` says why it did not run to the end, and where."""

    spec: Spec
    ran: Ran
    stopped: str = ""


class Replay:
    """Models on one tape.

    Parameters
    ----------
    settings
        Of the first model's fold, whose payloads know every schema that stands on the tape.
    jobs
        Processes at once.
    said
        Told the name of a model and the share of the tape that it has run.

    Attributes
    ----------
    entrants
        By name, those that ran.
    """

    def __init__(
        self,
        tape: Tape,
        specs: Sequence[Spec],
        settings: FoldSettings,
        jobs: int,
        said: Callable[[str, float], None] = lambda *_: None,
    ) -> None:
        self._tape, self._specs, self._jobs, self._told = tape, list(specs), max(1, jobs), said
        self._settings = settings
        self._plans = plans_of(specs)[1]
        self.domain = settings.domain
        self.facts = Facts.of(tape.facts(), settings.domain)
        self.entrants: dict[str, Entrant] = {}
        self._has_served = False

    # --- running ---

    def run(self, *, served: bool) -> None:
        """Run every model over the whole tape; with `served`, what was published is compared as well."""
        self._keep_served(served)
        found = self._run(self._specs, None)
        self.entrants = {spec.name: Entrant(spec, found[spec.name]) for spec in self._specs}

    def halve(self, terms: Terms, *, served: bool) -> None:
        """Run many models over ever longer parts of the tape; those that are shown worse than the best one go.

        Source: successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943), with a test in the place of a
        ranking: of the half that has the larger losses only those go that are shown to be worse.
        """
        self._keep_served(served)
        left = list(self._specs)
        for rung in RUNGS:
            upto = self._tape.examples // rung
            for name, ran in self._run(left, upto).items():
                self.entrants[name] = Entrant(next(one for one in left if one.name == name), ran)
            if rung > 1 and len(left) > 1:
                left = self._survivors(left, terms, upto, rung)

    def _survivors(self, left: Sequence[Spec], terms: Terms, upto: int, rung: int) -> list[Spec]:
        comparison = self.comparison(terms, [one.name for one in left])
        key = "loss" if self.domain.task == "regression" else "brier"
        losses = {one.name: comparison.measure(one.name).measures.get(key, np.inf) for one in left}
        ranked = sorted(left, key=lambda one: losses[one.name])
        best, half = ranked[0], ranked[(len(ranked) + 1) // 2 :]
        gone = set()
        for one in half:
            if comparison.pair(one.name, best.name, course=False).verdict.decision == "worse":
                words = f"shown worse than {best.name} after {upto:,} examples (a part of {rung})"
                self.entrants[one.name] = self.entrants[one.name]._replace(stopped=words)
                gone.add(one.name)
        return [one for one in left if one.name not in gone]

    def _keep_served(self, served: bool) -> None:
        self._has_served = served
        if served:
            served_numbers(self._tape.facts(), self.domain, self._file(SERVED))

    def _file(self, name: str) -> Path:
        number = -1 if name == SERVED else next(n for n, one in enumerate(self._specs) if one.name == name)
        return self._tape.work / f"said-{number}.npy"

    def _run(self, specs: Sequence[Spec], upto: int | None) -> dict[str, Ran]:
        """Run these, so many at once, each in a process of its own: what a native part breaks ends that one alone."""
        context, waiting = multiprocessing.get_context("fork"), list(specs)
        running: dict[str, tuple[Any, Any]] = {}
        found: dict[str, Ran] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._jobs:
                    spec = waiting.pop(0)
                    ours, theirs = context.Pipe(duplex=False)
                    process = context.Process(target=self._in_process, args=(spec, upto, theirs), daemon=True)
                    process.start()
                    theirs.close()
                    running[spec.name] = (process, ours)
                ready = wait([pipe for _, pipe in running.values()])
                for name in [name for name, (_, pipe) in running.items() if pipe in ready]:
                    ran = self._received(name, *running[name])
                    if ran is not None:
                        found[name] = ran
                        del running[name]
        finally:
            for process, _ in running.values():
                process.kill()
        return found

    def _received(self, name: str, process: Any, pipe: Any) -> Ran | None:
        """What a process has said; None while it runs."""
        try:
            while pipe.poll(0):
                what, value = pipe.recv()
                if what == "ran":
                    process.join()
                    return Ran._make(value)
                if what == "failed":
                    process.join()
                    raise FatalError(f"the replay of {name} failed: {value}")
                self._told(name, value)
        except EOFError:
            process.join()
            raise FatalError(
                f"the replay of {name} ended in the middle, with {process.exitcode}: a native part of the model, or "
                "too little memory",
                "leave that model out, or take --jobs 1",
            ) from None
        return None

    def _in_process(self, spec: Spec, upto: int | None, pipe: Any) -> None:
        calm_collector(OF_A_REPLAY, forked=True)
        try:
            settings = spec.recipe.settings._replace(payloads=self._settings.payloads)
            count = max(1, self._tape.examples if upto is None else upto)
            ran = run(
                self._tape,
                self._plans[spec.name],
                settings,
                self._file(spec.name),
                upto,
                lambda done: pipe.send(("done", done / count)),
            )
            pipe.send(("ran", tuple(ran)))
        except BaseException as error:  # whatever it is: the parent tells it
            pipe.send(("failed", f"{type(error).__name__}: {str(error)[:500]}"))
        pipe.close()
        os._exit(0)

    # --- comparing ---

    def said(self, names: Sequence[str] | None = None) -> dict[str, Said]:
        """What each model said, and what was served."""
        wanted = [name for name, one in self.entrants.items() if not one.stopped] if names is None else list(names)
        if self._has_served:
            wanted = [SERVED, *wanted]
        return {name: Said.of(np.load(self._file(name), mmap_mode="r")) for name in wanted}

    def comparison(self, terms: Terms, names: Sequence[str] | None = None) -> Comparison:
        """All that ran to the end, or these, beside each other."""
        said = self.said(names)
        selections = [self.entrants[name].spec.recipe.parts.selection for name in said if name != SERVED]
        return Comparison(self.facts, self.domain, said, terms, selections)

    def assuming(self, delay_ms: int, terms: Terms, work: Path) -> dict[str, dict[str, float]]:
        """Measures of each that ran to the end, and of the baseline, had every label taken so long.

        Parameters
        ----------
        work
            An empty folder.
        """
        specs = [one.spec for one in self.entrants.values() if not one.stopped]
        when = f"after {duration_text(delay_ms)}" if delay_ms else "at once"

        def told(name: str, share: float) -> None:
            self._told(f"{name}, labels {when}", share)

        other = Replay(self._tape.assuming(delay_ms, work), specs, self._settings, self._jobs, told)
        other._plans = self._plans  # the tape has the plans of all
        other.run(served=False)
        comparison = other.comparison(terms)
        return {name: comparison.measure(name).measures for name in comparison.names}

    def bits(self) -> Mapping[str, list[tuple[str, ...]]]:
        """What each model says of its probe examples in the end, to the last bit."""
        return {name: one.ran.bits for name, one in self.entrants.items()}

"""A replica: a book and all that follows it at one position, as a pure function of a prefix of the training log.

Every record is decoded once. The book judges it, then the watch takes it, then each model learns it: what is in one
of them does not depend on which others are there. `follower` drives it.
"""

from collections.abc import Sequence
from typing import Any

from stream_ml.core.drift.signals import Signal
from stream_ml.core.fold.batches import FoldSettings, Run, Single, prepare
from stream_ml.core.fold.book import Book, under
from stream_ml.core.fold.halt import Folded, FoldResult, Halt, Halted, Remake
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.fold.watch import Watch
from stream_ml.errors import FatalError
from stream_ml.records import LogRecord, Version


class Replica:
    """A book, a watch or none, and models by their lineage; one thread only.

    Parameters
    ----------
    settings
        Of the fold.
    book, watch, models
        Those that are at one position; without a book all are made new, with one model of the settings' lineage.
    """

    def __init__(
        self, settings: FoldSettings, book: Book | None = None, watch: Watch | None = None, *models: LineageModel
    ) -> None:
        self.settings = settings
        self.book, self._watch = book or Book(settings), watch
        self.models: dict[str, LineageModel] = {}
        self.interrupted = False  # in the middle of an example, by Ctrl-C or what nobody foresaw
        if book is None:
            self._watch, models = Watch(settings), (LineageModel(settings),)
        for model in models:
            self.join(model)

    def join(self, model: LineageModel) -> None:
        """Take a model that is at this position, or halted before it: it then waits for its command."""
        assert model.position == self.book.position or model.halt is not None  # noqa: S101 - another has other bits
        assert model.position <= self.book.position  # noqa: S101
        model.settings = model.settings._replace(payloads=self.settings.payloads)  # which know every schema of the log
        self.models[model.settings.lineage] = model

    @property
    def is_watched(self) -> bool:
        """Whether it has a watch."""
        return self._watch is not None

    @property
    def watch(self) -> Watch:
        """Its watch; only of a replica that has one."""
        assert self._watch is not None  # noqa: S101
        return self._watch

    @property
    def read_position(self) -> int:
        """Offset of the entry that is to be read next."""
        return self.book.read_position

    def prepare(self, records: Sequence[LogRecord]) -> list[Run | Single]:
        """Decode records of the log, as far as that goes without what was read before."""
        return prepare(self.settings, records)

    def fold_prepared(self, prepared: Sequence[Run | Single]) -> FoldResult:
        """Fold what was prepared, each once and in order, and say what came of it for the book.

        What came of it for each model, the model says: `halt`, `is_to_be_remade`.

        Returns
        -------
        FoldResult
            Folded; Halted where the book has halted now; Refold where a command has ended that halt: nothing after it
            was folded, `clear_halt` and read again from there.

        Raises
        ------
        FatalError
            An earlier call was interrupted (Ctrl-C, or what nobody foresaw): what it left is half of an example, or
            examples that count as seen and were not learned. Only a checkpoint helps.
        """
        if self.interrupted:
            raise FatalError("the fold was interrupted in the middle of an example", "start again, from a checkpoint")
        before = self.book.halt
        self.interrupted = True
        judged = self.book.judge(prepared)
        if self._watch is not None:
            self._watch.take(judged)
        for model in self.models.values():
            own = model.settings
            model.fold(judged if own.plan is self.settings.plan else under(own, judged))
        self.interrupted = False
        return self.book.result(before)

    def clear_halt(self) -> int:
        """Forget the book's halt that a command has ended; the offset from which the log is to be read again."""
        return self.book.clear_halt()

    def signals_after(self, position: int) -> list[Signal]:
        """What book, watch and models have found after this position, halts included, by its place in the log."""
        at_ms = self.book.written_at_ms
        found = self.watch.signals_after(position, self.book.halt, at_ms)
        for model in self.models.values():
            found += model.signals_after(position, at_ms)
        return sorted(found, key=lambda signal: signal.position)

    # --- a replica of one model ---

    @property
    def only(self) -> LineageModel:
        """The model of a replica that has one."""
        (found,) = self.models.values()
        return found

    @property
    def version(self) -> Version:
        """Version of its only model."""
        return self.only.version

    @property
    def position(self) -> int:
        """So many entries of the log are in its only model."""
        return self.only.position

    @property
    def halt(self) -> Halt | None:
        """Where learning is halted, in the book or in its only model; None while it is not."""
        return self.book.halt or self.only.halt

    def fold(self, records: Sequence[LogRecord]) -> FoldResult:
        """Fold committed records of the log into its only model, in order, each once.

        Returns
        -------
        FoldResult
            Remake where the model has to be made anew: the `successor` goes on. Else as of `fold_prepared`, with
            Halted for the model's halt as well.
        """
        before = self.only.halt
        return self.result(before, self.fold_prepared(self.prepare(records)))

    def result(self, before: Halt | None, of_book: FoldResult) -> FoldResult:
        """What folding came to for book and model, where the model was halted by `before`."""
        model = self.only
        if model.halt is not None and model.is_to_be_remade:
            return Remake(model.halt)
        if isinstance(of_book, Folded) and model.halt is not None and before is None:
            return Halted(model.halt)
        return of_book

    def successor(self, restored: "Replica") -> "Replica":
        """The replica to take the place of this one, whose only model is to be remade; fold it from its position on.

        Parameters
        ----------
        restored
            From a checkpoint at or before the halt; a new one is made where it is later than the last healthy example.
        """
        model = self.only.successor(restored.only)
        found = restored if model is restored.only else Replica(self.settings)
        found.models[model.settings.lineage] = model
        open_halts = found.book.halts.overrides.state()
        found.book.halts.overrides = self.book.halts.overrides.handed_on()
        found.book.halts.overrides.restore(open_halts)
        return found

    def state(self) -> dict[str, Any]:
        """Everything that a replica of one model has accumulated; only while not halted."""
        assert not self.interrupted  # noqa: S101
        return {"book": self.book.state(), "watch": self.watch.state(), "model": self.only.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.book.restore(state["book"])
        self.watch.restore(state["watch"])
        self.only.restore(state["model"])

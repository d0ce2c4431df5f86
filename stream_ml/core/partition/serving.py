"""Who answers: the model that scores a batch, and what is to be said of it beside its version."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from stream_ml.core.drift.signals import Signal
from stream_ml.core.fold.book import Book
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.fold.replica import Replica
from stream_ml.core.fold.watch import Watch
from stream_ml.core.partition.commit_metadata import last_signalled


class Serving(NamedTuple):
    """The model that answers now.

    Parameters
    ----------
    model
        Scores; its own position may be behind the book's.
    book, watch
        What the log says up to now.
    epoch
        Of the table of who serves; 0 where the log holds none.
    superseded
        Whether the table names another lineage, which is not ready here.
    ready
        Lineage and position of the models that are at the log's end.
    told
        Models whose findings are told as signals.
    """

    model: LineageModel
    book: Book
    watch: Watch
    epoch: int = 0
    superseded: bool = False
    told: Sequence[LineageModel] = ()
    ready: Sequence[tuple[str, int]] = ()

    @classmethod
    def of(cls, replica: Replica) -> "Serving":
        """The only model of a replica."""
        epoch = replica.book.facts.roles.table.epoch
        return cls(replica.only, replica.book, replica.watch, epoch=epoch, told=(replica.only,))

    def flags(self, *, stale: bool) -> tuple[str, ...]:
        """What every prediction of a batch says, in the order of the format."""
        said = {
            "stale": stale,
            "learning_halted": self.model.halt is not None or self.book.halt is not None,
            "superseded": self.superseded,
        }
        return tuple(name for name, is_so in said.items() if is_so)

    def signals_after(self, signalled: Mapping[str, int]) -> Iterator[Signal]:
        """What is not told yet, by the last position that was told of each origin."""
        at_ms = self.book.written_at_ms
        yield from self.watch.signals_after(last_signalled(signalled, self.watch.origin), self.book.halt, at_ms)
        for model in self.told:
            yield from model.signals_after(last_signalled(signalled, model.settings.lineage), at_ms)

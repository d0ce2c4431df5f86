"""A tape of the training log: labelled events alone, with their real delays, in the order in which they were learned.

Each example is asked about where it was served: what a model had learned by then is what the service had.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from stream_ml.config import Config
from stream_ml.core.fold.batches import FoldSettings, Run
from stream_ml.core.fold.book import Book, Judged
from stream_ml.core.log.seals import LogSeal
from stream_ml.errors import ConfigError
from stream_ml.follower.past.judged import judged_entries
from stream_ml.follower.restore import log_range
from stream_ml.offline.replay.tape import Tape, TapeWriter


class FromLog(NamedTuple):
    """A tape, the part of the log that it holds, and what is to be said of it; empty where all is well."""

    tape: Tape
    first: int
    end: int
    problem: str


def tape_of_log(
    config: Config,
    settings: Sequence[FoldSettings],
    seal: LogSeal | None,
    work: Path,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    said: Callable[[int, int], None] = lambda *_: None,
) -> FromLog:
    """Read the log once and write its tape.

    Parameters
    ----------
    settings
        Of models with different plans, one of each plan; what they are to know of schemas the first one's payloads
        know afterwards.
    from_ms, to_ms
        Label times: models begin untrained with the first label that is not earlier, and end before the first one that
        is not earlier than the second; None: no bound.
    said
        Told how far the log is read, and where it ends.

    Raises
    ------
    ConfigError
        The log does not begin at 0, or holds no example in that time.
    """
    topic = config.training_log_topic
    first, end = log_range(config)
    if first > 0:
        raise ConfigError(
            f"{topic} begins at {first:,}: what models have learned before is gone, so none can be replayed",
            "keep the log whole (retention.ms=-1), or replay files: stream-ml replay CONFIG --file FILE",
        )
    base, writer = settings[0], TapeWriter(work, settings)
    book, bounds = Book(base), _Bounds(from_ms, to_ms)
    for judged in judged_entries(config, base, book, end, seal):
        writer.add(bounds.within(judged))
        said(book.read_position, end)
        if bounds.is_over:
            break
    if not writer.examples:
        within = "" if from_ms is None and to_ms is None else " in that time"
        raise ConfigError(
            f"{topic} holds no example{within}: there is nothing to replay",
            f"it ends at {end:,}; --topics replays events and labels that nobody has scored yet",
        )
    problem = "" if book.halt is None else f"the log is halted at {book.halt.position:,}: {book.halt.message}"
    return FromLog(writer.close(), first, end, problem)


class _Bounds:
    """Lets through what stands between two label times."""

    def __init__(self, from_ms: int | None, to_ms: int | None) -> None:
        self._from_ms, self._to_ms = from_ms, to_ms
        self._began, self.is_over = from_ms is None, False

    def within(self, judged: Sequence[Judged]) -> list[Judged]:
        """What of these is to be learned."""
        if self._began and self._to_ms is None:
            return list(judged)
        found: list[Judged] = []
        for one in judged:
            if not self.is_over:
                self._take(one, found)
        return found

    def _take(self, one: Judged, found: list[Judged]) -> None:
        if isinstance(one.item, Run):
            run = one.item
            times = run.labelled.facts(run.first, run.first + run.size)["label_ms"].to_pylist()
            kept = [number for number, time_ms in enumerate(times) if self._keeps(time_ms)]
            if kept:  # one after another: it begins once, and ends once
                found.append(one._replace(item=run.some(kept[0], kept[-1] + 1)))
            return
        entry = one.item.entry
        if entry is None:
            return
        if entry.kind == "example":
            kept_one = self._keeps(entry.label_time_ms)
        else:
            kept_one = self._began or entry.kind == "command"  # one before may have frozen what comes
        if kept_one:
            found.append(one)

    def _keeps(self, label_ms: int) -> bool:
        """Note the time of an example; whether it stands between the two."""
        self._began = self._began or (self._from_ms is not None and label_ms >= self._from_ms)
        self.is_over = self.is_over or (self._began and self._to_ms is not None and label_ms >= self._to_ms)
        return self._began and not self.is_over

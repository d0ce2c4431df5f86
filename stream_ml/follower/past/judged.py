"""The training log as its book judges it, for who needs the whole of it once: replay, explain, a rollback."""

from collections.abc import Callable, Iterator

from stream_ml.config import Config
from stream_ml.core.fold.batches import FoldSettings, prepare
from stream_ml.core.fold.book import Book, Judged
from stream_ml.core.log.seals import LogSeal
from stream_ml.kafka.reading.log_reader import log_value
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.records import LogRecord


def judged_entries(
    config: Config,
    settings: FoldSettings,
    book: Book,
    end: int,
    seal: LogSeal | None,
    keep_alive: Callable[[], None] = lambda: None,
) -> Iterator[list[Judged]]:
    """What the book gives to be followed, from its position on up to this end, in pieces; nothing is given twice.

    Where it halts it reads on, and goes back once the halt's command was met, as a worker does. A halt that no command
    ends gives nothing any more: see `book.halt`.
    """
    while True:
        start, goes_back = book.read_position, False
        for batch in read_range(config, config.training_log_topic, 0, start, end, keep_alive=keep_alive):
            records = [LogRecord(record.offset, log_value(record, seal)) for record in batch]
            yield book.judge(prepare(settings, records))
            if book.halts.refold_from is not None:
                book.clear_halt()
                goes_back = True
                break
        if not goes_back:
            return

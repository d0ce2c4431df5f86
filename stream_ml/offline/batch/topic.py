"""Predictions of files into a topic, as the service publishes them: each once, however often the work is begun."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from stream_ml.core.partition.predictions import PredictionCodec
from stream_ml.errors import ConfigError
from stream_ml.offline.batch.scoring import ANY_PARTITION, Piece
from stream_ml.offline.batch.sinks import Done, refused_line
from stream_ml.offline.rows import FileRefused
from stream_ml.records import Block


class Writes(Protocol):
    """Writes records and how far the work is, both or neither."""

    progress: dict[str, Any]

    def write(self, block: Block, progress: dict[str, Any]) -> None:
        """Records, and the progress with them."""

    def close(self) -> None:
        """Let go of what it writes to."""


class TopicSink:
    """Predictions to a topic of Kafka, a piece in one transaction; keys as of the events.

    Parameters
    ----------
    version
        By which all of it is scored; it stands in the progress, so that a later process goes on with the same.
    names
        Of files, or of partitions of the events, in the order in which they are given.

    Raises
    ------
    FileRefused
        All of it was written before.
    ConfigError
        The file of what is refused cannot be written.
    """

    def __init__(
        self,
        writer: Writes,
        codec: PredictionCodec,
        topic: str,
        version: str,
        names: Sequence[str],
        refused_file: Path,
    ) -> None:
        self._writer, self._codec, self._topic = writer, codec, topic
        self._version, self._names = version, list(names)
        self.refused_file = refused_file
        said = writer.progress
        if said.get("end"):
            raise FileRefused(
                f"the {said['predictions']:,} predictions of this are in {topic} already",
                "name another topic, or another version by --at",
            )
        counts = zip(self._names, said.get("rows", []), strict=False)
        self.done = Done(dict(counts), int(said.get("predictions", 0)), int(said.get("refused", 0)))
        self._refused_bytes = int(said.get("refused_bytes", 0))
        try:
            with refused_file.open("ab") as file:  # what was refused behind the last transaction comes again
                file.truncate(self._refused_bytes)
        except OSError as error:
            raise ConfigError(f"{refused_file} cannot be written: {error.strerror}", "go to another folder") from error

    def take(self, file: str, piece: Piece) -> None:
        """One piece of a file: what is refused to the disk, then its predictions with the progress."""
        if piece.refused:
            with self.refused_file.open("ab") as out:
                out.writelines(map(refused_line, piece.refused))
                out.flush()
                os.fsync(out.fileno())
                self._refused_bytes = out.tell()
        before = self.done
        done = Done(
            {**before.rows, file: before.rows.get(file, 0) + piece.rows},
            before.predictions + len(piece.taken),
            before.refused + len(piece.refused),
        )
        self._writer.write(piece.records(self._codec, self._topic), self._progress(done))
        self.done = done

    def _progress(self, done: Done, *, end: bool = False) -> dict[str, Any]:
        rows = [done.rows.get(name, 0) for name in self._names]
        while rows and not rows[-1]:
            rows.pop()
        counts = {"predictions": done.predictions, "refused": done.refused, "refused_bytes": self._refused_bytes}
        return {"version": self._version, "rows": rows, **counts, **({"end": True} if end else {})}

    def finish(self) -> None:
        """Say that all is there: the same is not written a second time."""
        self._writer.write(Block.empty(self._topic, ANY_PARTITION), self._progress(self.done, end=True))
        if not self.done.refused:
            self.refused_file.unlink(missing_ok=True)

    def close(self) -> None:
        """Let another process go on."""
        self._writer.close()

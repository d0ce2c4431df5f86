"""Predictions of files into a topic, as the service publishes them: each once, however often the work is begun."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from stream_ml.core.partition.predictions import PredictionCodec
from stream_ml.errors import ConfigError
from stream_ml.offline.batch.scoring import ANY_PARTITION, Piece
from stream_ml.offline.batch.sinks import AlreadyDone, Done, refused_line
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
    ranges
        What is left of those partitions, by number.

    Raises
    ------
    AlreadyDone
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
        refused_file: Path,
        names: Sequence[str],
        ranges: Mapping[int, tuple[int, int]] = MappingProxyType({}),
    ) -> None:
        self._writer, self._codec, self._topic, self._version = writer, codec, topic, version
        self._names, self._ranges, self.refused_file, self.problem = list(names), dict(ranges), refused_file, ""
        said = writer.progress
        if said.get("end"):
            raise AlreadyDone(
                f"the {said['predictions']:,} predictions of this are in {topic} already",
                "name another topic, or another version by --at",
            )
        self.done = Done(
            upto=dict(zip(self._names, said.get("at", []), strict=False)),
            rows=int(said.get("rows", 0)),
            predictions=int(said.get("predictions", 0)),
            refused=int(said.get("refused", 0)),
        )
        self._refused_bytes = int(said.get("refused_bytes", 0))
        try:
            with refused_file.open("ab") as file:
                there = file.tell()
                if there < self._refused_bytes:  # begun in another folder, or on another machine
                    self.problem = f"{refused_file} begins here: rows refused before are where this was begun"
                    self._refused_bytes = there
                file.truncate(self._refused_bytes)  # what was refused behind the last transaction comes again
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
        done = self.done.after(file, piece)
        self._writer.write(piece.records(self._codec, self._topic), self._progress(done))
        self.done = done

    def _progress(self, done: Done, *, end: bool = False) -> dict[str, Any]:
        counts = {"rows": done.rows, "predictions": done.predictions, "refused": done.refused}
        found = {"version": self._version, **counts, "refused_bytes": self._refused_bytes}
        if end:
            return {**found, "end": True}
        at = [done.upto.get(name, 0) for name in self._names]
        while at and not at[-1]:
            at.pop()
        if not self._ranges:
            return {**found, "at": at}
        pairs = zip(self._names, self._ranges.items(), strict=True)
        left = [[number, done.upto.get(name, first), stop] for name, (number, (first, stop)) in pairs]
        return {**found, "left": [one for one in left if one[1] < one[2]]}

    def finish(self) -> None:
        """Say that all is there: the same is not written a second time."""
        self._writer.write(Block.empty(self._topic, ANY_PARTITION), self._progress(self.done, end=True))
        if not self.done.refused:
            self.refused_file.unlink(missing_ok=True)

    def close(self) -> None:
        """Let another process go on."""
        self._writer.close()

"""Where predictions of files go: a Parquet file, JSON lines, or a table of a database.

What goes to a file is written in parts beside it, each whole before it is named; the result appears at once, when all
are there. So nothing half is called done, and the same command goes on where it was ended.
"""

import fcntl
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
from pyarrow import parquet

from stream_ml.core.avro.to_json import jsonable
from stream_ml.errors import ConfigError, FatalError
from stream_ml.offline.batch.scoring import SCHEMA, Piece
from stream_ml.offline.rows import FileRefused, Refused
from stream_ml.storage.files import replaced

PART_ROWS = 131_072
WORK = "work.json"
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
KEY = "event_id"


class Done(NamedTuple):
    """What was written by now: rows read of each file, predictions, and rows that were refused."""

    rows: dict[str, int]
    predictions: int
    refused: int


class Sink(Protocol):
    """Takes pieces in their order.

    Attributes
    ----------
    done
        What it has taken durably; what was read after that is to be given again.
    refused_file
        Where rows go that cannot be used.
    """

    done: Done
    refused_file: Path

    def take(self, file: str, piece: Piece) -> None:
        """One piece of a file."""

    def finish(self) -> None:
        """All were given: only now is there a result."""

    def close(self) -> None:
        """Let go of it, finished or not: the same work may go on later."""


class FileSink:
    """Predictions to a Parquet file or JSON lines.

    Parameters
    ----------
    of
        What identifies the work: files, and the version. Parts of another work are not gone on with.

    Raises
    ------
    ConfigError
        The result is there, parts of another work are, or its ending names no form.
    """

    def __init__(self, out: Path, of: dict[str, Any]) -> None:
        if out.suffix.lower() not in (".parquet", ".jsonl"):
            raise ConfigError(f"{out} is neither .parquet nor .jsonl", "name a file that ends so, or a database")
        if out.exists():
            raise FileRefused(f"{out} is there already", "name another file, or remove it")
        self._out, self._of, self._lock = out, of, -1
        self.refused_file = out.with_name(f"{out.name}.refused.jsonl")
        self._folder = _parts_of(out)
        self._held: list[pa.RecordBatch] = []
        self._refused: list[Refused] = []
        self._counts: Counter[str] = Counter()
        self.done = Done({}, 0, 0)
        self._number = 0
        try:
            self._begin()
        except OSError as error:
            self.close()
            raise ConfigError(f"{out} cannot be written: {error.strerror}", "name another --out") from error
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        self._out.parent.mkdir(parents=True, exist_ok=True)
        known = self._folder / WORK
        self._folder.mkdir(exist_ok=True, mode=0o700)
        self._lock = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"another process writes {self._out}", "wait for it, or name another file") from None
        if known.is_file():
            said = json.loads(known.read_text())
            if said != self._of:
                raise FileRefused(
                    f"{self._folder} holds parts of another run: of other files, or version {said.get('version')}",
                    f"go on with --at {said.get('version')}, or remove that folder",
                )
        else:
            replaced(known, json.dumps(self._of).encode(), durable=True)
        for path in sorted(self._folder.glob("*.done.json")):
            said = json.loads(path.read_text())
            rows = {name: max(count, self.done.rows.get(name, 0)) for name, count in said["rows"].items()}
            predictions, refused = self.done.predictions + said["predictions"], self.done.refused + said["refused"]
            self.done = Done({**self.done.rows, **rows}, predictions, refused)
            self._number = int(path.name.partition(".")[0]) + 1

    def take(self, file: str, piece: Piece) -> None:
        """One piece of a file."""
        self._held.append(piece.columns())
        self._refused += piece.refused
        self._counts[file] += piece.rows
        if self._counts.total() >= PART_ROWS:
            self._flush()

    def _flush(self) -> None:
        """Make a part of what is held: its predictions, what was refused, and then that it is done."""
        if not self._held:
            return
        stem = self._folder / f"{self._number:06d}"
        table = pa.Table.from_batches(self._held, SCHEMA)
        draft = stem.with_suffix(".draft")
        parquet.write_table(table, draft)
        _flushed(draft)
        draft.rename(stem.with_suffix(".parquet"))
        refused = self._refused
        replaced(stem.with_suffix(".refused"), b"".join(map(refused_line, refused)), durable=True)
        rows = dict(Counter(self.done.rows) + self._counts)
        said = {"rows": rows, "predictions": table.num_rows, "refused": len(refused)}
        replaced(stem.with_suffix(".done.json"), json.dumps(said).encode(), durable=True)
        self.done = Done(rows, self.done.predictions + table.num_rows, self.done.refused + len(refused))
        self._number += 1
        self._held, self._refused, self._counts = [], [], Counter()

    def finish(self) -> None:
        """Put the parts together; the result is there at once, and what was refused before it."""
        self._flush()
        numbers = range(self._number)
        draft = self._folder / "whole.draft"
        self._put_together(draft, [self._folder / f"{number:06d}.parquet" for number in numbers])
        _flushed(draft)
        self._put_refused(numbers)
        try:
            os.link(draft, self._out)
        except FileExistsError:
            raise FileRefused(f"{self._out} is there by now: another process made it", "name another file") from None
        shutil.rmtree(self._folder)
        self.close()

    def close(self) -> None:
        """Let another process go on."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _put_refused(self, numbers: Iterable[int]) -> None:
        """The file of what was refused, whole, or none: what an earlier run has left there goes."""
        if not self.done.refused:
            self.refused_file.unlink(missing_ok=True)
            return
        draft = self._folder / "refused.draft"
        with draft.open("wb") as file:
            for number in numbers:
                file.write((self._folder / f"{number:06d}.refused").read_bytes())
        _flushed(draft)
        draft.replace(self.refused_file)

    def _put_together(self, draft: Path, parts: Sequence[Path]) -> None:
        if self._out.suffix.lower() == ".parquet":
            with parquet.ParquetWriter(draft, SCHEMA) as writer:
                for part in parts:
                    writer.write_table(parquet.read_table(part))
            return
        with draft.open("wb") as file:
            for part in parts:
                for row in rows_of(parquet.read_table(part)):
                    file.write(json.dumps(row).encode() + b"\n")


def rows_of(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Predictions as JSON has them."""
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            yield jsonable(row)


def refused_line(one: Refused) -> bytes:
    """A row that cannot be used, as a line of JSON."""
    return json.dumps(one.plain(), default=str).encode() + b"\n"


def _flushed(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


class TableSink:
    """Predictions to a table of a database, upserted by the event's id; made where it is not there.

    Raises
    ------
    ConfigError
        SQLAlchemy, or a driver, is missing; or the database does not let this user in.
    """

    def __init__(self, url: str, table: str, refused: Path) -> None:
        try:
            import sqlalchemy
        except ModuleNotFoundError:
            raise ConfigError(
                "a database is written to with SQLAlchemy, which is not installed", 'pip install "stream-ml[database]"'
            ) from None
        if _TABLE.fullmatch(table) is None:
            raise ConfigError(f"{table!r} names no table", "letters, digits and _, such as predictions")
        self._sql, self.refused_file = sqlalchemy, refused
        self.refused_file.unlink(missing_ok=True)  # of an earlier run
        self._table_name = table
        try:
            self._engine = sqlalchemy.create_engine(url)
        except (sqlalchemy.exc.SQLAlchemyError, ValueError):  # whose words may repeat a password
            raise ConfigError("--out is no address of a database", "postgresql://USER:PASSWORD@HOST/DATABASE") from None
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"the driver {error.name} is not installed", 'pip install "stream-ml[database]"'
            ) from None
        if self._engine.dialect.name not in ("postgresql", "sqlite"):
            raise ConfigError(f"{self._engine.dialect.name} is not supported", "PostgreSQL and SQLite are")
        try:
            self._table = self._made(table)
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise ConfigError(f"the database cannot be used: {_words(error)}", "mend its address or rights") from None
        self.done = Done({}, 0, 0)

    def _made(self, name: str) -> Any:
        sql = self._sql
        types = {"event_time": sql.DateTime(timezone=True), "score": sql.Double(), "value": sql.Double()}
        numbers = ("position", "examples_learned", "row")
        columns = [
            sql.Column(
                field.name,
                types.get(field.name, sql.BigInteger() if field.name in numbers else sql.Text()),
                primary_key=field.name == KEY,
                nullable=field.nullable,
            )
            for field in SCHEMA
        ]
        table = sql.Table(name, sql.MetaData(), *columns)
        table.metadata.create_all(self._engine)
        return table

    def take(self, file: str, piece: Piece) -> None:
        """One piece of a file, in one transaction."""
        predictions = piece.columns()
        rows = list({row[KEY]: row for row in predictions.to_pylist()}.values())  # an id once: the last one
        try:
            with self._engine.begin() as connection:
                for first in range(0, len(rows), 1_000):
                    connection.execute(self._upsert(), rows[first : first + 1_000])
        except self._sql.exc.SQLAlchemyError as error:
            raise FatalError(
                f"{self._table_name} could not be written: {_words(error)}", "the same command writes all rows again"
            ) from None
        if piece.refused:
            with self.refused_file.open("ab") as out:
                out.writelines(map(refused_line, piece.refused))
        before = self.done
        self.done = Done(
            {**before.rows, file: before.rows.get(file, 0) + piece.rows},
            before.predictions + predictions.num_rows,
            before.refused + len(piece.refused),
        )

    def _upsert(self) -> Any:
        dialect = import_module(f"sqlalchemy.dialects.{self._engine.dialect.name}")
        statement = dialect.insert(self._table)
        others = {name: statement.excluded[name] for name in SCHEMA.names if name != KEY}
        return statement.on_conflict_do_update(index_elements=[KEY], set_=others)

    def finish(self) -> None:
        """Nothing is left to be done: each piece was committed."""
        self.close()

    def close(self) -> None:
        """Leave the database."""
        self._engine.dispose()


def _words(error: Exception) -> str:
    """What a database says, without the statement and its address, which may hold a password."""
    first = str(getattr(error, "orig", None) or error).splitlines()
    return (first[0] if first else type(error).__name__)[:200]


def version_begun(out: Path) -> str | None:
    """The version by which a run began that was ended in the middle; None where there is none."""
    try:
        found: str = json.loads((_parts_of(out) / WORK).read_text())["version"]
    except (OSError, ValueError, KeyError):
        return None
    return found


def discard_stale(out: Path, files: Iterable[Path], ranges: Mapping[int, tuple[int, int]]) -> None:
    """Remove what a run has left that was of other files or ranges, or of these as they were before."""
    parts = _parts_of(out)
    try:
        said = json.loads((parts / WORK).read_text())
    except (OSError, ValueError):
        return
    if said != work_of(files, said.get("version", ""), ranges):
        shutil.rmtree(parts)


def _parts_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.parts")


def work_of(files: Iterable[Path], version: str, ranges: Mapping[int, tuple[int, int]] | None = None) -> dict[str, Any]:
    """What identifies the scoring of some files, or of ranges of the events' topic by partition, by one version."""
    sizes = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    offsets = {str(number): list(bounds) for number, bounds in (ranges or {}).items()}
    return {"format": 1, "files": sizes, "ranges": offsets, "version": version}

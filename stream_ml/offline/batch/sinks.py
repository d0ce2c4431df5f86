"""Where predictions of files go: a Parquet file, JSON lines, or a table of a database.

What goes to a file is written in parts beside it, each whole before it is named; the result appears at once, when all
are there. So nothing half is called done, and the same command goes on where it was ended.
"""

import fcntl
import json
import os
import re
import shutil
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
FORMAT = 2  # of it
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
KEY = "event_id"


class Done(NamedTuple):
    """What was written by now.

    Parameters
    ----------
    upto
        Of each file so many rows are read; of a partition of a topic the next offset.
    """

    upto: dict[str, int]
    rows: int
    predictions: int
    refused: int

    def after(self, file: str, piece: Piece) -> "Done":
        """And one piece more."""
        return Done(
            {**self.upto, file: piece.upto},
            self.rows + piece.rows,
            self.predictions + len(piece.taken),
            self.refused + len(piece.refused),
        )


NOTHING = Done({}, 0, 0, 0)


class AlreadyDone(FileRefused):
    """The result of this work is there."""


class Sink(Protocol):
    """Takes pieces in their order.

    Attributes
    ----------
    done
        What it has taken durably; what was read after that is to be given again.
    refused_file
        Where rows go that cannot be used.
    problem
        What is to be said of that file; empty where nothing is.
    """

    done: Done
    refused_file: Path
    problem: str

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
        What identifies the work, as of `work_of`. Parts of another work are not gone on with.
    replaces
        Whether a result that is there is to go, once this one is whole.

    Raises
    ------
    AlreadyDone
        The result is there.
    ConfigError
        Parts of another work are there, or the result's ending names no form.
    """

    problem = ""

    def __init__(self, out: Path, of: dict[str, Any], *, replaces: bool = False) -> None:
        if out.suffix.lower() not in (".parquet", ".jsonl"):
            raise ConfigError(
                f"{out} is neither .parquet nor .jsonl", "name a file that ends so, topic:NAME, or a database"
            )
        if out.exists() and not replaces:
            raise AlreadyDone(f"{out} is there already", "name another file, or remove it")
        self._out, self._of, self._replaces, self._lock = out, of, replaces, -1
        self.refused_file = out.with_name(f"{out.name}.refused.jsonl")
        self._folder = _parts_of(out)
        self._held: list[pa.RecordBatch] = []
        self._refused: list[Refused] = []
        self.done = self._taken = NOTHING  # durably; and with what is held
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
            self.done = self._taken = Done(**json.loads(path.read_text()))
            self._number = int(path.name.partition(".")[0]) + 1

    def take(self, file: str, piece: Piece) -> None:
        """One piece of a file."""
        self._held.append(piece.columns())
        self._refused += piece.refused
        self._taken = self._taken.after(file, piece)
        if self._taken.rows - self.done.rows >= PART_ROWS:
            self._flush()

    def _flush(self) -> None:
        """Make a part of what is held: its predictions, what was refused, and then that it is done."""
        if not self._held:
            return
        stem = self._folder / f"{self._number:06d}"
        draft = stem.with_suffix(".draft")
        parquet.write_table(pa.Table.from_batches(self._held, SCHEMA), draft)
        _flushed(draft)
        draft.rename(stem.with_suffix(".parquet"))
        refused = b"".join(map(refused_line, self._refused))
        replaced(stem.with_suffix(".refused"), refused, durable=True)
        replaced(stem.with_suffix(".done.json"), json.dumps(self._taken._asdict()).encode(), durable=True)
        self.done = self._taken
        self._number += 1
        self._held, self._refused = [], []

    def finish(self) -> None:
        """Put the parts together; the result is there at once, and what was refused before it."""
        self._flush()
        numbers = range(self._number)
        draft = self._folder / "whole.draft"
        self._put_together(draft, [self._folder / f"{number:06d}.parquet" for number in numbers])
        _flushed(draft)
        self._put_refused(numbers)
        try:
            if self._replaces:
                draft.replace(self._out)
            else:
                os.link(draft, self._out)
        except FileExistsError:
            raise AlreadyDone(f"{self._out} is there by now: another process made it", "name another file") from None
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

    problem = ""

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
        self.done = NOTHING

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
        rows = list({row[KEY]: row for row in piece.columns().to_pylist()}.values())  # an id once: the last one
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
        self.done = self.done.after(file, piece)

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


def begun(out: Path) -> dict[str, Any] | None:
    """The work, as of `work_of`, that was begun and ended in the middle; None where there is none."""
    try:
        found: dict[str, Any] = json.loads((_parts_of(out) / WORK).read_text())
    except (OSError, ValueError):
        return None
    return found if found.get("format") == FORMAT else None


def discard_stale(out: Path, asked: dict[str, Any]) -> None:
    """Remove what a run has left for which something else was asked, or the same files as they were before."""
    said = begun(out)
    if _parts_of(out).is_dir() and (said is None or said["asked"] != asked):
        shutil.rmtree(_parts_of(out))


def _parts_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.parts")


def asked_of(files: Iterable[Path], key: str, at: str | None) -> dict[str, Any]:
    """What was asked for: files as they are, or events under a key; and the model or version as typed."""
    sizes = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return {"files": sizes, "key": key, "at": at}


def work_of(asked: dict[str, Any], version: str, ranges: Mapping[int, tuple[int, int]] | None = None) -> dict[str, Any]:
    """What identifies a work: what was asked for, the version, and of events the offsets by partition."""
    offsets = {str(number): list(bounds) for number, bounds in (ranges or {}).items()}
    return {"format": FORMAT, "asked": asked, "ranges": offsets, "version": version}

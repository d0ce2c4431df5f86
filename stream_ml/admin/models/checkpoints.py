"""Checkpoints for who operates them: which there are, whether they are right, pinned, brought elsewhere, and removed.

Nothing here asks Kafka: a folder named after a lineage holds its checkpoints, wherever the log is.
"""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from stream_ml.config import Config
from stream_ml.errors import CheckpointError, ConfigError
from stream_ml.storage.checkpoints import HEADER_BYTES_MAX, CheckpointStore
from stream_ml.storage.keys import key_of
from stream_ml.storage.retention import pin, pins_of, unpin

NAME_CHARS = 40  # of a pin


class Shown(NamedTuple):
    """One checkpoint, as its sealed header says; `problem` says what is wrong with it, else it is empty."""

    lineage: str
    position: int
    bytes: int
    age_s: float
    examples_learned: int | None
    pins: list[str]
    problem: str


class Checkpoints:
    """The checkpoints of one app's directory."""

    def __init__(self, config: Config) -> None:
        self._keep = config.checkpoints.keep
        self.directory = config.path(config.checkpoints.directory)
        self._key = key_of(config)
        if self._key is None and not config.checkpoints.unsealed:
            raise ConfigError(
                f"there is no key by which the checkpoints in {self.directory} could be believed",
                "name it: checkpoints.key_file",
            )

    def store(self, lineage: str) -> CheckpointStore:
        """That of a lineage, whether it is there or not."""
        return CheckpointStore(self.directory, lineage, keep=self._keep, key=self._key)

    def lineages(self, beginning: str = "") -> list[str]:
        """Lineages that have a folder; ConfigError where none begins so."""
        there = self.directory.iterdir() if self.directory.is_dir() else ()
        found = sorted(
            folder.name for folder in there if len(folder.name) == 16 and folder.is_dir() and not folder.is_symlink()
        )
        wanted = [name for name in found if name.startswith(beginning)]
        if beginning and not wanted:
            raise ConfigError(
                f"no checkpoints of {beginning} are in {self.directory}", "stream-ml checkpoints ls CONFIG"
            )
        return wanted

    def of(self, version: str) -> tuple[CheckpointStore, str, int]:
        """Store, lineage and position out of ``LINEAGE/POSITION``; ConfigError where there is no such checkpoint."""
        beginning, slash, digits = version.partition("/")
        number = digits.replace(",", "").replace("_", "")
        if not slash or not number.isdecimal() or not beginning:
            raise ConfigError(f"{version!r} names no checkpoint", "write LINEAGE/POSITION, as checkpoints ls has it")
        names, position = self.lineages(beginning), int(number)
        there = [name for name in names if position in self.store(name).positions()]
        if len(there) != 1:
            what = "no checkpoint" if not there else f"{len(there)} checkpoints"
            raise ConfigError(f"{what} of {beginning} at {position:,}", "stream-ml checkpoints ls CONFIG")
        return self.store(there[0]), there[0], position

    def shown(self, beginning: str = "") -> Iterator[Shown]:
        """Every checkpoint, newest first of each lineage; each is read whole, so what is damaged is found."""
        for lineage in self.lineages(beginning):
            store = self.store(lineage)
            pins = pins_of(store.folder)
            for position in store.positions():
                size, learned, problem, age_s = store.size(position), None, "", 0.0
                try:
                    header = store.read(position).header
                    learned = header.get("examples_learned")
                    age_s = max(0.0, time.time() - header["created_at"] / 1000)
                except CheckpointError as error:
                    problem = error.message
                yield Shown(
                    lineage=lineage,
                    position=position,
                    bytes=size,
                    age_s=age_s,
                    examples_learned=learned,
                    pins=pins.get(position, []),
                    problem=problem,
                )

    # --- pins ---

    def pin(self, version: str, name: str, why: str) -> None:
        """Keep a checkpoint whatever comes; ConfigError where it is not there, or the name is none."""
        store, _, position = self.of(version)
        store.read(position)
        if not (0 < len(name) <= NAME_CHARS and name.replace("-", "").replace("_", "").isalnum()):
            raise ConfigError(f"{name!r} cannot name a pin", f"letters, digits, - and _; {NAME_CHARS} at most")
        pin(store.folder, position, name, why)

    def unpin(self, version: str, name: str) -> None:
        """Let one go with the others of its age; ConfigError where it has no such pin."""
        store, lineage, position = self.of(version)
        try:
            unpin(store.folder, position, name)
        except FileNotFoundError:
            raise ConfigError(f"{lineage}/{position} has no pin {name}", "stream-ml checkpoints ls CONFIG") from None

    # --- elsewhere ---

    def write(self, version: str, path: Path) -> int:
        """Copy one into a file that is not there; its bytes. CheckpointError where it is damaged."""
        store, _, position = self.of(version)
        store.read(position)
        try:
            with store.raw(position) as source, path.open("xb") as target:
                shutil.copyfileobj(source, target)
                return target.tell()
        except FileExistsError:
            raise ConfigError(f"{path} is there already", "name another file") from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from error

    def take(self, path: Path) -> tuple[str, int]:
        """Take one from a file, once its seal was found right; lineage and position.

        Raises
        ------
        CheckpointError
            It is none, is damaged, or not sealed with this app's key.
        """
        try:
            with path.open("rb") as file:
                said: Any = json.loads(file.readline(HEADER_BYTES_MAX))
                lineage, position = str(said["lineage"]), int(said["position"])
                if len(lineage) != 16 or not lineage.isalnum() or position < 0:
                    raise ValueError
                file.seek(0)
                with self.store(lineage).adopting(position) as target:
                    shutil.copyfileobj(file, target)
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, RecursionError):
            raise CheckpointError(f"{path} is no checkpoint of a model") from None
        return lineage, position

    # --- removing ---

    def unwanted(self, wanted: set[str], older_s: float) -> list[tuple[str, int, int]]:
        """Checkpoints that may go: of lineages that nobody wants, not pinned, old enough; with their bytes."""
        return [
            (one.lineage, one.position, one.bytes)
            for one in self.shown()
            if one.lineage not in wanted and not one.pins and (one.problem or one.age_s > older_s)
        ]

    def remove(self, lineage: str, position: int) -> None:
        """Remove one."""
        store = self.store(lineage)
        (store.folder / store.name_of(position)).unlink(missing_ok=True)

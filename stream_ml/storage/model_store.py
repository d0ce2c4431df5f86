"""Models by lineage on the own disk: specification, configuration and source, so that an older one can be built again.

``<directory>/<lineage>/`` holds ``spec.json``, whose digest is the lineage's, ``overlay.json`` with the sections of the
configuration that it was made from, ``environment.json``, and ``sources/``. Nothing that is there is ever changed.
"""

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stream_ml.core.avro.json_text import read_json
from stream_ml.core.model.lineage import canonical, digest_of
from stream_ml.errors import StreamMLError
from stream_ml.storage.files import draft_of, read_small, write_all

FILE_BYTES_MAX = 4 * 2**20  # of a specification, and of a source
SOURCES_MAX = 1_000
_SOURCE = re.compile(r"[\w-]+(/[\w-]+)*\.py")  # a path below the folder, and nothing that leads out of it


class ModelStoreError(StreamMLError):
    """A model's folder is missing, or not what it should be; another way to the model helps, or another model."""


class StoredModel(NamedTuple):
    """A model as it was kept.

    Parameters
    ----------
    spec
        Everything that the lineage covers.
    overlay
        Sections of the configuration: `features`, `model`, `learning`.
    sources
        Text of each file that was beside the configuration, by path.
    environment
        Versions of what made it.
    """

    spec: dict[str, Any]
    overlay: dict[str, Any]
    sources: Mapping[str, bytes]
    environment: dict[str, Any]

    def check(self, digest: str) -> None:
        """See that this is the model with this digest, and its source what the specification says.

        Raises
        ------
        ModelStoreError
            It is not.
        """
        if digest_of(self.spec) != digest:
            raise ModelStoreError("its specification is another one than the log declares")
        named = {path: said for path, said in self.spec["sources"].items() if is_source(path)}
        for path, said in named.items():
            text = self.sources.get(path)
            if text is None:
                raise ModelStoreError(f"its source {path} is missing")
            if hashlib.sha256(text).hexdigest() != said:
                raise ModelStoreError(f"its source {path} was changed: it is another one than the specification says")
        if strangers := sorted(set(self.sources) - set(named)):
            raise ModelStoreError(f"it holds {strangers[0]}, which its specification does not name")


def is_source(path: str) -> bool:
    """Whether a name in a specification is that of a file below the configuration's folder."""
    return _SOURCE.fullmatch(path) is not None


class ModelStore:
    """The models of one directory; safe for several processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def folder(self, lineage: str) -> Path:
        """Where a model is, or would be."""
        return self.directory / lineage

    def lineages(self) -> list[str]:
        """All that are there, by their names."""
        there = self.directory.iterdir() if self.directory.is_dir() else ()
        return sorted(folder.name for folder in there if folder.is_dir() and not folder.name.startswith("."))

    def keep(self, lineage: str, model: StoredModel) -> str:
        """Keep a model that is not there yet; why it cannot be kept, in words, else nothing."""
        folder = self.folder(lineage)
        if folder.is_dir():
            return self._damage(lineage, model)
        if not all(map(is_source, model.sources)):
            return f"model {lineage} cannot be kept: a source leads out of its folder"
        draft = draft_of(folder)
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft.mkdir(mode=0o700)
            self._fill(draft, model)
            try:
                draft.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was first
                    raise
        except OSError as error:
            return f"model {lineage} cannot be kept in {self.directory}: {error.strerror}"
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return ""

    def _damage(self, lineage: str, model: StoredModel) -> str:
        """What is wrong with a model that is there; empty where it is whole."""
        try:
            self.read(lineage).check(digest_of(model.spec))
        except ModelStoreError as error:
            return f"{self.folder(lineage)} is damaged, remove it: {error.message}"
        return ""

    def _fill(self, draft: Path, model: StoredModel) -> None:
        texts = {
            "spec.json": canonical(model.spec),
            "overlay.json": canonical(model.overlay),
            "environment.json": canonical(model.environment),
        }
        files = {name: text.encode() for name, text in texts.items()}
        files |= {f"sources/{path}": text for path, text in model.sources.items()}
        write_all(draft, files)

    def read(self, lineage: str) -> StoredModel:
        """A model as it stands there; nothing of it is believed yet: see `StoredModel.check`.

        Raises
        ------
        ModelStoreError
            It is not there, or cannot be read.
        """
        folder = self.folder(lineage)
        if not folder.is_dir():
            raise ModelStoreError(f"it is not in the model store {self.directory}")
        try:
            texts = [read_small(folder / f"{name}.json", FILE_BYTES_MAX) for name in ("spec", "overlay", "environment")]
            spec, overlay, environment = (read_json(text, 1_000) for text in texts)
            if not all(isinstance(one, dict) for one in (spec, overlay, environment)):
                raise ValueError("is no JSON object")
            paths = sorted(path for path in (folder / "sources").rglob("*.py"))
            if len(paths) > SOURCES_MAX:
                raise ValueError(f"holds more than {SOURCES_MAX:,} files")
            sources = {
                path.relative_to(folder / "sources").as_posix(): read_small(path, FILE_BYTES_MAX) for path in paths
            }
        except (OSError, ValueError) as error:
            words = (error.strerror if isinstance(error, OSError) else str(error)) or str(error)
            raise ModelStoreError(f"{folder} cannot be read: {words}") from error
        return StoredModel(spec, overlay, sources, environment)

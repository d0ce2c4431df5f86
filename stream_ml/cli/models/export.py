"""``models export``, ``local``, ``merge``: a model that leaves its service, and what was taken comes back."""

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stream_ml.cli.options import configured
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.errors import ConfigError, StreamMLError

if TYPE_CHECKING:
    from stream_ml.admin.models.log import ModelLog
    from stream_ml.core.fold.lineage_model import LineageModel
    from stream_ml.follower.recipes import Recipe
    from stream_ml.offline.local import LocalApp

Key = Annotated[Path | None, typer.Option(help="File with the key of the export; default: DIRECTORY.key beside it.")]


@configured
def export(
    config: Config,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name, or the beginning of its lineage.")],
    directory: Annotated[Path, typer.Argument(help="A folder, or of onnx and json a file, that is not there yet.")],
    key_file: Key = None,
    at: Annotated[
        int | None,
        typer.Option(
            metavar="POSITION", help="The newest checkpoint up to there; of onnx and json this version.", min=0
        ),
    ] = None,
    form: Annotated[
        Literal["folder", "mlflow", "onnx", "json"],
        typer.Option("--format", help="folder: for stream-ml local and LocalApp.load; or one of others."),
    ] = "folder",
) -> None:
    """Write a model out of its service: a folder for `stream-ml local` and LocalApp.load, an MLflow model, ONNX, or
    JSON for people. It is for scoring elsewhere: only a folder learns on, and what it took can be merged.
    """
    from stream_ml.admin.models.export import export as write
    from stream_ml.admin.models.log import ModelLog
    from stream_ml.app.assemble import assemble
    from stream_ml.app.trial import checked
    from stream_ml.cli.run import fix_hash_seed
    from stream_ml.follower.recipes import Recipes
    from stream_ml.storage.files import own_key

    log = ModelLog(config)
    fix_hash_seed(log.facts.log)
    known = log.named(name)
    recipe = Recipes(checked(assemble(config)), log.facts, log.seal).of(known.lineage, known)
    if isinstance(recipe, str):
        raise ConfigError(f"{known.name} ({known.lineage}) cannot be had here: {recipe}")
    if not directory.absolute().parent.is_dir():
        raise ConfigError(f"the folder {directory.absolute().parent} does not exist")
    if form in ("onnx", "json"):
        _write_file(log, recipe, directory, at, form)
        return
    if form == "mlflow":
        _write_mlflow(recipe, directory, at)
        return
    key = key_file or _key_beside(directory)
    made = key_file is None and not key.exists()
    if made and own_key(key, make=True) is None:
        raise ConfigError(f"no key can be made at {key}", "name one: --key-file FILE")
    try:
        written = write(recipe, directory, key, at)
    except BaseException:
        if made:
            key.unlink()
        raise
    lineage, position = written.version
    say(f"{known.name} at {lineage}/{position} ({written.examples_learned:,} examples): {directory}")
    there = "" if made else ", which was there already"
    say(f"sealed with {key}{there}: bring that another way than the folder, then: stream-ml local {directory}")


def _write_file(log: "ModelLog", recipe: "Recipe", path: Path, at: int | None, form: str) -> None:
    """A version as ONNX, or as JSON for people."""
    from stream_ml.follower.past.derive import model_at
    from stream_ml.offline.formats.formula import formula_of
    from stream_ml.offline.formats.onnx_model import to_onnx
    from stream_ml.offline.formats.plain_model import to_plain
    from stream_ml.storage.files import replaced

    if path.exists():
        raise ConfigError(f"{path} is there already", "name a file that is not")
    fresh = recipe.settings._replace(payloads=recipe.parts.new_payloads())
    model = model_at(recipe, fresh, log.facts, at, log.seal).model
    about, estimator = _about(model, recipe), model.model.learner.estimator
    kinds, domain = recipe.parts.plan.kinds, recipe.parts.domain
    if form == "onnx":
        content = to_onnx(formula_of(estimator, kinds, domain), kinds, domain, about)
    else:
        content = json.dumps({"format": 1, **about, "model": to_plain(estimator)}, indent=1, default=str).encode()
    replaced(path, content)
    say(f"{recipe.name} at {about['version']} ({about['examples_learned']} examples): {path}, {len(content):,} bytes")


def _about(model: "LineageModel", recipe: "Recipe") -> dict[str, str]:
    lineage, position = model.version
    made = {"app": recipe.parts.config.app.id, "task": recipe.parts.config.model.task}
    version_of = {"version": f"{lineage}/{position}", "examples_learned": str(model.examples_learned)}
    return made | version_of | {"made_with": f"stream-ml {installed('stream-ml')}, river {installed('river')}"}


def _write_mlflow(recipe: "Recipe", directory: Path, at: int | None) -> None:
    """A folder that MLflow loads."""
    from stream_ml.admin.models.export import export as write
    from stream_ml.app.trial import tried_events
    from stream_ml.offline.formats.mlflow_model import EXPORT, KEY, files_of
    from stream_ml.storage.files import own_key, write_all

    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        raise ConfigError(f"{directory} is there already", "name a folder that is not") from None
    try:
        own_key(directory / KEY, make=True)
        written = write(recipe, directory / EXPORT, directory / KEY, at)
        about = {"app": recipe.parts.config.app.id, "version": "/".join(map(str, written.version))}
        example = tried_events(recipe.parts)[0]
        write_all(directory, files_of(recipe.parts.plan.resolved, recipe.parts.domain, example, about))
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)  # nothing half is called an export
        raise
    say(f"{recipe.name} at {about['version']} ({written.examples_learned:,} examples): {directory}")
    say("load it: mlflow.pyfunc.load_model; who may write to the folder may run code where it is loaded")


def _key_beside(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.key")


def local(
    directory: Annotated[Path, typer.Argument(help="What stream-ml models export has written.")],
    key_file: Key = None,
    journal: Annotated[Path | None, typer.Option(help="File that keeps what is taken, to go on and to merge.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="File of labels, one JSON object a line; what is new in it is learned.")
    ] = None,
) -> None:
    """Score events from standard input without Kafka, one JSON object a line each; learn from a file of labels.

    A prediction is answered once the journal has its event. With a journal the next start goes on where this one ends,
    behind the last label that was learned.
    """
    from stream_ml.offline.exported import read_export
    from stream_ml.offline.local import LocalApp
    from stream_ml.runtime.hash_seed import run_under

    key = key_file or _key_beside(directory)
    found = read_export(directory, key)
    run_under(found.hash_seed)  # so that its bits are the service's
    app = LocalApp(found, journal=journal)
    lineage, position = found.base
    more = f", and {app.examples_learned - found.examples_learned:,} here" if journal is not None else ""
    say(f"{lineage}/{position}: {found.examples_learned:,} examples learned there{more}", err=True)
    fed = _Labels(app, labels)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        fed.learn()
        for number, line in enumerate(sys.stdin, 1):
            fed.learn()
            if line.strip():
                say(json.dumps(_answered(app, number, line), default=_as_text))
        fed.learn()
        fed.say_what_is_left()
    finally:
        say(f"{app.examples_learned - found.examples_learned:,} examples learned here", err=True)


def _answered(app: "LocalApp", number: int, line: str) -> dict[str, Any]:
    from stream_ml.core.avro.json_text import read_json

    try:
        (said,) = app.predict_many([_object(read_json(line), "an event")])
    except ValueError as error:
        return {"error": str(error), "line": number}
    return said


def _object(row: Any, what: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{what} is a JSON object")
    return row


def _as_text(value: Any) -> str:
    """A time as `tail --json` has it."""
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


class _Labels:
    """A file that grows: its whole lines are learned, each once."""

    def __init__(self, app: "LocalApp", path: Path | None) -> None:
        self._app, self._path = app, path
        if path is not None and path.is_dir():
            raise ConfigError(f"--labels {path} is a folder", "name a file of labels, one JSON object a line")
        if path is not None and not path.exists():
            say(f"{path} does not exist yet: labels are learned once it does", err=True)
        self._first, _, at = app.mark.partition(":")
        self._at = int(at) if at.isdecimal() else 0
        self._seen: tuple[int, int, int] | None = None  # how the file was when it was read last

    def learn(self) -> None:
        """Learn what is new."""
        from stream_ml.core.avro.json_text import read_json

        for number, line in self._new():
            try:
                ended = self._app.learn_many([_object(read_json(line), "a label")], mark=f"{self._first}:{self._at}")
            except StreamMLError:
                raise
            except ValueError as error:
                say(f"{self._path}, byte {number:,}: {error}", err=True)
                continue
            if "dead_letter" in ended[0]:
                say(f"{self._path}, byte {number:,}: {ended[0]['message']}", err=True)

    def say_what_is_left(self) -> None:
        """A last line without its end may be half of one."""
        if self._path is not None and self._path.exists() and self._path.stat().st_size > self._at:
            say(f"{self._path}: the last line has no end yet and was not learned", err=True)

    def _new(self) -> Iterator[tuple[int, str]]:
        if self._path is None or not self._path.exists():
            return
        now = self._path.stat()
        seen = (now.st_ino, now.st_size, now.st_mtime_ns)
        if seen == self._seen:  # asked before each event
            return
        self._seen = seen
        with self._path.open("rb") as file:
            first = hashlib.sha256(file.readline()).hexdigest()[:16]
            if first != self._first or file.seek(0, os.SEEK_END) < self._at:  # another file, or written anew
                if self._at:
                    say(f"{self._path} is another file of labels than before: it is read from its beginning", err=True)
                self._first, self._at = first, 0
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # it is being written
                at, self._at = self._at, self._at + len(line)
                if line.strip():
                    yield at, line.decode("utf-8", "replace")


@configured
def merge(
    config: Config,
    journal: Annotated[Path, typer.Argument(help="What stream-ml local or LocalApp has kept.")],
    rate: Annotated[float | None, typer.Option(help="Records a second at most.", min=0.001)] = None,
) -> None:
    """Write a journal's events and labels into the topics, in its order: the service scores and learns them.

    Twice does no harm: what is there already counts as a duplicate. Labels join within feedback.ttl of record time: an
    event that is older than that by what the service has seen since comes too late to be learned.
    """
    from stream_ml.admin.produce import Written, produce
    from stream_ml.offline.journal import base_of, read_journal

    app = base_of(journal).partition(": ")[0]
    if app != config.app.id:
        raise ConfigError(
            f"{journal} is of the app {app}, and this configuration is of {config.app.id}",
            "merge it with the configuration that the export came from",
        )
    topics = {"events": config.events.topic, "feedback": config.feedback.topic}
    counts = dict.fromkeys(topics, 0)

    def records() -> Iterator[Written]:
        for one in read_journal(journal):
            counts[one.kind] += 1
            yield Written(topics[one.kind], one.key, one.value, one.timestamp_ms)

    produce(config, " and ".join(topics.values()), records(), rate)
    say(f"{counts['events']:,} events and {counts['feedback']:,} labels of {journal} written")
    say("what becomes of labels that are not learned: stream-ml tail CONFIG outcomes")

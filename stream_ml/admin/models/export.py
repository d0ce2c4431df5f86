"""A model that leaves its service, as a folder that `LocalApp.load` reads: for a notebook, a device, a function."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stream_ml.app.export_folder import CONFIG, digests_of, store_in
from stream_ml.core.log.identity import LogIdentity
from stream_ml.errors import ConfigError
from stream_ml.follower.recipes import Recipe, stored_of
from stream_ml.follower.restore import own_checkpoints
from stream_ml.records import Version
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore
from stream_ml.storage.files import read_key, write_all

HEAD = ("app", "what", "halted_at", "last_digest", "created_at", "spec", "spec_sha256", "examples_learned")
SECTIONS = ("app", "events", "feedback", "predictions", "features", "model", "learning", "quality", "drift", "pending")
NOWHERE = {"bootstrap_servers": "nowhere.invalid:9092"}  # an export speaks to no Kafka


class Written(NamedTuple):
    """What was exported."""

    version: Version
    examples_learned: int
    bytes: int


def export(recipe: Recipe, directory: Path, key_file: Path, at_most: int | None = None) -> Written:
    """Write the newest checkpoint of a model, with all that it takes to build it, into a folder that is not there yet.

    Parameters
    ----------
    key_file
        With the key that seals the copy, and the digest of every file beside it: whoever is to load it has the same.
    at_most
        Position up to which a checkpoint is looked for; None: the newest.

    Raises
    ------
    ConfigError
        There is no such checkpoint here, or the folder is there.
    CheckpointError
        The disk refuses.
    """
    store, found = _newest(recipe, at_most)
    key, types = read_key(key_file, "the key of the export"), recipe.checkpoint_types
    content = store.content(found, types)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        raise ConfigError(f"{directory} is there already", "name a folder that is not") from None
    except OSError as error:
        raise ConfigError(f"{directory} cannot be made: {error.strerror}") from error
    try:
        files = _files(recipe)
        write_all(directory, files)
        head = {name: found.header[name] for name in HEAD}
        log = LogIdentity.named(found.header["log"]["id"], found.header["log"]["hash_key"])
        head["log"] = {"id": log.log_id, "hash_seed": log.hash_seed}  # its key is the service's secret
        head["files"] = digests_of(files)
        kept = {name: content[name] for name in ("model", "probe_bits")}  # what the log says of others stays there
        path = store_in(directory, recipe.lineage, key).save(found.position, head, kept, checkpoint_types=types)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)  # nothing half is called an export
        raise
    return Written(Version(recipe.lineage, found.position), found.header["examples_learned"], path.stat().st_size)


def _newest(recipe: Recipe, at_most: int | None) -> tuple[CheckpointStore, Checkpoint]:
    config, wrong = recipe.parts.config, ""
    store, found = own_checkpoints(config, recipe.lineage, at_most)
    for one in found:
        if isinstance(one, Checkpoint):
            return store, one
        wrong = f"; {one.message}"
    _, every = own_checkpoints(config, recipe.lineage)
    there = [one.position for one in every if isinstance(one, Checkpoint)]
    if there:
        raise ConfigError(f"the checkpoints of {recipe.name} are at {_listed(there)}: none up to {at_most:,}")
    raise ConfigError(
        f"{store.folder} holds no usable checkpoint of {recipe.name}{wrong}",
        "a worker writes one here within checkpoints.interval once it learns, and when it stops; elsewhere "
        "stream-ml models build CONFIG makes one",
    )


def _listed(positions: list[int]) -> str:
    return ", ".join(f"{one:,}" for one in sorted(positions)[:5])


def _files(recipe: Recipe) -> dict[str, bytes]:
    """Configuration, schemas and source, by path below the folder."""
    config, found = recipe.parts.config, dict[str, bytes]()
    said: dict[str, Any] = config.model_dump(mode="json", by_alias=True, exclude_defaults=True, include=set(SECTIONS))
    said["kafka"] = NOWHERE
    if config.model.params:
        said["model"]["params"] = dict(config.model.params)  # JSON has no infinity, and no date
    said["model"].pop("samples", None)
    for side, source in (("events", config.events), ("feedback", config.feedback)):
        said[side]["schema"] = _schema(found, config.path(source.schema_), f"{side}.avsc")
        if source.schema_ids:
            named = {number: config.path(path) for number, path in source.schema_ids.items()}
            said[side]["schema_ids"] = {n: _schema(found, path, f"{side}-{n}.avsc") for n, path in named.items()}
    found[CONFIG] = yaml.safe_dump(said, sort_keys=False).encode()
    sources: Mapping[str, bytes] = stored_of(recipe).sources
    return found | dict(sources)


def _schema(files: dict[str, bytes], path: Path, name: str) -> str:
    files[name] = path.read_bytes()
    return name

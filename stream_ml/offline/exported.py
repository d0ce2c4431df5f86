"""A model that left its service, taken back out of its folder: what that holds stands in app/export_folder.py."""

import os
from pathlib import Path
from typing import NamedTuple

from stream_ml.app.assemble import assemble
from stream_ml.app.export_folder import CHECKPOINTS, CONFIG, check_files, store_in
from stream_ml.app.overlay import why_not_here
from stream_ml.app.parts import Parts
from stream_ml.app.trial import checked
from stream_ml.config import Config, load_config
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.model.lineage import LINEAGE_DIGITS, differing, digest_of
from stream_ml.core.model.selection import Selection
from stream_ml.errors import CheckpointError, ConfigError
from stream_ml.records import Version
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore
from stream_ml.storage.files import read_key


class Exported(NamedTuple):
    """A model as it was exported.

    Parameters
    ----------
    base
        Lineage and position in the log of its service.
    log_id
        Of that log.
    hash_seed
        The PYTHONHASHSEED of every process whose bits are to be the service's.
    """

    config: Config
    parts: Parts
    base: Version
    log_id: str
    hash_seed: int
    examples_learned: int
    checkpoint: Checkpoint
    store: CheckpointStore

    def model(self, settings: FoldSettings) -> LineageModel:
        """The model, as one that goes on under these settings.

        Raises
        ------
        CheckpointError
            It predicts something else than when it was exported.
        """
        content = self.store.content(self.checkpoint, self.config.model.checkpoint_types)
        try:
            model = LineageModel(settings)
            model.restore(content["model"])
            probes, written = model.probe_bits(), content["probe_bits"]
        except Exception as error:  # of classes that somebody else wrote
            raise CheckpointError(f"the exported model cannot be built: {str(error)[:300]}") from error
        if probes != written:
            is_right = os.environ.get("PYTHONHASHSEED") == str(self.hash_seed)
            more = "" if is_right else f"; try PYTHONHASHSEED={self.hash_seed}"
            raise CheckpointError(f"the exported model predicts differently from when it was exported{more}")
        return model


def read_export(directory: Path, key_file: Path) -> Exported:
    """The one model of a folder; nothing of it is read, run or unpacked before the seal was found right.

    Raises
    ------
    ConfigError
        The folder holds none, or one that cannot be built with the versions of this process.
    CheckpointError
        It is not sealed with this key, or a file is damaged, another one, or none of the export's.
    """
    if not directory.is_dir():
        raise ConfigError(f"{directory} does not exist", "stream-ml models export CONFIG NAME DIRECTORY makes one")
    try:
        key = read_key(key_file, "the key of the export")
    except ConfigError as error:
        hint = "bring the one that stream-ml models export has written, or name it: --key-file FILE"
        raise ConfigError(error.message, hint) from error
    folders = sorted((directory / CHECKPOINTS).glob("*/*.ckpt"))
    if len(folders) != 1 or not (directory / CONFIG).is_file():
        raise ConfigError(f"{directory} is no export of a model", "stream-ml models export CONFIG NAME DIRECTORY")
    lineage = folders[0].parent.name
    store = store_in(directory, lineage, key)
    found = next(store.newest())
    if isinstance(found, CheckpointError) and "not authentic" in found.message:
        raise ConfigError(
            f"{directory} is not sealed with {key_file}, or was changed", "use the key that models export wrote for it"
        )
    if isinstance(found, CheckpointError):
        raise found
    spec, log, files = (found.header.get(name) for name in ("spec", "log", "files"))
    if not isinstance(spec, dict) or not isinstance(log, dict) or not isinstance(files, dict):
        raise CheckpointError(f"{folders[0]} is no checkpoint of an export")
    check_files(directory, files, folders[0])
    other = why_not_here(spec)
    if other:
        raise ConfigError(f"the exported model cannot be built here: {other}", "install those versions")
    config = load_config(directory / CONFIG)
    parts = checked(assemble(config))._replace(selection=Selection.of(spec.get("learn")))
    own = parts.spec(str(log["id"]))
    if digest_of(own)[:LINEAGE_DIGITS] != lineage or own != spec:
        names = ", ".join(differing(own, spec)) or "the log"
        raise ConfigError(f"{directory} holds another model than its checkpoint is of: {names} differ")
    base, learned = Version(lineage, found.position), int(found.header["examples_learned"])
    return Exported(config, parts, base, str(log["id"]), int(log["hash_seed"]), learned, found, store)

"""A model that left its service: one folder with configuration, schemas, source and one sealed checkpoint.

::

    stream_ml.yaml  event.avsc  label.avsc  model.py ...     as `stream-ml run` would read them
    checkpoints/LINEAGE/POSITION.ckpt                        sealed with the key that the export was given

Whoever has the key and the folder has the model as it was at that position of the training log.
"""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from stream_ml.app.assemble import assemble
from stream_ml.app.overlay import why_not_here
from stream_ml.app.parts import Parts
from stream_ml.app.trial import checked
from stream_ml.config import Config, load_config
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.log.identity import LogIdentity
from stream_ml.core.model.lineage import LINEAGE_DIGITS, differing, digest_of
from stream_ml.errors import CheckpointError, ConfigError
from stream_ml.records import Version
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore
from stream_ml.storage.files import read_key

CONFIG, CHECKPOINTS = "stream_ml.yaml", "checkpoints"
KEPT = 1


class Exported(NamedTuple):
    """A model as it was exported.

    Parameters
    ----------
    base
        Lineage and position in the log of its service.
    log
        That log: its hash seed is that of every process whose bits are to be the service's.
    """

    config: Config
    parts: Parts
    base: Version
    log: LogIdentity
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
            wanted = self.log.hash_seed
            more = "" if os.environ.get("PYTHONHASHSEED") == str(wanted) else f"; try PYTHONHASHSEED={wanted}"
            raise CheckpointError(f"the exported model predicts differently from when it was exported{more}")
        return model


def read_export(directory: Path, key_file: Path) -> Exported:
    """The one model of a folder; nothing of it is unpacked before its seal was found right.

    Raises
    ------
    ConfigError
        The folder holds none, or one that cannot be built with the versions of this process.
    CheckpointError
        The checkpoint is not sealed with this key, or damaged.
    """
    key = read_key(key_file, "the key of the export")
    folders = sorted((directory / CHECKPOINTS).glob("*/*.ckpt"))
    if len(folders) != 1 or not (directory / CONFIG).is_file():
        raise ConfigError(f"{directory} is no export of a model", "stream-ml models export CONFIG NAME DIRECTORY")
    lineage = folders[0].parent.name
    store = CheckpointStore(directory / CHECKPOINTS, lineage, keep=KEPT, key=key)
    found = next(store.newest())
    if isinstance(found, CheckpointError):
        raise found
    spec, log = found.header.get("spec"), found.header.get("log")
    if not isinstance(spec, dict) or not isinstance(log, dict):
        raise CheckpointError(f"{folders[0]} is no checkpoint of a model")
    other = why_not_here(spec)
    if other:
        raise ConfigError(f"the exported model cannot be built here: {other}", "install those versions")
    config = load_config(directory / CONFIG)
    parts = checked(assemble(config))
    with contextlib.suppress(ValueError):
        identity = LogIdentity.named(log.get("id"), log.get("hash_key"))
        own = parts.spec(identity.log_id)
        if digest_of(own)[:LINEAGE_DIGITS] != lineage or own != spec:
            names = ", ".join(differing(own, spec)) or "the log"
            raise ConfigError(f"{directory} holds another model than its checkpoint is of: {names} differ")
        base = Version(lineage, found.position)
        return Exported(config, parts, base, identity, int(found.header["examples_learned"]), found, store)
    raise CheckpointError(f"{folders[0]} names no log")

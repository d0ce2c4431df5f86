"""The folder of a model that left its service: what is in it, and that it is what was sealed.

::

    stream_ml.yaml  events.avsc  feedback.avsc  model.py ...     as `stream-ml run` would read them
    checkpoints/LINEAGE/POSITION.ckpt                            sealed with the key that the export was given

The checkpoint's header names the digest of every other file, so its seal covers all of the folder.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from stream_ml.errors import CheckpointError
from stream_ml.storage.checkpoints import CheckpointStore
from stream_ml.storage.files import read_small

CONFIG, CHECKPOINTS = "stream_ml.yaml", "checkpoints"
FILE_BYTES_MAX = 4 * 2**20


def store_in(directory: Path, lineage: str, key: bytes) -> CheckpointStore:
    """Where the one checkpoint of an export is."""
    return CheckpointStore(directory / CHECKPOINTS, lineage, keep=1, key=key)


def digests_of(files: Mapping[str, bytes]) -> dict[str, str]:
    """What is sealed of files, by path below the folder."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def check_files(directory: Path, sealed: Mapping[str, str], checkpoint: Path) -> None:
    """See that a folder holds the files that were sealed with its checkpoint, and no others.

    Raises
    ------
    CheckpointError
        A file is another one, missing, none of the export's, or cannot be read.
    """
    there = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if not path.is_dir()}
    there.pop(checkpoint.relative_to(directory).as_posix(), None)
    for name in sorted({*there} ^ {*sealed}):
        raise CheckpointError(f"{directory / name} is {'no file of the export' if name in there else 'missing'}")
    for name, path in there.items():
        try:
            content = read_small(path, FILE_BYTES_MAX)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
        if digests_of({name: content})[name] != sealed[name]:
            raise CheckpointError(f"{path} is another file than was exported")

"""A stand-in for ``copy.deepcopy`` in models out of checkpoints: River's softmax regression holds the function.

Whoever may have a pickle call deepcopy has an unpickler of his own: it obeys `__reduce__` of whatever it is given.
"""

import copy
from typing import Any

from stream_ml.errors import CheckpointError

_loading = 0


class DeepCopy:
    """Copies as ``copy.deepcopy`` does, but not while a checkpoint is loaded."""

    __slots__ = ()

    def __call__(self, value: Any) -> Any:
        """The copy."""
        if _loading:
            raise CheckpointError("the checkpoint copies a value while it is loaded, which is not allowed")
        return copy.deepcopy(value)


class Loading:
    """While a checkpoint is loaded."""

    def __enter__(self) -> None:
        global _loading  # noqa: PLW0603 - one process loads one checkpoint at a time
        _loading += 1

    def __exit__(self, *_: object) -> None:
        global _loading  # noqa: PLW0603
        _loading -= 1

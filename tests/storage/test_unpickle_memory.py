"""numpy's own constructors, by which bytes of a checkpoint would become addresses of objects."""

import pickle
from typing import Any

import numpy as np
import pytest

from stream_ml.errors import CheckpointError
from stream_ml.storage.unpickle import loads


class _Made:
    def __init__(self, made: Any, *given: Any, state: Any = None) -> None:
        self.reduced = (made, given) if state is None else (made, given, state)

    def __reduce__(self) -> Any:
        return self.reduced


def test_an_array_of_objects_over_bytes_is_refused() -> None:
    objects = _Made(np.dtype, "O", False, True)
    with pytest.raises(CheckpointError):
        loads(pickle.dumps(_Made(np.ndarray, (1,), objects, bytes(8))))


def test_a_dtype_whose_fields_lie_outside_of_it_is_refused() -> None:
    state = (3, "|", None, ("a",), {"a": (np.dtype("f8"), 1 << 20)}, 8, 1, 0)
    with pytest.raises(CheckpointError):
        loads(pickle.dumps(_Made(np.dtype, "V8", False, True, state=state)))

"""``random.Random`` in a pickle as one whole number: River's trees hold one in each leaf.

Python pickles it as a tuple of 625 numbers, which takes 3 kB there and, while it is loaded, 25 kB of memory; as bytes
it is 2.5 kB, and nothing of it is kept beside the generator itself.
"""

import random
from array import array
from typing import Any

from stream_ml.errors import CheckpointError

_VERSION = 3  # of what `getstate` gives, in every Python since 3.2
_WORDS = 625  # of the Mersenne twister, its position among them (Matsumoto and Nishimura, 1998)
_BYTES = 4 * _WORDS


def packed(generator: random.Random) -> int | None:
    """Its state as a number; None where it has half of a normal pair in hand, which Python's own way keeps."""
    version, words, second = generator.getstate()
    if version != _VERSION or second is not None or len(words) != _WORDS:
        return None
    return int.from_bytes(array("I", words).tobytes(), "little")


def set_packed(generator: Any, state: Any) -> None:
    """Give a generator the state that `packed` gave; named by checkpoints, so called with whatever they hold."""
    if type(generator) is not random.Random or type(state) is not int or not 0 <= state < 1 << 8 * _BYTES:
        raise CheckpointError("the checkpoint sets the state of what is no generator, which is not allowed")
    words = array("I", state.to_bytes(_BYTES, "little"))
    generator.setstate((_VERSION, tuple(words), None))

"""How large the model is, as each checkpoint finds, and what is done where it is more than it may be."""

import math
from typing import Literal

from stream_ml.runtime.memory import memory_bytes

NEAR = 0.8  # of the limit: from there on it is reported
OF_MEMORY = 4  # the limit is one part of so many of the process's memory, where none is configured

Policy = Literal["tell", "freeze", "exit"]
HINT = (
    "bound the model (River's max_depth, max_size and memory_estimate_period of trees, drop_zeros of one-hot encoders, "
    "features.bounds), or raise model.memory_max"
)


class ModelSize:
    """Of one worker's model: the bytes of its pickle. In memory a model takes about as much, trees up to twice."""

    def __init__(self, most: int | None, policy: Policy) -> None:
        self.most = memory_bytes() // OF_MEMORY if most is None else most
        self.policy: Policy = policy
        self.bytes = 0

    @property
    def over(self) -> bool:
        """Whether it is larger than it may be."""
        return self.bytes > self.most

    def measured(self, found: int) -> None:
        """Take the size that a checkpoint found; 0: it found none."""
        self.bytes = found or self.bytes

    def said(self) -> str:
        """How large it is, in words."""
        share = 100 * self.bytes / self.most if self.most else math.inf
        return f"the model is of {self.bytes / 1e6:,.1f} MB, {share:.0f} % of model.memory_max"

    def words(self) -> list[str]:
        """What is wrong with it."""
        return [f"{self.said()} -> {HINT}"] if self.bytes > NEAR * self.most else []

"""Halts that were lifted: the command that did it, and which of them are told and not yet ended."""

from collections.abc import Iterator
from typing import Any

from stream_ml.core.fold.batches import Halt
from stream_ml.core.log.entry import Entry

LIFTING = ("skip", "accept", "accept-gap")


def is_order(entry: Entry) -> bool:
    """Whether it is a command that is obeyed wherever it stands; one that lifts a halt names its position."""
    return entry.kind == "command" and entry.command not in LIFTING


class Pardons:
    """By the position of the halt: the command of LIFTING, as the log has ordered.

    A halt is told when its position is passed again, and its end at the command that ordered it: once each, in every
    replica alike, however the log was cut into chunks and whoever met the command first.
    """

    def __init__(self) -> None:
        self._commands: dict[int, str] = {}
        self._halts: dict[int, Halt] = {}
        self._open: dict[int, str] = {}

    def __iter__(self) -> Iterator[int]:
        """Positions."""
        return iter(self._commands)

    def get(self, position: int) -> str | None:
        """The command that lifts a halt there; None where there is none."""
        return self._commands.get(position)

    def lift(self, halt: Halt, command: str) -> None:
        """Note that this command ends this halt."""
        self._commands[halt.position] = command
        self._halts[halt.position] = halt

    def passed(self, position: int) -> Halt | None:
        """The halt to be told, now that its position is passed; None where nothing halted."""
        halt = self._halts.get(position)
        if halt is not None:
            self._open[position] = self._commands[position]
        return halt

    def ends(self, command: str | None, position: Any) -> bool:
        """Whether this command is the one that ended a halt that was told; it does so once."""
        if command is None or not isinstance(position, int) or self._open.get(position) != command:
            return False
        del self._open[position]
        return True

    def handed_on(self) -> "Pardons":
        """For the replica that takes this one's place; it passes the positions itself."""
        found = Pardons()
        found._commands, found._halts = dict(self._commands), dict(self._halts)
        return found

    def state(self) -> dict[int, str]:
        """What a checkpoint keeps: what was told and not ended."""
        return dict(self._open)

    def restore(self, state: dict[int, str]) -> None:
        """Take back what `state` gave."""
        self._open = dict(state)

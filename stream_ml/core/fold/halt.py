"""Where learning is halted, what folding came to, and the commands that end a halt."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from stream_ml.core.log.entry import ROLE_COMMANDS, Entry

ENDING_A_HALT = ("skip", "accept", "accept-gap")
OF_LATER_VERSIONS = ("later_format", "unknown_kind", "unknown_command")  # reasons of halts that `skip` does not end


class Halt(NamedTuple):
    """Where learning stopped and why.

    Parameters
    ----------
    position
        Offset of the entry before which it stopped.
    reason
        As a signal and the status name it: gap, disagree, not_an_entry, far_example, model_raised, not_finite ...
    message
        The same for people.
    corrupted
        Whether the model may have learned half of the example, or others that came before: it cannot be used.
    exact
        Whether that example is the one that did it; else it is found by folding again, one example at a time.
    """

    position: int
    reason: str
    message: str
    corrupted: bool = False
    exact: bool = True


class Folded(NamedTuple):
    """Everything was folded, or read on while learning was halted before."""


class Halted(NamedTuple):
    """Learning has halted now; what came after it was only read on."""

    halt: Halt


class Remake(NamedTuple):
    """A model has to be made anew from a checkpoint at or before its halt: it is corrupted, or its halt has ended."""

    halt: Halt


class Refold(NamedTuple):
    """A command has ended the book's halt: clear it, and read the log again from this offset."""

    position: int


FoldResult = Folded | Halted | Remake | Refold


def is_order(entry: Entry) -> bool:
    """Whether it is a command that is obeyed wherever it stands: others name a position, or the epoch they replace."""
    return entry.kind == "command" and entry.command not in (*ENDING_A_HALT, *ROLE_COMMANDS, "require")


def of_one_model(entry: Entry) -> bool:
    """Whether a command is for the model of one lineage, which its arguments name."""
    return entry.parsed_arguments().get("lineage") is not None


class Overrides:
    """Halts that commands have ended: by the position of each halt the command.

    A halt is reported when its position is passed again, and its end at the command that ordered it: once each, in
    every replica alike, however the log was cut into chunks and whoever met the command first.
    """

    def __init__(self) -> None:
        self._commands: dict[int, str] = {}
        self._halts: dict[int, Halt] = {}
        self._open: dict[int, str] = {}

    def __iter__(self) -> Iterator[int]:
        """Positions."""
        return iter(self._commands)

    def get(self, position: int) -> str | None:
        """The command that ends a halt there; None where there is none."""
        return self._commands.get(position)

    def add(self, halt: Halt, command: str) -> None:
        """Note that this command ends this halt."""
        self._commands[halt.position] = command
        self._halts[halt.position] = halt

    def passed(self, position: int) -> Halt | None:
        """The halt to be reported, now that its position is passed; None where nothing halted."""
        halt = self._halts.get(position)
        if halt is not None:
            self._open[position] = self._commands[position]
        return halt

    def ends(self, command: str, position: Any) -> bool:
        """Whether this command is the one that ended a halt that was reported; it does so once."""
        if not isinstance(position, int) or self._open.get(position) != command:
            return False
        del self._open[position]
        return True

    def handed_on(self) -> "Overrides":
        """For the successor of a replica; it passes the positions itself."""
        found = Overrides()
        found._commands, found._halts = dict(self._commands), dict(self._halts)
        return found

    def state(self) -> dict[int, str]:
        """What a checkpoint keeps: what was reported and has not ended."""
        return dict(self._open)

    def restore(self, state: dict[int, str]) -> None:
        """Take back what `state` gave."""
        self._open = dict(state)


class HaltControl:
    """The halt of the book or of one model, if there is one::

        going on --- an entry that cannot be folded ---> halted --- its command in the log ---> refold
           ^                                                                                      |
           '---- the driver reads again: the book from its halt, a model from a checkpoint -----'

    Parameters
    ----------
    lineage
        Of the model; empty of the book, for which no command is that names a lineage.

    Attributes
    ----------
    current
        The halt; None while there is none.
    refold_from
        Offset from which the log is to be read again, once a command has ended the halt.
    stop_at
        Where a successor halts before the example that corrupted its predecessor.
    """

    def __init__(self, lineage: str = "") -> None:
        self._lineage = lineage
        self.current: Halt | None = None
        self.refold_from: int | None = None
        self.stop_at: Halt | None = None
        self.overrides = Overrides()

    @property
    def corrupted(self) -> bool:
        """Whether the model cannot be used any more."""
        return self.current is not None and self.current.corrupted

    def obey(self, entry: Entry) -> None:
        """Look whether an entry is the command that ends the halt: the first one does, whatever stands behind it."""
        halt = self.current
        if halt is None or self.refold_from is not None or entry.command not in ENDING_A_HALT:
            return
        if halt.corrupted and not halt.exact:
            return  # its successor finds the example that did it
        said = entry.parsed_arguments()
        if said.get("lineage") not in (None, self._lineage):
            return
        if halt.reason in OF_LATER_VERSIONS and said.get("later") is not True:
            return
        position = said.get("position")
        if type(position) is int and position == halt.position and self.overrides.get(position) != entry.command:
            self.overrides.add(halt, entry.command)
            self.refold_from = position

    def clear(self) -> int:
        """Forget the halt whose command was met; the offset to fold again from."""
        assert self.refold_from is not None  # noqa: S101 - drivers have been given a Refold
        position = self.refold_from
        self.current = self.refold_from = None
        return position

    def noted_after(self, offset: int) -> bool:
        """Whether something is known of a position from this offset on, which has to be looked at alone."""
        noted = [*self.overrides, *([self.stop_at.position] if self.stop_at is not None else [])]
        return any(position >= offset for position in noted)

    def result(self, before: Halt | None) -> FoldResult:
        """What has come of folding, where it was halted by `before`."""
        if self.refold_from is not None:
            return Refold(self.refold_from)
        return Halted(self.current) if self.current is not None and before is None else Folded()

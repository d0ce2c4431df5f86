"""Whether the learning of one model is frozen: by commands of the log, or from birth by its specification."""

from typing import Any

from stream_ml.core.log.entry import Entry
from stream_ml.core.model.selection import Commanded, Selection


class Freezing:
    """The freezes of one model, and where the commands stood that it has met.

    Attributes
    ----------
    frozen
        Whether nothing is learned.
    commanded
        Where commands about learning stood.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self.frozen = False
        self._held = False  # from birth, until a command names the model
        self.commanded = Commanded()

    def reach(self, position: int, offset: int) -> None:
        """Freeze where the specification says so, once: when the entry at this offset, the first one from this
        position on, is the first one behind that."""
        hold_from = self._selection.hold_from
        if hold_from is not None and position <= hold_from <= offset:
            self.frozen = self._held = True

    def obey(self, offset: int, entry: Entry, *, own: bool) -> bool:
        """Obey `freeze` or `resume`; whether that has to be told.

        Parameters
        ----------
        own
            Whether it names this model: it is told with the model, else with the log.
        """
        self.commanded = self.commanded.met(offset, own=own)
        if offset < self._selection.commands_from or (self._held and not own):
            return False
        changes = own and self.frozen is not (entry.command == "freeze")
        self.frozen, self._held = entry.command == "freeze", False
        return changes

    def of_another(self, offset: int) -> None:
        """Note a command about the learning of another model: what this one has learned is not what that has."""
        self.commanded = self.commanded.and_of(Commanded(others=offset))

    def halt_ended(self, position: int, entry: Entry) -> None:
        """Note that a command for this model alone has changed what it learns from its halt on."""
        if entry.parsed_arguments().get("lineage") is not None:
            self.commanded = self.commanded.met(position, own=True)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"frozen": self.frozen, "held": self._held, "commanded": list(self.commanded)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave; where nothing is known of commands, one may have stood anywhere."""
        self.frozen, self._held = state["frozen"], state.get("held", False)
        self.commanded = Commanded(*state.get("commanded", (0, 0, 0)))

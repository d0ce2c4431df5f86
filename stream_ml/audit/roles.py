"""The rule `role`: every prediction is by the model that serves in its epoch, or says that it is not."""

import contextlib

from stream_ml.audit.coordinates import Findings
from stream_ml.core.fold.roles import Roles
from stream_ml.core.log.entry import Entry
from stream_ml.records import Served

Where = tuple[str, int, int]


class RolesAudit:
    """Who answered, by epoch, beside who serves by the log.

    Attributes
    ----------
    roles
        What the log says, up to where it was read.
    found
        What is wrong.
    """

    def __init__(self, log_id: str, found: Findings | None = None) -> None:
        self._log_id, self.found = log_id, found or Findings()
        self.roles = Roles()
        self._serves: dict[int, str] = {}  # by epoch
        self._answered: dict[tuple[int, str, bool], tuple[Where, int]] = {}  # the first of each kind, and how many

    def prediction(self, where: Where, served: Served) -> None:
        """Take a prediction."""
        kind = (served.epoch, served.lineage, "superseded" in served.flags)
        first, count = self._answered.get(kind, (where, 0))
        self._answered[kind] = (first, count + 1)

    def command(self, offset: int, entry: Entry) -> None:
        """Take a command of the log."""
        with contextlib.suppress(ValueError):  # a later version's: whoever folds it halts there
            entry.check_known()
            self.roles.note(offset, entry, self._log_id)
        self._serves[self.roles.table.epoch] = self.roles.table.lineage

    def finish(self) -> None:
        """Compare, once everything was read."""
        for (epoch, lineage, superseded), (where, count) in self._answered.items():
            serves = self._serves.get(epoch, "")
            of = f"{count:,} predictions, this one the first," if count > 1 else "this prediction"
            if not epoch and not superseded:
                continue  # the log did not say yet who serves
            if not serves:
                self.found.add("role", *where, f"{of} name epoch {epoch}, which the log does not give")
            elif lineage != serves and not superseded:
                words = f"{of} of epoch {epoch} are by {lineage}, where {serves} serves, and do not say so"
                self.found.add("role", *where, words)
            elif lineage == serves and superseded:
                words = f"{of} of epoch {epoch} say that they are superseded, and are by {serves}, which serves"
                self.found.add("role", *where, words)

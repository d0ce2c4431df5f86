"""Which models there are and who serves: a function of the commands in the log, the same in every replica.

1. `serve` replaces the whole table, and names the epoch that it replaces: of two writers one wins, and an answer that
   was lost may be repeated.
2. It holds from where it was read, also while the book is halted. A refold that passes it again judges nothing anew.
3. What is not obeyed is refused at its position by all alike, counted, and told.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from stream_ml.core.log.entry import ROLE_COMMANDS, Entry
from stream_ml.core.model.lineage import LINEAGE_DIGITS, digest_of

WHOLE = 10_000  # the sum of the shares of a table
NAME_MAX = 64  # characters of a model's name
DECLARED_MAX = 1_000  # models of one log
VERDICTS_KEPT = 100
WORDS_MAX = 300  # characters of a refusal
BY_MAX = 100  # of who declared a model


class Declared(NamedTuple):
    """A model that the log knows.

    Parameters
    ----------
    digest
        Of its whole specification: a lineage is a name, this is the proof.
    position
        Where its first declaration stands.
    standby
        Whether workers are to have it ready.
    auto
        Whether the worker that declared it lets it take over once it is ready: unless somebody has decided since.
    epoch
        That was in force when it was declared.
    served
        Whether it has served since.
    last
        Where its last declaration stands: it may hold source, or a seal, that the first has not.
    """

    lineage: str
    digest: str
    name: str
    position: int
    at_ms: int
    by: str
    standby: bool = True
    auto: bool = False
    retired: bool = False
    epoch: int = 0
    served: bool = False
    last: int = -1


class Table(NamedTuple):
    """Who serves: one lineage, from `epoch` on, the position after its command; `before` served until then."""

    epoch: int = 0
    lineage: str = ""
    before: str = ""
    at_ms: int = 0


class Verdict(NamedTuple):
    """What became of a command: declared, serving, retired, or refused; why in words; the lineage that it is about."""

    kind: str
    words: str
    lineage: str = ""


class Roles:
    """The models of one log and its table, up to where it was read.

    Attributes
    ----------
    judged_upto
        Commands before this position were judged.
    refused
        How many were.
    verdicts
        By position, of the last commands.
    """

    def __init__(self) -> None:
        self.declared: dict[str, Declared] = {}
        self.table = Table()
        self.judged_upto = self.refused = 0
        self.verdicts: dict[int, Verdict] = {}

    def copy(self) -> "Roles":
        """An independent one with the same models and table."""
        found = Roles()
        found.declared, found.table = dict(self.declared), self.table
        found.judged_upto, found.refused = self.judged_upto, self.refused
        return found

    def note(self, offset: int, entry: Entry, log_id: str) -> None:
        """Judge the command at this offset, once; of any other entry nothing is taken."""
        if entry.command not in ROLE_COMMANDS or offset < self.judged_upto:
            return
        self.judged_upto = offset + 1
        try:
            verdict = self._obeyed(offset, entry, log_id)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            self.refused += 1
            verdict = Verdict("refused", f"{entry.command} at {offset} is refused: {error}"[:WORDS_MAX])
        self.verdicts[offset] = verdict
        for old in list(self.verdicts)[:-VERDICTS_KEPT]:
            del self.verdicts[old]

    def _obeyed(self, offset: int, entry: Entry, log_id: str) -> Verdict:
        said = entry.parsed_arguments()
        if entry.command == "declare":
            return self._declare(offset, entry, said, log_id)
        lineage, epoch = _only_arm(said) if entry.command == "serve" else said["lineage"], said["epoch"]
        if epoch != self.table.epoch or type(epoch) is not int:
            raise ValueError(
                f"it replaces epoch {epoch}, and epoch {self.table.epoch} is in force: look, and decide anew"
            )
        known = self.declared.get(lineage)
        if known is None:
            raise ValueError(f"no model with the lineage {str(lineage)[:LINEAGE_DIGITS]} was declared")
        if entry.command == "retire":
            return self._retire(known)
        return self._serve(offset, entry, known)

    def _declare(self, offset: int, entry: Entry, said: Mapping[str, Any], log_id: str) -> Verdict:
        spec, lineage, name = said["spec"], said["lineage"], said["name"]
        if not isinstance(spec, dict) or digest_of(spec)[:LINEAGE_DIGITS] != lineage:
            raise ValueError("its lineage is not the digest of its specification")
        if spec.get("log_id") != log_id:
            raise ValueError("its specification is for another log")
        if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX or not name.isprintable():
            raise ValueError(f"a model's name has 1 to {NAME_MAX} characters that can be printed")
        known = self.declared.get(lineage)
        if known is not None and known.digest != digest_of(spec):
            raise ValueError(f"lineage {lineage} is another model's, whose digest begins alike")
        if known is None and len(self.declared) >= DECLARED_MAX:
            raise ValueError(f"there are {DECLARED_MAX:,} models: a log holds no more")
        if known is not None and known.retired and said.get("epoch") != self.table.epoch:
            raise ValueError(f"{known.name} ({lineage}) is retired, and epoch {self.table.epoch} is in force")
        standby = said.get("standby") is not False
        if known is None or known.retired:
            by = str(said.get("by", entry.writer))[:BY_MAX]
            first = offset if known is None else known.position
            auto, epoch = said.get("auto") is True, self.table.epoch
            known = Declared(lineage, digest_of(spec), name, first, entry.written_at_ms, by, auto=auto, epoch=epoch)
        self.declared[lineage] = known._replace(name=name, standby=standby, last=offset)
        return Verdict("declared", f"model {name} ({lineage}) is declared", lineage)

    def _retire(self, known: Declared) -> Verdict:
        if known.lineage == self.table.lineage:
            raise ValueError(f"{known.name} ({known.lineage}) serves: put another one in its place first")
        self.declared[known.lineage] = known._replace(retired=True, standby=False)
        return Verdict("retired", f"model {known.name} ({known.lineage}) is retired", known.lineage)

    def _serve(self, offset: int, entry: Entry, known: Declared) -> Verdict:
        if known.retired:
            raise ValueError(f"{known.name} ({known.lineage}) is retired: declare it again")
        before = self.table.lineage
        self.declared[known.lineage] = known._replace(served=True)
        self.table = Table(offset + 1, known.lineage, before, entry.written_at_ms)
        words = f"model {known.name} ({known.lineage}) serves from epoch {offset + 1} on"
        return Verdict("serving", f"{words}, before it {before}" if before else words, known.lineage)

    @property
    def standbys(self) -> list[Declared]:
        """Models that are to be ready and do not serve, the newest first."""
        found = [one for one in self.declared.values() if one.standby and one.lineage != self.table.lineage]
        return sorted(found, key=lambda one: -one.position)

    def named(self, name: str) -> list[Declared]:
        """The models with this name, the newest first, else those whose lineage begins so."""
        known = sorted(self.declared.values(), key=lambda one: -one.position)
        return [one for one in known if one.name == name] or [one for one in known if one.lineage.startswith(name)]

    # --- a checkpoint's content ---

    def state(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "declared": [list(one) for one in self.declared.values()],
            "table": list(self.table),
            "judged_upto": self.judged_upto,
            "refused": self.refused,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self.declared = {one.lineage: one for one in map(Declared._make, state["declared"])}
        self.table = Table(*state["table"])
        self.judged_upto, self.refused = state["judged_upto"], state["refused"]


def _only_arm(said: Mapping[str, Any]) -> str:
    """The lineage of a table of one arm; `Entry.check_known` has seen to it that there are no more."""
    (arm,) = said["arms"]
    if arm["share"] != WHOLE:
        raise ValueError(f"its shares are not {WHOLE:,} in all")
    lineage: str = arm["lineage"]
    return lineage

"""What the training log says beside its examples: starts of partitions, schemas, orders. It holds while halted, too."""

from typing import Any

from stream_ml.core.avro.resolution import check_meaning
from stream_ml.core.avro.schema import load_schema
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.halt import is_order, of_one_model
from stream_ml.core.fold.roles import Roles, Verdict
from stream_ml.core.log.entry import ROLE_COMMANDS, Entry
from stream_ml.core.log.identity import LogIdentity
from stream_ml.core.log.logged_schemas import LoggedSchema
from stream_ml.core.log.seals import is_new
from stream_ml.core.log.sequences import SequenceTracker
from stream_ml.errors import ConfigError

STATE = ("log_id", "genesis_again", "started", "schemas", "output_schemas", "frozen", "rebaselined_at", "commanded_at")


class LogFacts:
    """Facts of one log up to where it was read.

    Attributes
    ----------
    log_id, genesis_again
        The log's identity, empty before its first entry; how many entries claimed it again: passed over.
    started
        By partition: where it started, as its first worker wrote.
    schemas, output_schemas
        Texts of writer schemas by fingerprint; of what is published by topic and fingerprint.
    unreadable
        By fingerprint: why examples with this schema of events halt.
    frozen
        Whether a command has frozen the learning of all models.
    rebaselined_at, commanded_at
        Offsets of the last `rebaseline`, and of the last order of any kind; -1 before the first.
    """

    def __init__(self, settings: FoldSettings) -> None:
        self._settings = settings
        self.log_id = ""
        self.genesis_again = 0
        self.started: dict[int, dict[str, Any]] = {}
        self.schemas: dict[int, str] = {}
        self.output_schemas: dict[tuple[str, int], str] = {}
        self.unreadable: dict[int, str] = {}
        self.frozen = False
        self.rebaselined_at = -1
        self.commanded_at = -1
        self._folded_roles = Roles()
        self._read_roles: Roles | None = None  # what was read while halted

    def has_started(self, partition: int) -> bool:
        """Whether a worker has started this partition: nobody else's examples are learned."""
        return partition in self.started or partition in self._settings.started

    @property
    def backlog_ends(self) -> dict[int, int]:
        """By partition with a first backlog: the offset of events at which that ended."""
        ends = {partition: of.get("backlog_end", 0) for partition, of in self.started.items()}
        return {partition: end for partition, end in ends.items() if end}

    @property
    def logged_schemas(self) -> list[LoggedSchema]:
        """Every schema that the log holds up to where it was read; may be asked from another thread."""
        events = [LoggedSchema("", fingerprint, text) for fingerprint, text in list(self.schemas.items())]
        return events + [LoggedSchema(*of, text) for of, text in list(self.output_schemas.items())]

    @property
    def roles(self) -> Roles:
        """Which models there are, and who serves: as far as was read, also while the book is halted."""
        read, folded = self._read_roles, self._folded_roles
        return folded if read is None or read.judged_upto <= folded.judged_upto else read

    def judge_roles(self, offset: int, entry: Entry) -> Verdict | None:
        """Judge a command about models; of any other entry nothing is taken."""
        if entry.command not in ROLE_COMMANDS:
            return None
        self._folded_roles.note(offset, entry, self.log_id)
        return self._folded_roles.verdicts.get(offset)

    def read_roles(self, offset: int, entry: Entry) -> None:
        """The same while the book is halted: it holds from here on, and is judged again when this is folded."""
        if entry.command in ROLE_COMMANDS:
            read = self._read_roles
            if read is None or self.roles is not read:  # one of an earlier halt misses what was folded since
                read = self._read_roles = self._folded_roles.copy()
            read.note(offset, entry, self.log_id)

    def note(self, entry: Entry, seen: SequenceTracker) -> None:
        """Take what an entry says; ValueError and its like where it makes no sense."""
        if entry.kind == "schema":
            found = LoggedSchema.of(entry)
            if found.topic:
                self.output_schemas.setdefault((found.topic, found.fingerprint), found.text)
            else:
                self._note_schema(found.fingerprint, found.text)
        elif entry.kind == "genesis":
            found_id = LogIdentity.of(entry).log_id
            if self.log_id:
                self.genesis_again += bool(self.started)  # of several first workers each may write one
            else:
                self.log_id = found_id
        elif entry.kind == "start":
            self._note_start(entry.source_partition, start_of(entry))
        elif entry.command == "rebase" and entry.parsed_arguments().get("back", True):
            partition = int(entry.parsed_arguments()["partition"])
            if self.has_started(partition):
                seen.rebase(partition)
            if partition in self.started:  # offsets begin anew: what they said of a first backlog is over
                self.started[partition]["backlog_end"] = 0

    def _note_start(self, partition: int, found: dict[str, Any]) -> None:
        """Know where a partition started; what lay there at its first start does not change with a second one."""
        known = self.started.get(partition)
        end = backlog_end_of(found) if known is None else known["backlog_end"]
        self.started[partition] = {**found, "backlog_end": end}

    def check_new(self, offset: int, entry: Entry) -> None:
        """ValueError at an order that somebody without a key has written once more: a later one was known by then."""
        sealed_from = self._settings.sealed_from
        if sealed_from is None or offset < sealed_from or not is_order(entry):
            return
        said = entry.parsed_arguments()
        if not is_new(said, self.commanded_at, offset):
            seen = said.get("seen")
            message = f"{entry.command} says that the log ended at {seen} when it was written, and a command stands at"
            raise ValueError(f"{message} {self.commanded_at}: it was written once more, or two were at once")

    def obey(self, offset: int, entry: Entry) -> None:
        """Do what a command orders, beside what the fold does itself."""
        if is_order(entry):
            self.commanded_at = offset
        if entry.command in ("freeze", "resume") and not of_one_model(entry):
            self.frozen = entry.command == "freeze"
        if entry.command == "rebaseline":
            self.rebaselined_at = offset

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {**{name: getattr(self, name) for name in STATE}, "roles": self._folded_roles.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.log_id, self.genesis_again = state["log_id"], state["genesis_again"]
        self.started, self.output_schemas = state["started"], state["output_schemas"]
        self.frozen = state["frozen"]
        self.rebaselined_at, self.commanded_at = state["rebaselined_at"], state["commanded_at"]
        self._folded_roles.restore(state["roles"])
        self._read_roles = None
        for fingerprint, text in state["schemas"].items():
            self._note_schema(fingerprint, text)

    def _note_schema(self, fingerprint: int, text: str) -> None:
        """Know a writer schema by its own fingerprint; the first text of one stays, whatever comes later."""
        if fingerprint in self.schemas:
            return
        schema = load_schema(text, where="a schema entry of the training log")
        if schema.fingerprint != fingerprint:
            raise ValueError(f"a schema entry says fingerprint {fingerprint}, its text has {schema.fingerprint}")
        self.schemas[fingerprint] = text
        try:
            check_meaning(schema, self._settings.payloads.reader, where="the schema that the log holds for it")
        except ConfigError as error:
            # Its examples halt: a fingerprint leaves logical types out, so the log cannot tell the two apart.
            self.unreadable[fingerprint] = f"{error.message}; give the field another name, or take another app.id"
            return
        self._settings.payloads.add(schema)


def backlog_end_of(start: dict[str, Any]) -> int:
    """The offset of events at which the first backlog of a partition ends, as its start says; 0: it has none."""
    end = start.get("backlog_end", 0)
    return int(end) if end > start["events"] else 0


def start_of(entry: Entry) -> dict[str, Any]:
    """Where a partition started, and nothing else that somebody may have written there."""
    said = entry.parsed_arguments()
    found: dict[str, Any] = {name: said[name] for name in ("events", "feedback")}
    found |= {name: said[name] for name in ("partitions", "backlog_end") if name in said}
    if entry.source_partition < 0 or not all(type(of) is int and 0 <= of < 2**63 for of in found.values()):
        raise ValueError(f"a start of partition {entry.source_partition} at {str(said)[:50]}")
    return found

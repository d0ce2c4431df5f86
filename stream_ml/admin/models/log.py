"""The models of an app as its log says, and commands about them: written, read back, and told what became of them."""

import getpass
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from stream_ml.admin.observer import Observer
from stream_ml.config import Config
from stream_ml.core.fold.roles import Declared, Roles, Verdict
from stream_ml.core.log.entry import decode_entry, is_command
from stream_ml.core.log.seals import LogSeal
from stream_ml.errors import ConfigError, FatalError
from stream_ml.follower.identity import identified
from stream_ml.follower.takeover import serve_arguments
from stream_ml.kafka.clients import admin
from stream_ml.kafka.commands import write_command
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.log_reader import log_value
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.kafka.topics import TopicFacts, inspect_topics
from stream_ml.storage.keys import log_seal

READ_BACK_S = 30.0  # for a command to be seen in the log: an open transaction may stand before it
LOOK_S = 0.2
SAY_S = 5.0  # between two lines while a model is waited for


class ModelLog:
    """Roles of one app, read from its log; read on with `read`.

    Attributes
    ----------
    roles
        Up to `position`.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.facts: TopicFacts = identified(config, inspect_topics(config), make=False)
        self.seal: LogSeal | None = log_seal(config, self.facts.training_log_topic_id)
        self.roles, self.position = Roles(), 0
        self.read()

    def read(self) -> int:
        """Read what came since; where the log ends now."""
        topic = self.config.training_log_topic
        first, end = ends(admin(self.config), [(topic, 0)])[topic, 0]
        start = max(first, self.position)
        for batch in read_range(self.config, topic, 0, start, end, keep_alive=lambda: None):
            for record in batch:
                value = log_value(record, self.seal)
                if is_command(value):
                    self._note(record.offset, value)
        self.position = max(self.position, end)
        return end

    def _note(self, offset: int, value: bytes) -> None:
        try:
            entry = decode_entry(value)
            entry.check_known()
        except ValueError:  # learning halts there, which others say
            return
        self.roles.note(offset, entry, self.facts.log.log_id)

    def named(self, name: str) -> Declared:
        """The model with this name, or whose lineage begins so.

        Raises
        ------
        ConfigError
            There is none, or more than one lineage begins so.
        """
        found = self.roles.named(name)
        if not found:
            known = ", ".join(one.name for one in self.roles.declared.values()) or "none"
            raise ConfigError(f"no model of this log is named {name}; there are: {known}", "stream-ml models ls CONFIG")
        if found[0].name != name and len(found) > 1:
            raise ConfigError(f"{len(found)} lineages begin with {name}", "stream-ml models ls CONFIG")
        return found[0]

    def order(self, command: str, arguments: dict[str, Any]) -> tuple[int, Verdict]:
        """Write a command about models and read back what became of it.

        Raises
        ------
        ConfigError
            It was refused: somebody else was first, or it makes no sense. Look, and decide anew.
        FatalError
            It was not seen in the log in time; whether it stands there is not known.
        """
        at = write_command(self.config, command, {"by": getpass.getuser(), **arguments}, self.seal)
        deadline = time.monotonic() + READ_BACK_S
        while at not in self.roles.verdicts:
            self.read()
            if time.monotonic() > deadline:
                raise FatalError(
                    f"{command} was written at {at} and cannot be read back: an open transaction stands before it",
                    "look again: stream-ml models ls CONFIG",
                )
            time.sleep(LOOK_S)
        verdict = self.roles.verdicts[at]
        if verdict.kind == "refused":
            raise ConfigError(verdict.words, "stream-ml models ls CONFIG")
        return at, verdict

    def serve(self, known: Declared, why: str) -> int:
        """Let this model serve in place of the one that does; the epoch. Errors as of `order`."""
        at, _ = self.order("serve", serve_arguments(known.lineage, self.roles.table.epoch, getpass.getuser(), why))
        return at + 1


class Owner(NamedTuple):
    """One partition's owner, and the models that it has ready: by lineage the position of each."""

    partition: int
    writer: str
    ready: dict[str, int]


def owners(config: Config, partitions: int) -> list[Owner]:
    """Who owns each partition, as it was committed last, and what it has ready."""
    observer = Observer(config, partitions)
    try:
        return [
            Owner(pair.partition, pair.metadata.writer, dict(pair.metadata.ready))
            for pair in observer.pairs()
            if pair.metadata is not None
        ]
    finally:
        observer.close()


def wait_ready(
    config: Config, partitions: int, known: Declared, most_s: float, say: Callable[[str], None]
) -> list[Owner]:
    """Wait until every owner has a model ready.

    Raises
    ------
    ConfigError
        Not in time, or there is no owner: the operator waits longer, or does without.
    """
    deadline, said_s = time.monotonic() + most_s, time.monotonic()
    while True:
        found = owners(config, partitions)
        behind = sorted({one.writer for one in found if known.lineage not in one.ready})
        if found and not behind:
            return found
        if time.monotonic() > deadline:
            who = ", ".join(behind) if behind else "no worker owns a partition"
            raise ConfigError(
                f"{known.name} ({known.lineage}) is not ready everywhere after {most_s:.0f} s: {who}",
                "wait longer with --wait, or let it serve all the same: --no-wait",
            )
        if time.monotonic() - said_s > SAY_S:
            said_s = time.monotonic()
            say(f"waiting for {', '.join(behind) or 'a worker'} to have {known.name} ({known.lineage}) ready")
        time.sleep(LOOK_S)

"""The models of an app as its log says, and commands about them: written, read back, and told what became of them."""

import getpass
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from stream_ml.admin.observer import Observer
from stream_ml.config import Config
from stream_ml.core.fold.roles import Declared, Verdict
from stream_ml.errors import ConfigError, FatalError
from stream_ml.follower.past.logged_models import LoggedModels
from stream_ml.follower.takeover import serve_arguments
from stream_ml.kafka.writing.commands import write_command

READ_BACK_S = 30.0  # for a command to be seen in the log: an open transaction may stand before it
LOOK_S = 0.2
SAY_S = 5.0  # between two lines while a model is waited for


class ModelLog(LoggedModels):
    """The models of one app, and commands about them."""

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

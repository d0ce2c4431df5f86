"""How a changed model takes over: it is declared, learns behind the one that serves, and then serves by a command.

The log decides who serves, the configuration only proposes: a model that the log knows already never takes over by
itself, so a restart with an old file undoes nothing.
"""

import logging
import time
from typing import Any

from stream_ml.config import Config
from stream_ml.core.fold.roles import WHOLE, Declared, Roles
from stream_ml.core.log.seals import LogSeal
from stream_ml.errors import ConfigError, StreamMLError
from stream_ml.follower.lineup import Lineup
from stream_ml.follower.recipes import Recipe, declaration
from stream_ml.kafka.writing.commands import write_command
from stream_ml.runtime.failpoints import Place, passes

NEAR_S = 1.0  # a start waits so long for a new model that is nearly there, instead of answering with the old one
SHORT = 50_000  # entries of a log that a start can be expected to fold in that time
AGAIN_S = 10.0  # after a command that could not be written, or was not read back

PLACES: dict[str, Place] = {"declare": "model-declared", "serve": "model-serves"}  # where a test may end the process

log = logging.getLogger(__name__)


def serve_arguments(lineage: str, epoch: int, by: str, why: str = "") -> dict[str, Any]:
    """Arguments of a command that lets one model serve, in place of the table of this epoch."""
    arms = [{"lineage": lineage, "share": WHOLE}]
    return {"epoch": epoch, "arms": arms, "unit": "", "salt": "", "guard": None, "evidence": None, "by": by, "why": why}


def free_name(recipe: Recipe, roles: Roles) -> str:
    """A name for a model: its own, with ~2 and so on where others of the log have it."""
    taken = {one.name for one in roles.declared.values() if one.lineage != recipe.lineage}
    name, number = recipe.name, 1
    while name in taken:
        number += 1
        name = f"{recipe.name}~{number}"
    return name


class TakeOver:
    """What one process proposes for the model of its configuration; one thread only.

    Attributes
    ----------
    serves
        Whether this process may let it serve: one that only builds it leaves that to a worker.
    proposes
        Whether it may write anything: one that only reads obeys what the log says.
    problem
        Why it cannot be declared; empty where nothing is wrong.
    """

    def __init__(self, config: Config, own: Recipe, seal: LogSeal | None) -> None:
        self._config, self._own, self._seal = config, own, seal
        self._wrote_s: dict[str, float] = {}  # by command, when it was written last (monotonic clock)
        self.serves, self.proposes, self.problem, self._declared_at = True, True, "", -1

    def at_start(self, lineup: Lineup) -> None:
        """What `look` does, but for a model that is far behind where another one can answer.

        That one is declared with the first partition that is claimed: writing a command takes a while.
        """
        if not self.proposes:
            return
        if lineup.head.models and not self._is_short(lineup):
            self._wrote_s.setdefault("declare", time.monotonic())
            if self._config.models.upgrade == "auto":
                return
        self.look(lineup)

    def _is_short(self, lineup: Lineup) -> bool:
        return lineup.head.read_position < SHORT

    def undeclared(self, lineup: Lineup) -> dict[str, Any] | None:
        """Arguments of the command that declares the own model, where the log knows others and not this one."""
        roles = lineup.head.book.facts.roles
        if not roles.table.lineage or self._own.lineage in roles.declared or self._config.models.upgrade == "manual":
            return None
        return declaration(self._own, self._config, name=free_name(self._own, roles), auto=True)

    def look(self, lineup: Lineup) -> None:
        """Declare the own model where the log does not know it, let it serve where it is ready; cheap.

        Raises
        ------
        ConfigError
            models.upgrade is manual, and the log does not know the model: the operator declares it.
        """
        roles = lineup.head.book.facts.roles
        if not roles.table.lineage or roles.table.lineage == self._own.lineage:
            return
        known = roles.declared.get(self._own.lineage)
        if known is None:
            self._declare(lineup)
        elif self.serves and self._may_serve(known, roles) and self._is_ready(lineup):
            self._serve(known, roles)

    def is_near(self, lineup: Lineup) -> bool:
        """Whether the own model is on its way to serve, and nothing says that it will be long."""
        roles, own = lineup.head.book.facts.roles, self._own.lineage
        if (
            not roles.table.lineage
            or roles.table.lineage == own
            or own in lineup.unbuildable
            or not (self.serves and self.proposes)
        ):
            return False
        known, chase = roles.declared.get(own), lineup.chasing.get(own)
        left_s = None if chase is None else chase.left_s(lineup.head.read_position)
        wanted = known is None or self._may_serve(known, roles)
        return wanted and (self._is_short(lineup) if left_s is None else left_s < NEAR_S)

    def _declare(self, lineup: Lineup) -> None:
        roles = lineup.head.book.facts.roles
        serving = roles.declared[roles.table.lineage]
        if self._config.models.upgrade == "manual":
            raise ConfigError(
                f"the log does not know the configuration's model ({self._own.lineage}); {serving.name} "
                f"({serving.lineage}) serves, and models.upgrade is manual",
                f"stream-ml models declare CONFIG, then stream-ml promote CONFIG {self._own.lineage}; "
                "or go back to the configuration that serves",
            )
        verdict = roles.verdicts.get(self._declared_at)
        if verdict is not None and verdict.kind == "refused":  # it would be refused again
            self.problem = f"the configuration's model is not declared: {verdict.words}"
            return
        arguments = self.undeclared(lineup) if self._is_due("declare") else None
        if arguments is not None and self._written("declare", arguments):
            log.info(
                "model %s (%s) is new: it learns behind %s (%s), and takes over once it is ready",
                *(arguments["name"], self._own.lineage, serving.name, serving.lineage),
            )

    def _may_serve(self, known: Declared, roles: Roles) -> bool:
        """Whether nobody has decided otherwise since it was declared."""
        return known.auto and not known.served and not known.retired and known.epoch == roles.table.epoch

    def _is_ready(self, lineup: Lineup) -> bool:
        model = lineup.head.models.get(self._own.lineage)
        return model is not None and model.halt is None and lineup.head.book.halt is None and model.is_healthy

    def _serve(self, known: Declared, roles: Roles) -> None:
        arguments = serve_arguments(known.lineage, roles.table.epoch, self._config.instance, "it is ready")
        if self._is_due("serve") and self._written("serve", arguments):
            log.info("model %s (%s) takes over from %s", known.name, known.lineage, roles.table.lineage)

    def _is_due(self, command: str) -> bool:
        """Whether the last one was not written just now: it may not have been read back yet."""
        return time.monotonic() >= self._wrote_s.get(command, -AGAIN_S) + AGAIN_S

    def _written(self, command: str, arguments: dict[str, Any]) -> bool:
        """Write a command; whether it stands in the log now. It is read back, else it is tried again."""
        self._wrote_s[command] = time.monotonic()
        try:
            at = write_command(self._config, command, arguments, self._seal, writer=self._config.transactional_id)
        except StreamMLError as error:  # Kafka is away, or refuses it
            log.warning("%s could not be written; it is tried again: %s", command, error)
            return False
        self._declared_at = at if command == "declare" else self._declared_at
        passes(PLACES[command])
        return True

"""Who recovers from what.

::

    StreamMLError(what happened and where; hint: what to type next)
     +- ConfigError      the operator mends a file or the topics     exit code 78, before anything is consumed
     +- TransientError   Kafka cannot be reached                     exit code 69; a supervisor tries again
     +- CheckpointError  the loader passes over to an older one      never leaves the process
     +- FatalError       an invariant broke or the client is lost    exit code 1; a restart recovers from the log
    (no exception)       DeadLetter, Outcome                         bad data is a value
"""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class StreamMLError(Exception):
    """What happened and where, with a hint that says what to type next."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Message and hint, each on its own line."""
        return f"{self.message}\n  -> {self.hint}" if self.hint else self.message


class ConfigError(StreamMLError):
    """The configuration, a schema, a model or the topics are not what the service needs."""

    exit_code = 78
    parts: "tuple[ConfigError, ...]" = ()  # where it stands for several


class Problems:
    """Gathers errors of one configuration, so that the operator is told all of them and not only the first."""

    def __init__(self) -> None:
        self.found: list[ConfigError] = []

    def of(self, make: Callable[[], T]) -> T | None:
        """What `make` gives, or None where it raises a ConfigError, which is kept."""
        try:
            return make()
        except ConfigError as error:
            self.found += error.parts or (error,)
            return None

    def add(self, message: str, hint: str = "") -> None:
        """One more."""
        self.found.append(ConfigError(message, hint))

    def error(self) -> ConfigError:
        """All of them as one."""
        if len(self.found) == 1:
            return self.found[0]
        every = ConfigError(f"{len(self.found)} things are wrong:\n" + "\n".join(f"- {error}" for error in self.found))
        every.parts = tuple(self.found)
        return every


class TransientError(StreamMLError):
    """Kafka, or something that has to be fetched, cannot be reached now."""

    exit_code = 69


class CheckpointError(StreamMLError):
    """A checkpoint cannot be used; the loader passes over to an older one."""


class OldFormat(CheckpointError):
    """A checkpoint of another format than this version writes: it is skipped, and the log is folded."""


class FatalError(StreamMLError):
    """The process cannot go on; a new one recovers from the log."""

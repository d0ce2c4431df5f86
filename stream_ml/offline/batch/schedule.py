"""What batch scoring by a schedule has done, and what is to be done next: kept in one file, values alone."""

import fcntl
import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from stream_ml.errors import ConfigError
from stream_ml.storage.files import replaced

FORMAT = 1
RUNS_MAX = 200  # that are kept, for people
FILES_MAX = 100_000  # that are known
SETTLED_S = 2.0  # a file that was written to since is left for the next time


class Schedule:
    """Times, in cron's words.

    Parameters
    ----------
    words
        As Debian's cron has them; a sixth word in front counts seconds.
    zone
        A name of the time zone database.

    Raises
    ------
    ConfigError
        They are no such words, or no such zone.
    """

    def __init__(self, words: str, zone: str = "UTC") -> None:
        self.words = words
        try:
            self._zone: tzinfo = UTC if zone == "UTC" else ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigError(f"{zone} is no time zone that is known here", "Europe/Berlin, for example") from error
        try:
            next(CronSim(words, datetime(2026, 1, 1, tzinfo=self._zone)))
        except (CronSimError, StopIteration) as error:
            raise ConfigError(
                f"{words!r} are no words of cron: {error or 'they never come'}",
                "minute, hour, day, month, weekday: '0 3 * * *' is at three; a sixth word in front counts seconds",
            ) from None

    def after(self, moment: datetime) -> datetime:
        """The next time after a moment."""
        times = CronSim(self.words, moment.astimezone(self._zone))
        found = next(times).astimezone(UTC)
        while found <= moment:  # in the hour that a change of the clock repeats
            found = next(times).astimezone(UTC)
        return found

    def last(self, moment: datetime) -> datetime:
        """The last time that is not after a moment."""
        found = next(CronSim(self.words, moment.astimezone(self._zone), reverse=True)).astimezone(UTC)
        following = self.after(found)
        return following if following <= moment else found


class Stamp(NamedTuple):
    """A file as it was when it was looked at."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """As it is now."""
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns)


class Kept:
    """The file of one schedule, for one process at a time.

    Attributes
    ----------
    last
        The time of the schedule that was done last, or at which it began.
    offsets
        By partition of the events, up to where they are done; None: nothing is yet.
    running
        What is under way: of events `ranges` and the time that was due (`key`), of a file its `path`; None: nothing.

    Raises
    ------
    ConfigError
        Another process has it, or it is none.
    """

    def __init__(self, path: Path, began: datetime) -> None:
        self.path, self.last = path, began
        self.offsets: dict[int, int] | None = None
        self.running: dict[str, Any] | None = None
        self._files: dict[str, list[Any]] = {}
        self._runs: list[dict[str, Any]] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written: {error.strerror}", "checkpoints.directory names the folder"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise ConfigError(f"another process does what is kept in {path}", "one schedule is one process") from None
        try:
            if path.exists():
                self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        try:
            said = json.loads(self.path.read_text("utf-8"))
            if said["format"] != FORMAT:
                raise ConfigError(f"{self.path} is of format {said['format']}", "another version of stream_ml wrote it")
            self.last = datetime.fromisoformat(said["last"])
            offsets, self.running = said["offsets"], said["running"]
            self.offsets = None if offsets is None else {int(number): int(at) for number, at in offsets.items()}
            self._files, self._runs = dict(said["files"]), list(said["runs"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ConfigError(
                f"{self.path} cannot be read: {error}", "mend it, or remove it: then all files are scored again"
            ) from error

    def save(self) -> None:
        """Write it durably; OSError where that cannot be."""
        said = {
            "format": FORMAT,
            "last": self.last.isoformat(),
            "offsets": self.offsets,
            "running": self.running,
            "files": self._files,
            "runs": self._runs[-RUNS_MAX:],
        }
        replaced(self.path, json.dumps(said, indent=1).encode(), durable=True)

    def new(self, paths: Iterable[Path], now_s: float) -> list[Path]:
        """Those that are not known, or not as they were; not those that are being written."""
        found = []
        for path in sorted(set(paths)):
            stamp = Stamp.of(path)
            known = self._files.get(str(path.resolve()))
            if (known is None or tuple(known[:2]) != stamp) and now_s - stamp.mtime_ns / 1e9 > SETTLED_S:
                found.append(path)
        return found

    def knows(self, path: Path) -> bool:
        """Whether a file was scored before, as it was then."""
        known = self._files.get(str(path.resolve()))
        return known is not None and not known[2]

    def took(self, path: Path, stamp: Stamp, why: str = "") -> None:
        """Know a file as it was when it was taken, and why it could not be scored; empty: it was."""
        self._files[str(path.resolve())] = [*stamp, why]
        while len(self._files) > FILES_MAX:
            del self._files[next(iter(self._files))]

    def refusals(self) -> dict[str, str]:
        """Files that could not be scored, and why."""
        return {path: why for path, (_, _, why) in self._files.items() if why}

    def note(self, run: dict[str, Any]) -> None:
        """Keep what came of one run, for people."""
        self._runs = [*self._runs, run][-RUNS_MAX:]

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._lock)

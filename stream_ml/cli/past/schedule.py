"""``stream-ml predict --schedule``: a process that scores at each time what has come since the last one."""

import glob
import hashlib
import itertools
import json
import string
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from stream_ml.cli.past.batch import (
    TOPIC,
    Scored,
    Target,
    Work,
    between,
    checked_files,
    score,
)
from stream_ml.cli.past.progress import Progress
from stream_ml.cli.run import INTERRUPTED, LOOK_S, Stop, fix_hash_seed
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.errors import ConfigError, StreamMLError
from stream_ml.kafka.reading.newest import offsets_of, offsets_since
from stream_ml.offline.batch.schedule import Kept, Schedule, Stamp
from stream_ml.offline.batch.sinks import AlreadyDone, asked_of, discard_stale
from stream_ml.offline.rows import FileRefused

AGAIN_S = 30.0  # after a run that failed: Kafka or a database is away, a disk is full
NAMES = {True: "file", False: "time"}  # what stands in --out for a file of its own: of files, of events


class Runs:
    """What is scored at each time; one process, one thread.

    Parameters
    ----------
    patterns
        Of files; none: events of the topic.
    keep_on
        Whether it was not told to stop.
    tell
        Is given what one run came to.
    from_ms
        Of events: those that came before are never scored.
    """

    def __init__(
        self,
        config: Config,
        patterns: Sequence[str],
        target: Target,
        kept: Kept,
        keep_on: Callable[[], bool],
        tell: Callable[[datetime, Scored], None],
        from_ms: int = 0,
    ) -> None:
        self._config, self._patterns, self._target, self._from_ms = config, patterns, target, from_ms
        self._kept, self._keep_on, self._tell = kept, keep_on, tell

    def run(self, due: datetime) -> None:
        """Score what has come up to a time of the schedule; a run that was ended goes on."""
        if self._patterns:
            self._files(due)
        else:
            self._events(due)
        if self._keep_on():
            self._kept.last = due
            self._kept.save()

    def _files(self, due: datetime) -> None:
        kept = self._kept
        names = (glob.glob(pattern, recursive=True) for pattern in self._patterns)  # noqa: PTH207 - may be absolute
        there = map(Path, itertools.chain.from_iterable(names))
        for path in kept.new((path for path in there if path.is_file()), time.time()):
            stamp, was_begun = Stamp.of(path), kept.running == {"path": str(path)}
            kept.running = {"path": str(path)}
            kept.save()
            try:
                checked_files([path])
                done = self._scored(Work([path], {}, replaces=kept.knows(path)), "{file}", path.stem)
            except AlreadyDone as error:  # it ended between its result and this file
                kept.took(path, stamp, "" if was_begun else error.message)
                if not was_begun:
                    say(f"{path} is left out until it changes: {error.message}", err=True)
            except FileRefused as error:  # the others are scored, and it is once it has changed
                kept.took(path, stamp, error.message)
                say(f"{path} is left out until it changes: {error.message}", err=True)
            else:
                if done is None:
                    return
                kept.took(path, stamp)
                self._done(due, done)
            kept.running = None
            kept.save()
        kept.running = None

    def _events(self, due: datetime) -> None:
        """From where the last run ended to the ends of now: a record that was stamped before comes behind them."""
        kept, config = self._kept, self._config
        was_begun = kept.running is not None
        if kept.running is None:
            if self._from_ms > time.time() * 1000:
                return
            topic = config.events.topic
            stop = {number: end for number, (_, end) in offsets_of(config, topic).items()}
            first = kept.offsets or {}
            if stop.keys() - first.keys():  # at the beginning all, later partitions that came since
                first = {**offsets_since(config, topic, self._from_ms), **first}
            kept.running = {"key": due.strftime("%Y%m%dT%H%M%SZ"), "ranges": between(first, stop), "stop": stop}
            kept.offsets = first
            kept.save()
        said = kept.running
        ranges = {int(number): (first, end) for number, (first, end) in said["ranges"].items()}
        if ranges:
            try:
                done = self._scored(Work([], ranges, key=said["key"]), "{time}", said["key"])
            except AlreadyDone:
                if not was_begun:
                    raise
            else:
                if done is None:
                    return
                self._done(due, done)
        kept.offsets, kept.running = {int(number): at for number, at in said["stop"].items()}, None
        kept.save()

    def _scored(self, work: Work, field: str, name: str) -> Scored | None:
        """Score one work into what the target names for it; what an earlier one has left there goes."""
        target = self._target._replace(out=self._target.out.replace(field, name))
        if target.is_file:
            discard_stale(Path(target.out), asked_of(work.files, work.key, target.at))
        return score(self._config, work, target, Progress(), self._keep_on)

    def _done(self, due: datetime, done: Scored) -> None:
        self._kept.note({"due": due.isoformat(), **done.plain()})
        self._tell(due, done)


def run_scheduled(
    config: Config,
    patterns: Sequence[str],
    from_ms: int | None,
    target: Target,
    words: str,
    zone: str,
    *,
    as_json: bool,
) -> None:
    """Score until told to stop. Times that were missed are done once, together."""
    from stream_ml.admin.models.log import ModelLog

    schedule, stop = Schedule(words, zone), Stop()
    check_out(patterns, target)
    _check(config, target)
    fix_hash_seed(ModelLog(config).facts.log)
    of = json.dumps([*patterns, target.out, target.table, target.at])
    folder = config.path(config.checkpoints.directory)
    name = f"predict-{config.app.id}-{hashlib.sha256(of.encode()).hexdigest()[:8]}.json"
    kept = Kept(folder / name, datetime.now(UTC))

    def tell(due: datetime, done: Scored) -> None:
        said = {"due": due.isoformat(), **done.plain()}
        say(json.dumps(said) if as_json else f"{_shown(datetime.now(UTC))}: {done.words()}")

    try:
        runs = Runs(config, patterns, target, kept, lambda: not stop.told(), tell, from_ms or 0)
        kept.save()  # a time that comes while this is away is not forgotten
        following = schedule.after(kept.last)
        when = f"next at {_shown(following)}" if following > datetime.now(UTC) else "a time was missed: now"
        say(f"scores at {words!r} ({zone}), {when}; kept in {kept.path}", err=True)
        while not stop.told():
            now = datetime.now(UTC)
            if schedule.after(kept.last) > now and kept.running is None:
                time.sleep(min(LOOK_S, (schedule.after(kept.last) - now).total_seconds()))
                continue
            try:
                runs.run(schedule.last(now))
            except (StreamMLError, OSError) as error:
                say(f"not done, and tried again in {AGAIN_S:.0f} s: {error}", err=True)
                _wait(AGAIN_S, stop)
    finally:
        kept.close()
    sys.exit(0 if stop.why == "SIGTERM" else INTERRUPTED)


def check_out(patterns: Sequence[str], target: Target) -> None:
    """Refuse a file as the result of every run."""
    field = NAMES[bool(patterns)]
    if target.is_file and field not in _fields(target.out):
        raise ConfigError(
            f"each run of a schedule writes a file of its own, and {target.out} is one",
            f"--out 'out/{{{field}}}.parquet'",
        )


def _check(config: Config, target: Target) -> None:
    """Refuse at the start what no run could write to."""
    if target.out.startswith(TOPIC):
        from stream_ml.kafka.writing.progress import check_topic

        check_topic(config, target.out.removeprefix(TOPIC))


def _wait(seconds: float, stop: Stop) -> None:
    until_s = time.monotonic() + seconds
    while not stop.told() and time.monotonic() < until_s:
        time.sleep(LOOK_S)


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def _fields(text: str) -> set[str]:
    try:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}
    except ValueError:
        return set()

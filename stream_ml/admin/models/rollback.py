"""Another lineage in the place of the one that serves: the same model, but for what it is not to have learned.

Nothing is unlearned: the lineage is folded behind the one that serves, from a checkpoint before the first example that
it leaves out, and takes over at one position.
"""

from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple

from stream_ml.admin.models.log import ModelLog
from stream_ml.admin.models.where import Condition
from stream_ml.core.avro.framing import Rejected
from stream_ml.core.fold.batches import FoldSettings
from stream_ml.core.fold.facts import LogFacts
from stream_ml.core.fold.roles import Declared, Roles
from stream_ml.core.log.entry import Entry, decode_entry
from stream_ml.core.log.sequences import SequenceTracker
from stream_ml.core.model.freezing import Freezing
from stream_ml.core.model.selection import RANGES_MAX, Range, Selection, united
from stream_ml.errors import ConfigError, StreamMLError
from stream_ml.follower.recipes import Recipe, Recipes, built, declaration, selecting
from stream_ml.follower.restore import log_range, own_checkpoints, seeds_of
from stream_ml.kafka.reading.log_reader import log_value
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.records import Record
from stream_ml.storage.checkpoints import Checkpoint
from stream_ml.storage.keys import key_of


class Tally:
    """Examples, counted: where they come from and what came true."""

    def __init__(self) -> None:
        self.count, self.first_ms, self.last_ms = 0, 0, 0
        self.partitions: set[int] = set()
        self.labels: Counter[str] = Counter()

    def add(self, entry: Entry) -> None:
        """Count one."""
        at_ms = entry.label_time_ms
        self.first_ms = min(self.first_ms, at_ms) if self.count else at_ms
        self.last_ms = max(self.last_ms, at_ms) if self.count else at_ms
        self.count += 1
        self.partitions.add(entry.source_partition)
        if entry.target.class_name is not None:
            self.labels[entry.target.class_name] += 1

    def share(self, label: str) -> float | None:
        """Of those with a class, how many had this one; None of none."""
        return self.labels[label] / self.labels.total() if self.labels else None


class Found(NamedTuple):
    """The examples that are to be left out, beside all those before them."""

    ranges: tuple[Range, ...]
    out: Tally
    before: Tally


def look(
    log: ModelLog, settings: FoldSettings, wanted: Condition | tuple[Range, ...], say: Callable[[int, int], None]
) -> Found:
    """Read the log and count what a condition, or ranges of offsets, would leave out.

    Raises
    ------
    ConfigError
        Nothing would be; or a field is misspelt.
    """
    config, topic = log.config, log.config.training_log_topic
    selection = None if isinstance(wanted, Condition) else Selection(wanted)
    if isinstance(wanted, Condition):
        wanted.check_fields([field["name"] for field in settings.payloads.reader.fields])
    out, before, found = Tally(), Tally(), list[Range]()
    facts, nothing = LogFacts(settings), SequenceTracker()
    first, end = log_range(config)
    is_out = False
    for batch in read_range(config, topic, 0, first, end, keep_alive=lambda: None):
        for record in batch:
            entry = _entry(record, log, facts, nothing)
            if entry is None:
                continue
            if selection is None:
                assert isinstance(wanted, Condition)  # noqa: S101
                holds = wanted.holds(entry, _payload(settings, entry) if wanted.needs_event else None)
            else:
                holds = selection.excludes(record.offset)
            if holds:  # no example stands between it and the last one that is left out
                begins = found.pop()[0] if found and is_out else record.offset
                found.append((begins, record.offset + 1))
                out.add(entry)
            elif not found:
                before.add(entry)
            is_out = holds
        say(batch[-1].offset, end)
    if not out.count:
        words = wanted.text if isinstance(wanted, Condition) else ", ".join(f"{a}:{b}" for a, b in wanted)
        raise ConfigError(f"no example of {topic} is left out by {words}", f"it holds {first:,} to {end:,}")
    return Found(united(found) if selection is None else selection.exclude, out, before)


def _entry(record: Record, log: ModelLog, facts: LogFacts, nothing: SequenceTracker) -> Entry | None:
    """The example in a record; a schema is noted. None of anything else."""
    try:
        entry = decode_entry(log_value(record, log.seal))
        if entry.kind == "schema":
            facts.note(entry, nothing)
    except (ValueError, StreamMLError):  # learning halts there, which others say
        return None
    return entry if entry.kind == "example" else None


def _payload(settings: FoldSettings, entry: Entry) -> Any:
    found = settings.payloads.decode_logged_one(entry.event_schema, entry.event_framing, entry.event)
    return None if isinstance(found, Rejected) else found


class Frozen(NamedTuple):
    """When a model did not learn.

    Parameters
    ----------
    stretches
        Offsets of the log for which it was frozen.
    at_end
        Whether it still is.
    by_name
        Whether a command did that which names it.
    """

    stretches: list[Range]
    at_end: bool
    by_name: bool


def frozen_upto(log: ModelLog, recipe: Recipe, position: int) -> Frozen:
    """When a model was frozen before a position, by the commands of the log and its own specification.

    Parameters
    ----------
    log
        Read up to that position.
    """
    freezing, found, since = Freezing(recipe.parts.selection), list[Range](), -1
    hold_from, reached = recipe.parts.selection.hold_from, log.begins_at
    commands = [one for one in log.freezes if one[0] < position]
    for offset, entry in [*commands, (position, None)]:
        if hold_from is not None and reached <= hold_from < offset and not freezing.frozen:
            freezing.reach(hold_from, hold_from)
            since = hold_from
        reached = offset
        named = None if entry is None else entry.parsed_arguments().get("lineage")
        if entry is not None and named in (None, recipe.lineage):
            was = freezing.frozen
            freezing.obey(offset, entry, own=named is not None)
            if freezing.frozen and not was:
                since = offset
            elif was and not freezing.frozen:
                found.append((since, offset))
    if freezing.frozen and since < position:
        found.append((since, position))
    return Frozen(found, freezing.frozen, freezing.commanded.own is not None)


# --- the lineage ---


class Plan(NamedTuple):
    """A lineage that is to take the place of another.

    Parameters
    ----------
    begins
        Lineage and position of the checkpoint with which a worker on this machine would begin; None: at the log's
        beginning.
    """

    recipe: Recipe
    name: str
    begins: tuple[str, int] | None

    def arguments(self, log: ModelLog, why: str) -> dict[str, Any]:
        """Of the command that declares it."""
        said = declaration(self.recipe, log.config, name=self.name)
        return said | {"epoch": log.roles.table.epoch, "why": why}


def planned(log: ModelLog, recipes: Recipes, of: Declared, selection: Selection) -> Plan:
    """The lineage that is a model with another selection.

    Raises
    ------
    ConfigError
        The model cannot be built here, or not any more: the log has lost its beginning, and no checkpoint helps.
    """
    recipe = built(recipes, of)
    found = selecting(recipe, selection, log.facts.log)
    if found.lineage == recipe.lineage:
        raise ConfigError(f"{of.name} ({of.lineage}) has left out exactly this: there is nothing to declare")
    if len(selection.exclude) > RANGES_MAX:
        raise ConfigError(
            f"{selection.left_out:,} entries in {len(selection.exclude):,} places are more than the {RANGES_MAX:,} "
            "ranges of one model",
            "leave out a range of offsets instead: --exclude FIRST:STOP",
        )
    return planned_as(log, found, of)


def planned_as(log: ModelLog, found: Recipe, of: Declared) -> Plan:
    """A lineage that is made of a model, as it is to be declared.

    Raises
    ------
    ConfigError
        It cannot be folded: the log has lost its beginning, and no checkpoint helps.
    """
    first, _ = log_range(log.config)
    begins = beginning(log, found, first)
    if begins is None and first > 0:
        raise ConfigError(
            f"{log.config.training_log_topic} begins at {first:,}, and no checkpoint in "
            f"{log.config.path(log.config.checkpoints.directory)} lies before the first example that is left out: "
            "the model cannot be folded without it",
            "bring a checkpoint that does (stream-ml checkpoints import CONFIG FILE), or leave out less",
        )
    known = log.roles.declared.get(found.lineage)
    return Plan(found, known.name if known is not None else next_name(of.name, log.roles), begins)


def beginning(log: ModelLog, recipe: Recipe, first: int) -> tuple[str, int] | None:
    """The newest checkpoint on this machine with which a model may begin on a log that begins there: of which lineage,
    and where; None: none."""
    _, own = own_checkpoints(log.config, recipe.lineage)
    seeds = seeds_of(log.config, key_of(log.config, make=False), recipe)
    for one in (one for one in chain(own, seeds) if isinstance(one, Checkpoint)):
        return (str(one.header["lineage"]), one.position) if one.position > first or not first else None
    return None


def next_name(name: str, roles: Roles) -> str:
    """The name of a lineage that is a model but for what it has learned: with ~1 and so on behind it."""
    base, taken, number = name.rpartition("~")[0] or name, {one.name for one in roles.declared.values()}, 1
    while f"{base}~{number}" in taken:
        number += 1
    return f"{base}~{number}"


def ranges_of(text: str) -> tuple[Range, ...]:
    """Ranges out of ``A:B,C:D``; ConfigError where they are none."""
    found = []
    for part in text.replace("_", "").split(","):
        first, _, stop = part.strip().partition(":")
        if not (first.isdecimal() and stop.isdecimal() and int(first) < int(stop) < 2**63):
            raise ConfigError(
                f"--exclude: {part.strip()!r} is no range of offsets", "write FIRST:STOP, the second one not included"
            )
        found.append((int(first), int(stop)))
    return united(found)

"""Another lineage in the place of the one that serves: the same model, but for what it is not to have learned.

Nothing is unlearned: the lineage is folded behind the one that serves, from a checkpoint before the first example that
it leaves out, and takes over at one position.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from stream_ml.admin.models.log import ModelLog
from stream_ml.admin.models.where import Condition
from stream_ml.core.avro.framing import Rejected
from stream_ml.core.fold.batches import FoldSettings, Run
from stream_ml.core.fold.book import Book, Judged
from stream_ml.core.fold.roles import Declared, Roles
from stream_ml.core.log.entry import Entry
from stream_ml.core.model.selection import RANGES_MAX, Range, Selection, united
from stream_ml.errors import ConfigError
from stream_ml.follower.past.judged import judged_entries
from stream_ml.follower.recipes import Recipe, Recipes, built, declaration, selecting
from stream_ml.follower.restore import log_range, own_checkpoints, seeds_of
from stream_ml.storage.checkpoints import Checkpoint, CheckpointStore
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
        Nothing would be; or it is scattered over more ranges than a specification may have.
    """
    out, before, offsets = Tally(), Tally(), list[int]()
    selection = None if isinstance(wanted, Condition) else Selection(wanted)
    book = Book(settings)
    first, end = log_range(log.config)
    book.position = book.read_position = first
    for judged in judged_entries(log.config, settings, book, end, log.seal):
        for offset, entry, features_of in _examples(judged):
            if selection is None:
                holds = wanted.holds(entry, features_of(settings) if wanted.needs_event else None)  # type: ignore[union-attr]
            else:
                holds = selection.excludes(offset)
            if holds:
                offsets.append(offset)
                out.add(entry)
            elif not offsets:
                before.add(entry)
        say(book.read_position, end)
    if not out.count:
        words = wanted.text if isinstance(wanted, Condition) else ", ".join(f"{a}:{b}" for a, b in wanted)
        raise ConfigError(
            f"no example of {log.config.training_log_topic} is left out by {words}", f"it holds {first:,} to {end:,}"
        )
    ranges = united((offset, offset + 1) for offset in offsets) if selection is None else selection.exclude
    if len(ranges) > RANGES_MAX:
        raise ConfigError(
            f"{out.count:,} examples in {len(ranges):,} places are more than the {RANGES_MAX:,} ranges of one model",
            "leave out a range of offsets instead: --exclude FIRST:STOP",
        )
    return Found(ranges, out, before)


def _examples(judged: list[Judged]) -> Iterator[tuple[int, Entry, Callable[[FoldSettings], Any]]]:
    for one in judged:
        if not one.learns:
            continue
        for single in one.item.singles() if isinstance(one.item, Run) else [one.item]:
            if single.entry is not None:
                yield single.record.offset, single.entry, _payload_of(single.entry)


def _payload_of(entry: Entry) -> Callable[[FoldSettings], Any]:
    def payload(settings: FoldSettings) -> Any:
        found = settings.payloads.decode_logged_one(entry.event_schema, entry.event_framing, entry.event)
        return None if isinstance(found, Rejected) else found

    return payload


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
    begins = beginning(log, found)
    first, _ = log_range(log.config)
    if begins is None and first > 0:
        raise ConfigError(
            f"{log.config.training_log_topic} begins at {first:,}, and no checkpoint in "
            f"{log.config.path(log.config.checkpoints.directory)} lies before the first example that is left out: "
            "the model cannot be folded without it",
            "bring a checkpoint that does (stream-ml checkpoints import CONFIG FILE), or leave out less",
        )
    known = log.roles.declared.get(found.lineage)
    return Plan(found, known.name if known is not None else next_name(of.name, log.roles), begins)


def beginning(log: ModelLog, recipe: Recipe) -> tuple[str, int] | None:
    """The newest checkpoint on this machine with which a model may begin: of which lineage, and where; None: none."""
    store, own = own_checkpoints(log.config, recipe.lineage)
    found = [(recipe.lineage, one.position) for one in own if isinstance(one, Checkpoint)][:1]
    directory, key = log.config.path(log.config.checkpoints.directory), key_of(log.config, make=False)
    if not found and directory.is_dir() and (key is not None or log.config.checkpoints.unsealed):
        names = sorted(folder.name for folder in directory.iterdir() if folder.name != store.folder.name)
        stores = [CheckpointStore(directory, name, keep=1, key=key) for name in names]
        found = [(str(one.header["lineage"]), one.position) for one in seeds_of(recipe, stores, None)][:1]
    return found[0] if found else None


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

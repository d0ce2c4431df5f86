"""``stream-ml audit``: read everything that stands in the topics, and say what is wrong, with coordinates."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stream_ml.cli.run import fix_hash_seed
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.config.model import Watch
from stream_ml.kafka.topics import inspect_topics
from stream_ml.observe.problems import printable

if TYPE_CHECKING:
    from stream_ml.audit.audit import Audit

SHOWN_MAX = 50


def audit(config: Config, sample: int, *, as_json: bool) -> int:
    """Print what stands in the topics; the exit code: 1 where something is wrong."""
    from stream_ml.follower.identity import identified

    facts = identified(config, inspect_topics(config), make=False)
    if sample:
        fix_hash_seed(facts.log)

    from stream_ml.app.assemble import assemble
    from stream_ml.audit.audit import audit as read_all
    from stream_ml.kafka.errors import reaching

    with reaching(config):
        found = read_all(assemble(config), facts, sample)
    plain = found._asdict()
    plain["findings"] = [str(finding) for finding in found.findings]
    plain["rescored"] = found.rescored._asdict() if found.rescored else None
    say(json.dumps(plain) if as_json else _words(found, config.watch))
    return 1 if found.counts else 0


def _words(found: "Audit", watch: Watch) -> str:
    lines = [
        f"{found.events:,} events, {found.feedback:,} labels: {found.predictions:,} predictions, "
        f"{found.examples:,} examples, outcomes: {_counts(found.outcomes)}, "
        f"dead letters: {_counts(found.dead_letters)}",
        f"{len(found.waiting):,} labels wait for their event, {found.unread:,} records are not read yet",
    ]
    if found.rescored is not None:
        left = f", {found.rescored.unchecked} could not be" if found.rescored.unchecked else ""
        lines.append(f"{found.rescored.checked} predictions derived again from the log{left}")
        lines += [f"model {lineage} cannot be built here: {why}" for lineage, why in found.rescored.unbuildable.items()]
    if found.given_up:
        lines.append(f"{found.given_up:,} events were given up by hand (offsets set)")
    strange = _strange(found, watch)
    lines += strange
    ended = "nothing is lost and nothing twice, but look at the lines above" if strange else "nothing is wrong"
    lines += [printable(str(finding)) for finding in found.findings[:SHOWN_MAX]]
    return "\n".join([*lines, f"wrong: {_counts(found.counts)}" if found.counts else ended])


def _strange(found: "Audit", watch: Watch) -> list[str]:
    """What breaks no promise and can hardly be meant: ids that do not fit, by the shares that a worker is told by."""
    lines, ended = [], sum(found.outcomes.values()) + found.examples
    if found.duplicates > watch.duplicates_max * found.predictions and found.predictions >= watch.least:
        lines.append(
            f"{found.duplicates:,} of {found.predictions:,} events have an id that came before: they were never "
            "learned; is events.id the id of one event?"
        )
    for outcome, words, most in (
        ("orphan", "found no event", watch.orphans_max),
        ("late", "came later than feedback.ttl", watch.late_max),
    ):
        count = found.outcomes.get(outcome, 0)
        if count > most * ended and ended >= watch.least:
            lines.append(f"{count:,} of {ended:,} labels {words}: nothing was learned from them")
    waiting = len(found.waiting)
    if waiting > watch.waiting_max * (waiting + found.examples) and waiting >= watch.least:
        lines.append(f"{waiting:,} labels wait for an event, and {found.examples:,} have met theirs: do the ids fit?")
    return lines


def _counts(found: Mapping[Any, int]) -> str:
    return ", ".join(f"{printable(str(name))} {count:,}" for name, count in sorted(found.items())) or "0"

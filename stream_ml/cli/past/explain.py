"""``stream-ml explain``: why an event was predicted what it was."""

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_ml.cli.options import configured
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.errors import ConfigError
from stream_ml.units import duration_words, time_text

if TYPE_CHECKING:
    from stream_ml.core.model.contributions import Contributions
    from stream_ml.core.model.estimator import Scored
    from stream_ml.offline.explain import Again, Told
    from stream_ml.records import Served

PARTS_SHOWN = 20


@configured
def explain(
    config: Config,
    event_id: Annotated[
        str | None, typer.Argument(metavar="[EVENT_ID]", help="Id of the event, as predictions have it.")
    ] = None,
    origin: Annotated[
        str | None, typer.Option(metavar="PARTITION:OFFSET", help="The event by its place instead of its id.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Explain a prediction: by which version it was made, the same derived again from the log, what each feature added,
    when its label was learned, and what the model that serves now would say. Exit code 1 where it comes out otherwise.
    """
    from stream_ml.admin.models.log import ModelLog
    from stream_ml.app.assemble import assemble
    from stream_ml.cli.run import fix_hash_seed
    from stream_ml.follower.recipes import Recipes
    from stream_ml.offline.explain import Explainer, find

    if (event_id is None) is (origin is None):
        raise ConfigError("name one event", "stream-ml explain CONFIG EVENT_ID, or --origin PARTITION:OFFSET")
    place = None if origin is None else _place(origin)
    log = ModelLog(config)
    fix_hash_seed(log.facts.log)
    parts = assemble(config)
    recipes = Recipes(parts, log.facts, log.seal)
    found = find(parts, event_id, place, lambda words: say(words, err=True))
    told = found[0]
    explainer = Explainer(parts, recipes, log.facts, log.seal)
    labelled = explainer.label(told, log.position)
    event = explainer.event(told, None if labelled is None else labelled[1])
    served = told.of.served
    recipe = explainer.recipe(told, log.roles.declared.get(served.lineage))
    said: dict[str, Any] = {
        "event_id": told.of.event_id,
        "event": {"topic": told.of.topic, "partition": told.of.partition, "offset": told.of.offset},
        "prediction": {"topic": told.topic, "partition": told.partition, "offset": told.offset, "at_ms": told.at_ms},
        "published": _scored(served) | {"flags": list(served.flags), "epoch": served.epoch},
        "model": {"lineage": served.lineage, "position": served.position},
        "label": None if labelled is None else labelled[0]._asdict(),
        "others": [f"{one.topic}[{one.partition}] {one.offset}" for one in found[1:]],
    }
    declared = log.roles.declared.get(served.lineage)
    said["model"]["name"] = declared.name if declared is not None else ""
    again = now = None
    if event is None:
        said["not_derived"] = f"the event is neither in {told.of.topic} any more nor in the log: it was never labelled"
    elif isinstance(recipe, str):
        said["not_derived"] = f"model {served.lineage} cannot be built here: {recipe}"
    else:
        again = explainer.again(recipe, served.position, event, served)
        said["derived"] = _again(again)
        now = _now(explainer, recipes, log, event, served.lineage)
        if now is not None:
            said["now"] = _again(now[1]) | {"lineage": now[0]}
    if as_json:
        say(json.dumps(said))
    else:
        _tell(said, told, again, now)
    if again is not None and again.differs and "unsound" not in served.flags:
        raise typer.Exit(1)


def _place(text: str) -> tuple[int, int]:
    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise ConfigError(f"--origin: {text!r} is no place", "write PARTITION:OFFSET")
    return int(partition), int(offset)


def _now(explainer: Any, recipes: Any, log: Any, event: Any, lineage: str) -> "tuple[str, Again] | None":
    """What the model that serves now says, at the log's end; None where it cannot be built."""
    serving = log.roles.table.lineage or lineage
    recipe = recipes.of(serving, log.roles.declared.get(serving))
    return None if isinstance(recipe, str) else (serving, explainer.again(recipe, None, event, None))


def _scored(one: "Scored | Served") -> dict[str, Any]:
    return {"class": one.class_name, "score": one.score, "value": one.value}


def _again(again: "Again") -> dict[str, Any]:
    if again.scored is None:
        return {"why_not": again.why}
    found: dict[str, Any] = _scored(again.scored)
    found |= {
        "differs": again.differs,
        "examples_learned": again.examples_learned,
        "from_checkpoint": again.began_at,
        "clipped": again.clipped,
    }
    if again.contributions is not None:
        one = again.contributions
        found["contributions"] = one._asdict() | {"parts": [part._asdict() for part in one.parts]}
    return found


# --- for people ---


def _tell(said: dict[str, Any], told: "Told", again: "Again | None", now: "tuple[str, Again] | None") -> None:
    served = told.of.served
    name = f"{said['model']['name']} " if said["model"]["name"] else ""
    flags = ", ".join(served.flags) or "none"
    say(
        f"{told.of.event_id}: {_words(served)}, by {name}{served.lineage}/{served.position:,}, epoch {served.epoch:,}, "
        f"{time_text(told.at_ms)}; flags {flags}"
    )
    of = told.of
    label = said["label"]
    learned = (
        "no label is in the log"
        if label is None
        else f"label {label['label']} after {duration_words(label['delay_ms'])}, in the log at {label['position']:,}"
    )
    prediction = f"{told.topic}[{told.partition}] {told.offset:,}"
    say(f"event {of.topic}[{of.partition}] {of.offset:,} -> prediction {prediction}; {learned}")
    for other in said["others"]:
        say(f"also predicted: {other}")
    if "not_derived" in said:
        say(f"cannot be derived again: {said['not_derived']}")
    if again is not None:
        _tell_again(again, served)
    if now is not None and again is not None and now[1].scored is not None:
        say(f"now {now[0]} says {_words(now[1].scored)}, with {now[1].examples_learned:,} examples learned")


def _tell_again(again: "Again", served: "Served") -> None:
    if again.scored is None:
        say(f"cannot be derived again: {again.why}")
        return
    begins = f"checkpoint {again.began_at:,}" if again.began_at else "the log's beginning"
    how = f"{begins} + {max(0, served.position - again.began_at):,} entries"
    if "unsound" in served.flags:
        equal = "the log does not give what a corrupted model said, which the flag unsound says"
    else:
        equal = "ANOTHER ONE than was published" if again.differs else "the same"
    say(f"derived again: {how}: {_words(again.scored)} ({equal}); {again.examples_learned:,} examples learned by then")
    if again.clipped:
        say("a value was brought within its limits before the model saw it")
    if again.contributions is None:
        say("the model had no answer yet")
        return
    for line in contribution_lines(again.contributions):
        say(line)


def contribution_lines(of: "Contributions") -> list[str]:
    """What each feature added, a line each, the largest first."""
    note = "" if of.is_exact else ", approximate" if of.how != "ablation" else ": without each feature, one at a time"
    lines = [f"{of.of} {of.total:.4f} = {of.base:.4f} and ({of.how}{note})"]
    for part in of.parts[:PARTS_SHOWN]:
        value = (
            ""
            if part.value is None
            else f" = {part.value:.6g}"
            if isinstance(part.value, float)
            else f" = {part.value}"
        )
        lines.append(f"  {part.adds:+.4f}  {part.name}{value}")
    if len(of.parts) > PARTS_SHOWN:
        rest = math.fsum(part.adds for part in of.parts[PARTS_SHOWN:])
        lines.append(f"  {rest:+.4f}  {len(of.parts) - PARTS_SHOWN:,} others")
    return lines


def _words(one: "Scored | Served") -> str:
    if one.value is not None:
        return f"{one.value:.6g}"
    if one.class_name is None:
        return "no answer (cold)"
    return one.class_name if one.score is None else f"{one.class_name}, {one.score:.4f}"

"""The verbs about models: which there are, who serves, and another one in its place."""

import datetime
import difflib
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_ml.cli.options import configured
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.errors import ConfigError
from stream_ml.units import duration_ms

if TYPE_CHECKING:
    from stream_ml.admin.models.log import ModelLog
    from stream_ml.core.fold.roles import Declared

models = typer.Typer(no_args_is_help=True, help="The models of one log: declared, standing by, serving, retired.")

Named = Annotated[str, typer.Argument(metavar="NAME", help="A model's name, or the beginning of its lineage.")]
Wait = Annotated[str, typer.Option(help="How long to wait until every worker has it ready.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Write it at once: who is not ready serves on, flagged.")]
Why = Annotated[str, typer.Option(help="Why, for who reads the log later.")]


@models.command("ls")
@configured
def list_models(
    config: Config, as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False
) -> None:
    """Every model that the log knows: who serves, who stands by, and where it is ready."""
    from stream_ml.admin.models.log import ModelLog, owners

    log = ModelLog(config)
    table = log.roles.table
    if not log.roles.declared:
        say("the log declares no model: the first worker does, when it starts")
        return
    if not as_json:
        say(f"{'name':<20} {'lineage':<17} {'role':<9} {'ready in':<24} declared")
    found = owners(config, log.facts.partitions)
    for known in sorted(log.roles.declared.values(), key=lambda one: (one.lineage != table.lineage, -one.position)):
        ready = sorted({one.writer for one in found if known.lineage in one.ready})
        role = _role(known, table.lineage)
        if as_json:
            said = {**known._asdict(), "role": role, "ready": ready, "epoch": table.epoch}
            say(json.dumps(said))
            continue
        when = datetime.datetime.fromtimestamp(known.at_ms / 1000, datetime.UTC).strftime("%Y-%m-%d")
        where = ", ".join(ready) if ready else "-"
        say(f"{known.name:<20} {known.lineage:<17} {role:<9} {where:<24} {when} by {known.by}, at {known.position:,}")
    if not as_json:
        say(f"\nepoch {table.epoch:,}" + (f", before it {table.before} served" if table.before else ""))
        if log.roles.refused:
            say(f"{log.roles.refused} commands about models were refused: stream-ml tail CONFIG signals")


def _role(known: "Declared", serves: str) -> str:
    if known.lineage == serves:
        return "serves"
    return "retired" if known.retired else "standby" if known.standby else "known"


@models.command()
@configured
def show(
    config: Config,
    name: Named,
    spec: Annotated[bool, typer.Option("--spec", help="The whole specification, as JSON.")] = False,
    sources: Annotated[bool, typer.Option("--sources", help="The source, where it is to be had here.")] = False,
) -> None:
    """What one model is made of, and whether it could be built here."""
    from stream_ml.app.overlay import why_not_here

    log, known, said = _declared(config, name)
    if spec:
        say(json.dumps(said["spec"], indent=2, sort_keys=True))
        return
    if sources:
        for path, text in _texts(config, known, said).items():
            say(f"--- {path}\n{text}")
        return
    say(f"{known.name} ({known.lineage}): {_role(known, log.roles.table.lineage)}")
    say(f"declared at {known.position:,} of {config.training_log_topic} by {known.by}")
    say(f"factory {said['spec']['factory']}, parameters {json.dumps(said['spec']['params'])}")
    say("made with " + ", ".join(f"{key} {value}" for key, value in said["environment"].items()))
    for path, digest in said["spec"]["sources"].items():
        say(f"source {path}, SHA-256 {digest[:16]}")
    say(f"here: {why_not_here(said['spec']) or 'the versions are the same'}")


@models.command()
@configured
def diff(config: Config, one: Named, other: Named) -> None:
    """What two models differ in: keys of their specifications, and their source line by line."""
    from stream_ml.core.model.lineage import differing

    (_, first, said), (_, second, than) = _declared(config, one), _declared(config, other)
    specs = said["spec"], than["spec"]
    names = differing(*specs)
    both = f"{first.name} ({first.lineage}) and {second.name} ({second.lineage})"
    say(f"{both} differ in: {', '.join(names) or 'nothing'}")
    for name in names:
        if name not in ("sources", "estimator"):
            say(f"  {name}: {json.dumps(specs[0].get(name))} -> {json.dumps(specs[1].get(name))}")
    texts = _texts(config, first, said), _texts(config, second, than)
    for path in sorted({*texts[0], *texts[1]}):
        before, after = (of.get(path, "").splitlines(keepends=True) for of in texts)
        for line in difflib.unified_diff(before, after, f"{first.name}/{path}", f"{second.name}/{path}"):
            say(line.rstrip("\n"))


@models.command()
@configured
def declare(
    config: Config,
    name: Annotated[str | None, typer.Option(help="What people call it; default: model.name.")] = None,
    standby: Annotated[bool, typer.Option(help="Whether workers are to have it ready.")] = True,
) -> None:
    """Bring the configuration's model into the log: workers learn it beside the one that serves."""
    from stream_ml.admin.models.log import ModelLog
    from stream_ml.app.assemble import assemble
    from stream_ml.app.trial import checked
    from stream_ml.cli.run import fix_hash_seed
    from stream_ml.follower.recipes import Recipes, declaration
    from stream_ml.follower.takeover import free_name

    log = ModelLog(config)
    fix_hash_seed(log.facts.log)
    recipes = Recipes(checked(assemble(config)), log.facts, log.seal)
    recipes.keep_own()
    if recipes.problem:
        say(recipes.problem, err=True)
    called = name or free_name(recipes.own, log.roles)
    arguments = declaration(recipes.own, config, name=called, standby=standby) | {"epoch": log.roles.table.epoch}
    at, verdict = log.order("declare", arguments)
    say(f"{verdict.words}, at {at:,} of {config.training_log_topic}")
    if standby:
        say(f"workers that can build it learn it now; then: stream-ml promote CONFIG {called}")


@models.command()
@configured
def build(config: Config) -> None:
    """Fold the log into the configuration's model up to its end, and write its checkpoint: before an upgrade, beside
    the workers of the old version. A worker of this version then starts at once."""
    from stream_ml.cli.models.build import build as fold_all

    fold_all(config)


@models.command()
@configured
def retire(config: Config, name: Named) -> None:
    """Let workers drop a model that does not serve; what the log and the checkpoints hold of it stays."""
    from stream_ml.admin.models.log import ModelLog

    log = ModelLog(config)
    known = log.named(name)
    at, verdict = log.order("retire", {"epoch": log.roles.table.epoch, "lineage": known.lineage, "why": ""})
    say(f"{verdict.words}, at {at:,} of {config.training_log_topic}")


def _declared(config: Config, name: str) -> "tuple[ModelLog, Declared, dict[str, Any]]":
    from stream_ml.admin.models.log import ModelLog
    from stream_ml.follower.recipes import declaration_at

    log = ModelLog(config)
    known = log.named(name)
    return log, known, declaration_at(config, known.last, log.seal)


def _texts(config: Config, known: "Declared", said: dict[str, Any]) -> dict[str, str]:
    """The source of a model, to be read: out of its declaration, else of the model store."""
    from stream_ml.follower.recipes import unpacked
    from stream_ml.storage.model_store import ModelStore, ModelStoreError

    found = unpacked(said)
    if not found:
        try:
            found = dict(ModelStore(config.path(config.models.directory)).read(known.lineage).sources)
        except ModelStoreError as error:
            say(f"the source of {known.name} is not to be had here: {error.message}", err=True)
    return {path: text.decode("utf-8", "replace") for path, text in found.items()}


def add_commands(app: typer.Typer) -> None:
    """Add the verbs that change who serves."""

    @app.command()
    @configured
    def promote(config: Config, name: Named, wait: Wait = "10m", no_wait: NoWait = False, why: Why = "") -> None:
        """Let another model serve, once every worker has it ready: at one position of the log, in every worker."""
        let_serve(config, name, wait, no_wait=no_wait, why=why)


def let_serve(config: Config, name: str, wait: str, *, no_wait: bool, why: str) -> None:
    """Let a model serve, once every worker has it ready, and say so."""
    from stream_ml.admin.models.log import ModelLog, wait_ready

    log = ModelLog(config)
    known, table = log.named(name), log.roles.table
    if known.lineage == table.lineage:
        say(f"{known.name} ({known.lineage}) serves already, since epoch {table.epoch:,}")
        return
    if known.retired or not known.standby:
        raise ConfigError(
            f"{known.name} ({known.lineage}) is not standing by", "declare it: stream-ml models declare CONFIG"
        )
    if not no_wait:
        found = wait_ready(config, log.facts.partitions, known, duration_ms(wait) / 1000, say)
        where = ", ".join(sorted({f"{one.writer} at {one.ready[known.lineage]:,}" for one in found}))
        say(f"{known.name} ({known.lineage}) stands ready at the log's end: {where}")
    before = log.roles.declared.get(table.lineage)
    epoch = log.serve(known, why)
    said = f", before: {before.name} ({before.lineage})" if before is not None else ""
    say(f"serve stands at {epoch - 1:,}, obeyed (epoch {epoch:,}): {known.name} ({known.lineage}){said}")
    if before is not None:
        say(f"back: stream-ml promote CONFIG {before.name}")

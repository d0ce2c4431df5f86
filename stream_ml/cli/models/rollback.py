"""``stream-ml rollback``: another lineage serves, one that has learned less, or one that served before."""

from typing import TYPE_CHECKING, Annotated

import typer

from stream_ml.cli.models.verbs import NoWait, Wait, Why, let_serve
from stream_ml.cli.options import configured
from stream_ml.cli.past.progress import Progress
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.units import time_text

if TYPE_CHECKING:
    from stream_ml.admin.models.log import ModelLog
    from stream_ml.admin.models.rollback import Found, Plan
    from stream_ml.core.fold.roles import Declared
    from stream_ml.core.model.selection import Selection
    from stream_ml.follower.recipes import Recipe, Recipes


def add_commands(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command()
    @configured
    def rollback(
        config: Config,
        to: Annotated[
            str | None,
            typer.Option(
                "--to",
                metavar="NAME[/POSITION]",
                help="A model that is to serve again, as it is by now; with a position: as it was there, learning on "
                "from the log's end. Default, with --exclude or --where: the model that serves.",
            ),
        ] = None,
        exclude: Annotated[
            str | None,
            typer.Option(metavar="FIRST:STOP[,...]", help="Offsets of the training log that are not to be learned."),
        ] = None,
        where: Annotated[
            str | None,
            typer.Option(
                metavar="CONDITION",
                help="The same by what examples say: partition=3 and label_time>=2026-11-27. Fields: partition, "
                "sequence, id, event_time, label_time, written_at, label, class, score, value, lineage, position, "
                "writer, event.NAME.",
            ),
        ] = None,
        hold: Annotated[
            bool, typer.Option("--hold", help="With a position: it learns nothing more, until resume names it.")
        ] = False,
        learn_frozen: Annotated[
            bool, typer.Option("--learn-frozen", help="Learn also what came while learning was frozen.")
        ] = False,
        respec: Annotated[
            bool,
            typer.Option(
                "--respec",
                help="With --to: the same factory, parameters, features and source under today's versions, where the "
                "model itself cannot be built any more. Another model, learned from the whole log.",
            ),
        ] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be left out, and write nothing.")] = (
            False
        ),
        wait: Wait = "10m",
        no_wait: NoWait = False,
        why: Why = "",
    ) -> None:
        """Go back: to a model that served before, to a version, or to what the model would be without some examples.

        What is left out makes another lineage, which learns the log behind the one that serves and then takes over, at
        one position in every worker. Nothing is deleted, and `promote` goes back again.
        """
        from stream_ml.errors import ConfigError
        from stream_ml.follower.past.logged_models import version_of

        name, position = version_of(to) if to is not None else (None, None)
        changes = exclude is not None or where is not None or learn_frozen or position is not None
        if exclude is not None and where is not None:
            raise ConfigError("--exclude and --where are two ways to say one thing", "give one of them")
        if hold and learn_frozen:
            raise ConfigError("--hold learns nothing, and --learn-frozen more", "give one of them")
        if hold and position is None:
            raise ConfigError("--hold holds a version", "name it: --to NAME/POSITION --hold")
        if position is not None and (exclude is not None or where is not None):
            raise ConfigError(
                "a version and what is left out are two ways back", "--exclude POSITION:STOP leaves out what came later"
            )
        if respec:
            if name is None or changes:
                raise ConfigError("--respec is of a whole model", "--to NAME --respec, and nothing beside it")
            _respec(config, name, wait, no_wait=no_wait, why=why, dry_run=dry_run)
            return
        if name is None and not changes:
            raise ConfigError(
                "there is nothing to go back to",
                "--to NAME, --to NAME/POSITION, --exclude FIRST:STOP or --where CONDITION; stream-ml models ls CONFIG",
            )
        if not changes:
            assert name is not None  # noqa: S101
            if dry_run:
                from stream_ml.admin.models.log import ModelLog

                known = ModelLog(config).named(name)
                say(f"would let {known.name} ({known.lineage}) serve, as it is by now")
                return
            let_serve(config, name, wait, no_wait=no_wait, why=why or "rollback")
            return
        log, of, recipes = _of(config, name)
        if position is not None:
            selection = _as_of(log, of, position, recipes, hold=hold, learn_frozen=learn_frozen)
        else:
            selection = _without(log, of, recipes, exclude, where, learn_frozen=learn_frozen)
        if learn_frozen:
            selection = selection._replace(commands_from=log.read(), hold_from=None)
        _go(log, of, recipes, selection, wait, no_wait=no_wait, why=why, dry_run=dry_run)


def _of(config: Config, name: str | None) -> "tuple[ModelLog, Declared, Recipes]":
    from stream_ml.admin.models.log import ModelLog
    from stream_ml.app.assemble import assemble
    from stream_ml.app.trial import checked
    from stream_ml.cli.run import fix_hash_seed
    from stream_ml.errors import ConfigError
    from stream_ml.follower.recipes import Recipes

    log = ModelLog(config)
    fix_hash_seed(log.facts.log)
    if name is None and not log.roles.table.lineage:
        raise ConfigError("no model serves yet: there is nothing to go back to", "stream-ml run CONFIG")
    of = log.named(log.roles.table.lineage if name is None else name)
    return log, of, Recipes(checked(assemble(config)), log.facts, log.seal)


def _respec(config: Config, name: str, wait: str, *, no_wait: bool, why: str, dry_run: bool) -> None:
    """A model that cannot be built any more, under today's versions: how far it is from what was published is said."""
    from stream_ml.admin.models.rollback import planned_as
    from stream_ml.errors import ConfigError

    log, of, recipes = _of(config, name)
    recipe, names = recipes.respecified(of)
    if recipe.lineage == of.lineage:
        raise ConfigError(
            f"{of.name} ({of.lineage}) can be built here as it was", f"stream-ml rollback CONFIG --to {of.name}"
        )
    known = log.roles.declared.get(recipe.lineage)
    if known is not None:
        raise ConfigError(
            f"{of.name} under today's versions is {known.name} ({known.lineage}), which the log knows",
            f"stream-ml promote CONFIG {known.name}",
        )
    say(f"{of.name} ({of.lineage}) under today's versions is {recipe.lineage}; it differs in {', '.join(names)}")
    say(_apart(log, of, recipes, recipe))
    _declared(log, recipes, planned_as(log, recipe, of), wait, no_wait=no_wait, why=why, dry_run=dry_run)


def _apart(log: "ModelLog", of: "Declared", recipes: "Recipes", recipe: "Recipe") -> str:
    """What a replay of the model says, beside what the other one has published."""
    import tempfile
    from pathlib import Path

    from stream_ml.errors import StreamMLError
    from stream_ml.offline.replay.compare import Terms
    from stream_ml.offline.replay.from_log import tape_of_log
    from stream_ml.offline.replay.replay import Replay
    from stream_ml.offline.replay.specs import Spec

    progress, settings = Progress(), recipes.fresh(recipe)
    said = lambda position, end: progress("reading the log", position / max(1, end))  # noqa: E731
    with tempfile.TemporaryDirectory(prefix="stream-ml-respec-") as folder:
        try:
            tape = tape_of_log(log.config, [settings], log.seal, Path(folder), said=said).tape
            made = Replay(tape, [Spec(of.name, recipe)], settings, 1, lambda _, share: progress("replaying it", share))
            made.run(served=True)
        except StreamMLError as error:
            return f"what it says could not be compared with what was published: {error.message}"
        comparison = made.comparison(Terms())
        same, count = comparison.equal(of.name, of.lineage)
        mean, most = comparison.apart(of.name, of.lineage)
    if not count:
        return f"nothing that {of.name} has published came to be an example: there is nothing to compare"
    return (
        f"of {count:,} examples that {of.name} has scored it says the same in {same:,}; it differs by {mean:.2g} in "
        f"the mean and {most:.2g} at most"
    )


def _as_of(
    log: "ModelLog", of: "Declared", position: int, recipes: "Recipes", *, hold: bool, learn_frozen: bool
) -> "Selection":
    """What a model as of a version learns: nothing of what came since, nor of what it was frozen for before."""
    from stream_ml.admin.models.rollback import frozen_upto
    from stream_ml.core.model.selection import Selection
    from stream_ml.errors import ConfigError
    from stream_ml.follower.recipes import built

    recipe, end = built(recipes, of), log.read()
    if position >= end:
        raise ConfigError(f"{of.name}/{position:,} is no version of the past: the log ends at {end:,}")
    left_out = Selection(recipe.parts.selection.exclude)
    if not learn_frozen:
        left_out = left_out.without(frozen_upto(log, recipe, position).stretches)
    if hold:
        say(f"{of.name} is held at {position:,}: it has learned what stands before, and nothing since")
        return left_out._replace(commands_from=position, hold_from=position)
    say(f"{of.name} as of {position:,}: {end - position:,} entries since are left out, and it learns on from {end:,}")
    return left_out.without([(position, end)])._replace(commands_from=end)


def _without(
    log: "ModelLog",
    of: "Declared",
    recipes: "Recipes",
    exclude: str | None,
    where: str | None,
    *,
    learn_frozen: bool,
) -> "Selection":
    """What a model learns without some examples; says which."""
    from stream_ml.admin.models.rollback import frozen_upto, look, ranges_of
    from stream_ml.admin.models.where import Condition
    from stream_ml.core.model.selection import Selection
    from stream_ml.follower.recipes import built

    recipe = built(recipes, of)
    selection, frozen = recipe.parts.selection, frozen_upto(log, recipe, log.position)
    if frozen.by_name and not learn_frozen:  # commands for this model alone, which are none for another lineage
        selection = Selection(selection.exclude).without(frozen.stretches)
        held = log.position if frozen.at_end else None
        selection = selection._replace(commands_from=log.position, hold_from=held)
    if exclude is None and where is None:
        return selection
    wanted = ranges_of(exclude) if exclude is not None else Condition(where or "")
    progress = Progress()
    said = lambda position, end: progress(f"reading the log: {position:,} of {end:,}", None)  # noqa: E731
    found = look(log, recipes.fresh(recipe), wanted, said)
    say(_words(found, recipe.parts.domain.positive))
    return selection.without(found.ranges)


def _words(found: "Found", positive: str) -> str:
    """What would be left out, for who has to decide whether that is right."""
    out, ranges = found.out, found.ranges
    places = ", ".join(f"{first:,}:{stop:,}" for first, stop in ranges[:3])
    others, many = len(ranges) - 3, "s" * (len(out.partitions) > 1)
    more = f" and {others:,} other range{'s' * (others > 1)}" if others > 0 else ""
    partitions = ", ".join(map(str, sorted(out.partitions)[:10]))
    label = positive or (max(out.labels, key=lambda one: (out.labels[one], one)) if out.labels else "")
    share, before = out.share(label), found.before.share(label)
    labels = "" if share is None else f"; {share:.1%} labelled {label}"
    than = "" if before is None or share is None else f", {before:.1%} before"
    return (
        f"leaves out {out.count:,} examples at {places}{more}, labelled {time_text(out.first_ms)} to "
        f"{time_text(out.last_ms)}, partition{many} {partitions}{labels}{than}"
    )


def _go(
    log: "ModelLog",
    of: "Declared",
    recipes: "Recipes",
    selection: "Selection",
    wait: str,
    *,
    no_wait: bool,
    why: str,
    dry_run: bool,
) -> None:
    """Declare the lineage, and let it serve once it is ready."""
    from stream_ml.admin.models.rollback import planned

    plan = planned(log, recipes, of, selection)
    _declared(log, recipes, plan, wait, no_wait=no_wait, why=why, dry_run=dry_run)


def _declared(
    log: "ModelLog", recipes: "Recipes", plan: "Plan", wait: str, *, no_wait: bool, why: str, dry_run: bool
) -> None:
    from stream_ml.follower.recipes import stored_of

    begins = "the log's beginning" if plan.begins is None else f"checkpoint {plan.begins[1]:,} of {plan.begins[0]}"
    if dry_run:
        say(f"would declare {plan.name} ({plan.recipe.lineage}); on this machine it would begin at {begins}")
        return
    problem = recipes.store.keep(plan.recipe.lineage, stored_of(plan.recipe))
    if problem:
        say(problem, err=True)
    at, verdict = log.order("declare", plan.arguments(log, why or "rollback"))
    say(f"{verdict.words}, at {at:,} of {log.config.training_log_topic}; on this machine it begins at {begins}")
    let_serve(log.config, plan.recipe.lineage, wait, no_wait=no_wait, why=why or "rollback")

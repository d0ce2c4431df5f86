"""``stream-ml checkpoints``: which there are, whether they are right, pinned, brought elsewhere, removed."""

import json
from pathlib import Path
from typing import Annotated

import typer

from stream_ml.cli.options import configured
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.units import duration_ms, duration_words, size_text

checkpoints = typer.Typer(no_args_is_help=True, help="Checkpoints of the models on this machine.")

Version = Annotated[str, typer.Argument(metavar="LINEAGE/POSITION", help="As `checkpoints ls` has it.")]
Of = Annotated[str, typer.Argument(metavar="[LINEAGE]", help="Of one lineage, or whose name begins so.")]
Pin = Annotated[str, typer.Option(help="Name of the pin.")]


@checkpoints.command("ls")
@configured
def list_all(
    config: Config,
    lineage: Of = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Every checkpoint of a model: position, examples, size, age, pins, and what is wrong with it."""
    from stream_ml.admin.models.checkpoints import Checkpoints

    there = Checkpoints(config)
    count = 0
    for one in there.shown(lineage):
        count += 1
        if as_json:
            say(json.dumps(one._asdict()))
            continue
        learned = "-" if one.examples_learned is None else f"{one.examples_learned:,}"
        pins = f"  pinned: {', '.join(one.pins)}" if one.pins else ""
        wrong = f"  WRONG: {one.problem}" if one.problem else ""
        say(
            f"{one.lineage}/{one.position:<12} {learned:>12} examples {one.bytes:>12,} B "
            f"{duration_words(1000 * one.age_s, 0):>8}{pins}{wrong}"
        )
    if not count and not as_json:
        say(f"there are none in {there.directory}")


@checkpoints.command()
@configured
def show(config: Config, version: Version) -> None:
    """What the sealed header of one says, as JSON; without the description of its estimator."""
    from stream_ml.admin.models.checkpoints import Checkpoints

    store, _, position = Checkpoints(config).of(version)
    header = dict(store.read(position).header)
    header["spec"] = {name: value for name, value in header.get("spec", {}).items() if name != "estimator"}
    header["log"] = {name: value for name, value in header.get("log", {}).items() if name != "hash_key"}  # a secret
    say(json.dumps(header, indent=2, sort_keys=True))


@checkpoints.command()
@configured
def verify(config: Config, lineage: Of = "") -> None:
    """Read every checkpoint whole: seal and digests. Exit code 1 where one is not right."""
    from stream_ml.admin.models.checkpoints import Checkpoints

    found = list(Checkpoints(config).shown(lineage))
    wrong = [one for one in found if one.problem]
    for one in wrong:
        say(f"{one.lineage}/{one.position}: {one.problem}", err=True)
    say(f"{len(found) - len(wrong):,} of {len(found):,} checkpoints are right")
    if wrong:
        raise typer.Exit(1)


@checkpoints.command()
@configured
def pin(
    config: Config,
    version: Version,
    name: Pin = "kept",
    why: Annotated[str, typer.Option(help="For who looks later.")] = "",
) -> None:
    """Keep one, whatever comes."""
    from stream_ml.admin.models.checkpoints import Checkpoints

    Checkpoints(config).pin(version, name, why)
    say(f"{version} is pinned as {name}")


@checkpoints.command()
@configured
def unpin(config: Config, version: Version, name: Pin = "kept") -> None:
    """Let one go with the others of its age."""
    from stream_ml.admin.models.checkpoints import Checkpoints

    Checkpoints(config).unpin(version, name)
    say(f"{version} is no longer pinned as {name}")


@checkpoints.command()
@configured
def gc(
    config: Config,
    older: Annotated[str, typer.Option(help="Only those that are older.")] = "30d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove checkpoints of models that neither serve nor stand by, unless they are pinned. A worker never does."""
    from stream_ml.admin.models.checkpoints import Checkpoints
    from stream_ml.admin.models.log import ModelLog
    from stream_ml.app.assemble import assemble

    log = ModelLog(config)
    wanted = {one.lineage for one in log.roles.declared.values() if one.standby and not one.retired}
    wanted |= {log.roles.table.lineage, log.roles.table.before, assemble(config).lineage(log.facts.log.log_id)}
    there, size = Checkpoints(config), 0
    gone = there.unwanted(wanted, duration_ms(older) / 1000)
    for lineage, position, count in gone:
        size += count
        if not dry_run:
            there.remove(lineage, position)
    say(f"{len(gone):,} checkpoints, {size_text(size)}, {'would go' if dry_run else 'are removed'}")


@checkpoints.command("export")
@configured
def write(config: Config, version: Version, file: Annotated[Path, typer.Argument(help="Not there yet.")]) -> None:
    """Copy one into a file, as it is sealed: for a machine whose workers have the same key."""
    from stream_ml.admin.models.checkpoints import Checkpoints

    count = Checkpoints(config).write(version, file)
    say(f"{version}: {file}, {count:,} bytes; there: stream-ml checkpoints import CONFIG {file}")


@checkpoints.command("import")
@configured
def take(config: Config, file: Annotated[Path, typer.Argument(help="What checkpoints export has written.")]) -> None:
    """Take one from a file, once its seal was found right."""
    from stream_ml.admin.models.checkpoints import Checkpoints

    lineage, position = Checkpoints(config).take(file)
    say(f"{lineage}/{position:,} is there: a worker that has to fold from before it begins with it")

"""``stream-ml keys``: who may ask the scoring API."""

import time
from typing import Annotated

import typer

from stream_ml.cli.options import configured
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.config.serve import SCOPES
from stream_ml.errors import ConfigError
from stream_ml.units import duration_ms

keys = typer.Typer(no_args_is_help=True, help="Who may ask the scoring API.")


@keys.command()
@configured
def new(
    config: Config,
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    scope: Annotated[list[str] | None, typer.Option(help="predict, feedback, jobs or admin; may be repeated.")] = None,
    expires: Annotated[str | None, typer.Option(help="How long it holds, as 90d; left out: for ever.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests a second in each process.", min=0.001)] = None,
) -> None:
    """Make a key and show it, once: the file keeps only its digest."""
    from stream_ml.cli.serving.serve import keys_file
    from stream_ml.serve.access.keys import new_key, read_keys, write_keys

    file = keys_file(config)
    scopes = scope or ["predict"]
    wrong = [given for given in scopes if given not in SCOPES]
    if wrong:
        raise ConfigError(f"no scope is named {', '.join(wrong)}", f"there are {', '.join(SCOPES)}")
    try:
        until = None if expires is None else time.time() + duration_ms(expires) / 1000
        text, key = new_key(name, scopes, until, rate)
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"no key can be made: {first}", "a name has letters, digits, dots, dashes") from None
    write_keys(file, [*(read_keys(file) if file.exists() else []), key])
    say(text)
    say(f"key {key.id} of {name} may {', '.join(scopes)}; it is shown this once, {file} has its digest", err=True)
    if "--set" in config.origin("serve.auth.keys_file"):
        say("note: the configuration does not name this file itself: so the API asks nobody for a key", err=True)


@keys.command("list")
@configured
def show(config: Config) -> None:
    """List the keys, without what is secret."""
    from stream_ml.cli.serving.serve import keys_file
    from stream_ml.serve.access.keys import read_keys

    for key in read_keys(keys_file(config)):
        until = "for ever"
        if key.expires is not None:
            until = time.strftime("until %Y-%m-%d %H:%M UTC", time.gmtime(key.expires))
        over = " (expired)" if key.expires is not None and key.expires <= time.time() else ""
        rate = "" if key.rate is None else f", {key.rate:g} requests a second"
        say(f"{key.id}  {key.name}  {', '.join(key.scopes)}{rate}, {until}{over}")


@keys.command()
@configured
def revoke(config: Config, key_id: Annotated[str, typer.Argument(help="As `keys list` shows it.")]) -> None:
    """Let a key hold no longer; processes that run read the file again within a second."""
    from stream_ml.cli.serving.serve import keys_file
    from stream_ml.serve.access.keys import read_keys, write_keys

    file = keys_file(config)
    known = read_keys(file)
    kept = [key for key in known if key.id != key_id]
    if len(kept) == len(known):
        raise ConfigError(f"{file} has no key {key_id}", "stream-ml keys list CONFIG")
    write_keys(file, kept)
    say(f"key {key_id} holds no longer")

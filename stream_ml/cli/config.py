"""``stream-ml config``: the configuration as the service understands it."""

import json
from typing import Annotated

import typer

from stream_ml.cli.options import configured
from stream_ml.cli.say import say
from stream_ml.config import Config

config = typer.Typer(no_args_is_help=True, help="The configuration as the service understands it.")


@config.command("show")
@configured
def show(
    config: Config,
    origin: Annotated[
        bool, typer.Option("--origin", help="One line for each key, with where its value stands.")
    ] = False,
) -> None:
    """The resolved configuration; secrets are hidden."""
    from stream_ml.config.show import show as shown

    say(shown(config, with_origins=origin))


@config.command("schema")
def schema() -> None:
    """JSON Schema of the configuration file, for editors."""
    from stream_ml.config.show import schema as made

    say(json.dumps(made(), indent=2))


@config.command("reference")
def reference() -> None:
    """Every key with its default and meaning, as a table in Markdown."""
    from stream_ml.config.show import reference as made

    say(made())

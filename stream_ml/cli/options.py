"""What every verb with a configuration takes: the file, values that override it, secret files."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from stream_ml.config import load_config
from stream_ml.config.sources import FILE

ConfigFile = Annotated[
    Path, typer.Argument(envvar=FILE, show_envvar=True, help="The configuration, for example stream_ml.yaml.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, for example --set http.port=8081; repeatable."),
]
Secrets = Annotated[
    Path | None,
    typer.Option(help="Directory whose files are named after keys (kafka.properties.sasl.password) and hold values."),
]


def configured(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A verb whose first parameter is the loaded configuration becomes one that takes its file and overrides."""

    @wraps(verb)
    def command(config_file: Path, set_: list[str] | None, secrets: Path | None, **rest: Any) -> Any:
        return verb(load_config(config_file, set_, secrets), **rest)

    signature = inspect.signature(verb)
    kind = inspect.Parameter.KEYWORD_ONLY
    own = [
        inspect.Parameter("config_file", kind, annotation=ConfigFile),
        *(parameter.replace(kind=kind) for parameter in list(signature.parameters.values())[1:]),
        inspect.Parameter("set_", kind, annotation=Set, default=None),
        inspect.Parameter("secrets", kind, annotation=Secrets, default=None),
    ]
    command.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in own}
    return command

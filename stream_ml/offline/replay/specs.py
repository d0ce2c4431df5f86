"""The models of a replay: the configuration's, files that change some of its sections, models of the log, a grid."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from stream_ml.app.assemble import assemble
from stream_ml.app.overlay import OF_THE_APP
from stream_ml.app.parts import Parts
from stream_ml.app.trial import checked
from stream_ml.config import Config
from stream_ml.config.inputs import Features
from stream_ml.config.model import Learning, Model
from stream_ml.core.log.identity import LogIdentity
from stream_ml.errors import ConfigError
from stream_ml.follower.recipes import Recipe, own_recipe
from stream_ml.offline.replay.compare import BASELINE, SERVED

SPECS_MAX = 200
SECTIONS = ("features", "model", "learning")
_LEARNING = ("guard", "quarantine")


class Spec(NamedTuple):
    """One model of a replay, under the name that the report gives it."""

    name: str
    recipe: Recipe


def spec_of(name: str, parts: Parts, log: LogIdentity) -> Spec:
    """One, tried as a worker tries it; ConfigError where it cannot be used."""
    if name in (SERVED, BASELINE) or not name.isprintable() or not name or " " in name:
        raise ConfigError(f"{name!r} cannot name a model of a replay", "give the file another name, without spaces")
    return Spec(name, own_recipe(checked(parts), log))


def own_spec(parts: Parts, log: LogIdentity) -> Spec:
    """The configuration's own model, under its name."""
    return spec_of(own_recipe(parts, log).name, parts, log)


def spec_of_file(config: Config, path: Path, log: LogIdentity) -> Spec:
    """A model out of a file that holds some sections of a configuration: what it leaves out is the configuration's.

    Raises
    ------
    ConfigError
        It is no such file, has another section, or a model that cannot be used.
    """
    return spec_of(path.stem, assemble(changed(config, _read(path), str(path))), log)


def _read(path: Path) -> dict[str, Any]:
    try:
        said = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {str(error)[:200]}") from None
    if not isinstance(said, dict):
        raise ConfigError(f"{path} holds no sections", f"write {', '.join(SECTIONS)}, as in a configuration")
    return said


def changed(config: Config, said: Mapping[str, Any], where: str) -> Config:
    """A configuration with other sections of what makes its model; ConfigError where that is none."""
    unknown = sorted(set(said) - set(SECTIONS))
    if unknown:
        raise ConfigError(
            f"{where}: {unknown[0]} makes no model",
            f"a model of a replay has {', '.join(SECTIONS)}; all else is the app's",
        )
    model = config.model.model_dump(exclude_unset=True)
    own = said.get("model") or {}
    try:
        if "factory" in own and "params" not in own:
            model.pop("params", None)  # they were the other factory's
        update: dict[str, Any] = {"model": Model.model_validate({**model, **own})}
        if said.get("features") is not None:
            update["features"] = Features.model_validate(said["features"])
        learning = said.get("learning") or {}
        if set(learning) - set(_LEARNING):
            raise ConfigError(f"{where}: learning has {' and '.join(_LEARNING)} here")
        read = Learning.model_validate({**config.learning.model_dump(exclude_unset=True, mode="json"), **learning})
        update["learning"] = read
    except (ValidationError, TypeError) as error:
        raise ConfigError(f"{where}: {_words(error)}") from None
    for name in OF_THE_APP:
        if getattr(update["model"], name) != getattr(config.model, name):
            raise ConfigError(f"{where}: model.{name} is another one than the app's, whose labels are what they are")
    return config.model_copy(update=update)


def _words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)[:200]


def grid(config: Config, path: Path, log: LogIdentity) -> list[Spec]:
    """Every combination of lists of parameters: ``model: {params: {grace_period: [50, 200]}}``.

    Raises
    ------
    ConfigError
        It has no list, or more combinations than are run.
    """
    said = _read(path)
    params = (said.get("model") or {}).get("params") or {}
    lists = {name: values for name, values in params.items() if isinstance(values, list) and values}
    count = 1
    for values in lists.values():
        count *= len(values)
    if not lists or count > SPECS_MAX:
        raise ConfigError(
            f"{path} has {count:,} combinations",
            f"give model.params lists of values, {SPECS_MAX:,} combinations at most",
        )
    found = []
    for chosen in itertools.product(*lists.values()):
        own = dict(zip(lists, chosen, strict=True))
        one = {**said, "model": {**said["model"], "params": {**params, **own}}}
        name = ",".join(f"{key}={value}" for key, value in own.items()).replace(" ", "")
        found.append(spec_of(name, assemble(changed(config, one, str(path))), log))
    return found


def apart(specs: Sequence[Spec]) -> list[Spec]:
    """The same, of which no two have one name or are one model; ConfigError where two have."""
    names = [one.name for one in specs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two models of the replay are named {name}", "give one of the files another name")
    if len(specs) > SPECS_MAX:
        raise ConfigError(f"{len(specs):,} models are more than the {SPECS_MAX:,} of one replay")
    return list(specs)


def plans_of(specs: Sequence[Spec]) -> tuple[list[Recipe], dict[str, int]]:
    """One recipe of each plan that differs, and of each model the number of its plan."""
    of_each: list[Recipe] = []
    numbers: dict[str, int] = {}
    for spec in specs:
        resolved = spec.recipe.parts.plan.resolved
        number = next((n for n, one in enumerate(of_each) if one.parts.plan.resolved == resolved), None)
        if number is None:
            number = len(of_each)
            of_each.append(spec.recipe)
        numbers[spec.name] = number
    return of_each, numbers

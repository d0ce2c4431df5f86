"""What makes one model another than its siblings of one app: a few sections of the configuration, and source."""

import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from stream_ml.app.factory import factory_in, private_name
from stream_ml.app.parts import Parts
from stream_ml.app.sources import texts_of
from stream_ml.config.inputs import Features
from stream_ml.config.model import Learning, Model
from stream_ml.core.avro.fields import find_field
from stream_ml.core.inputs.features import FeaturePlan
from stream_ml.core.inputs.label_domain import LabelDomain
from stream_ml.core.model.lineage import describe
from stream_ml.core.model.selection import EVERYTHING, Selection
from stream_ml.errors import ConfigError

OF_THE_APP = ("task", "positive", "labels")  # keys of `model` that all models of an app share
_NOT_THE_MODEL = {"memory_max", "memory_policy", "samples", "name"}
_LEARNING = {"guard", "quarantine"}
MADE_WITH = ("river", "numpy", "python")


def overlay_of(parts: Parts) -> dict[str, Any]:
    """The sections of the configuration that a model is made from, as JSON values."""
    config = parts.config
    return {
        "features": config.features.model_dump(mode="json"),
        "model": config.model.model_dump(mode="json", exclude=_NOT_THE_MODEL | {"params"}),
        # JSON has no infinity, no date, and no key that is a number.
        "params": yaml.safe_dump(config.model.params, sort_keys=False),
        "learning": config.learning.model_dump(mode="json", include=_LEARNING),
        **({} if parts.selection == EVERYTHING else {"learn": parts.selection.plain()}),
    }


def sources_of(parts: Parts, spec: Mapping[str, Any]) -> dict[str, bytes]:
    """The files beside the configuration that a specification names: as they were loaded, else as they are now."""
    return texts_of(spec["sources"], parts.folder, parts.loaded)


def environment_of() -> dict[str, Any]:
    """What a model is made with here: for people who have to find it again."""
    packages = {name: version(name) for name in ("river", "numpy")}
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return {**packages, "python": python, "stream_ml": version("stream-ml"), "platform": platform.platform()}


def why_not_here(spec: Mapping[str, Any]) -> str:
    """Why a specification cannot be built with the versions of this process; empty where it can."""
    here = environment_of()
    other = [f"{name} {spec.get(name)} (here {here[name]})" for name in MADE_WITH if spec.get(name) != here[name]]
    for name, said in spec.get("distributions", {}).items():
        try:
            now = version(name)
        except (ModuleNotFoundError, ValueError):
            now = "missing"
        if now != said:
            other.append(f"{name} {said} (here {now})")
    return f"it was made with {', '.join(other)}" if other else ""


def overlaid(
    parts: Parts, spec: Mapping[str, Any], overlay: Mapping[str, Any], sources: Mapping[str, bytes], folder: Path
) -> Parts:
    """The parts of an app with another model.

    Parameters
    ----------
    spec
        Of the model; nothing is run before factory and parameters were found to be what it says.
    sources
        Of the model, found to be what the specification says.
    folder
        Where they lie.

    Raises
    ------
    ConfigError
        It cannot be built: the sections are not those of the specification, or of another task than the app's.
    """
    config = parts.config
    try:
        model = Model.model_validate({**overlay["model"], "params": yaml.safe_load(overlay["params"]) or {}})
        features = Features.model_validate(overlay["features"])
        read = Learning.model_validate(overlay["learning"])
        selection = Selection.of(overlay.get("learn"))
    except (ValueError, ValidationError, yaml.YAMLError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"its sections of the configuration cannot be read: {str(error)[:200]}") from None
    model = model.model_copy(update={name: getattr(config.model, name) for name in _NOT_THE_MODEL})
    learning = config.learning.model_copy(update={name: getattr(read, name) for name in _LEARNING})
    for name in OF_THE_APP:
        if getattr(model, name) != getattr(config.model, name):
            raise ConfigError(f"its model.{name} is another one than the app's: take another app.id for it")
    described = {name: describe(value) for name, value in model.params.items()}
    if model.factory != spec.get("factory") or described != spec.get("params"):
        raise ConfigError("its factory or parameters are others than its specification says")
    changed = config.model_copy(update={"model": model, "features": features, "learning": learning})
    module, _, attribute = model.factory.partition(":")
    build = factory_in(changed, private_name(model, module, folder, sources), attribute)
    schema = parts.reader.payloads.reader
    plan = FeaturePlan(schema, features, {config.events.id, config.events.time})
    label = find_field(parts.feedback.payloads.reader, config.feedback.label, where="feedback.label")
    domain = LabelDomain(model, label, parts.feedback.payloads.reader)
    plan = parts.plan if plan.resolved == parts.plan.resolved else plan
    return parts._replace(
        config=changed,
        reader=parts.reader.under(plan),
        plan=plan,
        domain=domain,
        build=build,
        folder=folder,
        loaded=sources,
        selection=selection,
    )

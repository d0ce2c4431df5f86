"""River's detectors of a change in the loss, by the names that a configuration gives them."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

DETECTORS = {  # River's classes; those of `binary` see whether a prediction missed
    "adwin": "river.drift:ADWIN",
    "page-hinkley": "river.drift:PageHinkley",
    "kswin": "river.drift:KSWIN",
    "ddm": "river.drift.binary:DDM",
    "eddm": "river.drift.binary:EDDM",
    "hddm-a": "river.drift.binary:HDDMA",
    "hddm-w": "river.drift.binary:HDDMW",
}


def detector_of(name: str, params: Mapping[str, Any]) -> Any:
    """A new detector of River's; None for ``none``. TypeError or ValueError where it does not take the parameters."""
    if name == "none":
        return None
    module, _, attribute = DETECTORS[name].partition(":")
    return getattr(import_module(module), attribute)(**params)

"""The project's own Avro schemas, from the folder ``schemas``."""

import json
from functools import cache
from pathlib import Path
from typing import Any, cast

_BESIDE = Path(__file__).parent / "avsc"  # in an installed package
FOLDER = _BESIDE if _BESIDE.is_dir() else Path(__file__).parent.parent / "schemas"


@cache
def text(name: str) -> str:
    """JSON text of the schema ``<name>.avsc``."""
    return (FOLDER / f"{name}.avsc").read_text("utf-8")


def load(name: str) -> dict[str, Any]:
    """A fresh copy of the schema ``<name>.avsc`` as JSON values."""
    return cast("dict[str, Any]", json.loads(text(name)))


@cache
def open_inference() -> bytes:
    """The description of schemas/open_inference.proto, as its first lines say how it is made."""
    return (FOLDER / "open_inference.binpb").read_bytes()

"""What every part of the configuration is made of."""

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME, max_length=200)]
LOOPBACK = ("127.0.0.1", "localhost", "::1")
OWN_NAME_MAX = 64  # both stand in the metadata of every commit, which has 1,000 bytes
OwnName = Annotated[str, Field(pattern=NAME, max_length=OWN_NAME_MAX)]


def is_private(url: str) -> bool:
    """Whether what is sent there cannot be read on its way: https, or http that stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


def key(default: Any, meaning: str, **limits: Any) -> Any:
    """A key of the tree; `...` for one that has no default."""
    return Field(default, description=meaning, **limits)


class Section(BaseModel):
    """A part of the tree: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

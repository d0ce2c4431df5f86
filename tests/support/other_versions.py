"""Processes that have other versions of what a model is made with, as far as anybody asks."""

from pathlib import Path

OTHER_RIVER = """
import importlib.metadata as metadata

known = metadata.version
metadata.version = lambda name: "99.0.0" if name == "river" else known(name)
"""


def other_river(folder: Path) -> Path:
    """A folder that makes it so for a process that has it in its PYTHONPATH; made below this one."""
    made = folder / "patched"
    made.mkdir(exist_ok=True)
    (made / "sitecustomize.py").write_text(OTHER_RIVER, "utf-8")
    return made

"""Which checkpoints of a folder stay, on a disk as in a bucket; each is named by its position, and may be pinned."""

import json
from collections.abc import Collection
from pathlib import Path

from stream_ml.storage.files import replaced

SPACED_CELLS = 3  # of each size
DIGITS = 20  # of the position in a file's name
PINS = "pins"  # the folder beside the checkpoints


def position_of(name: str) -> int | None:
    """The position that a file's name says; None where it is none of ours."""
    stem, dot, kind = name.partition(".")
    return int(stem) if dot and kind == "ckpt" and len(stem) == DIGITS and stem.isdecimal() else None


def kept_of(positions: Collection[int], written: int, keep: int, *, spaced: bool) -> set[int]:
    """Those that stay once the one at `written` was: of what stands up to it so many newest ones, and spaced ones."""
    up_to = [at for at in positions if at <= written]
    return {*sorted(up_to, reverse=True)[:keep], *(spaced_of(up_to) if spaced else ())}


def spaced_of(positions: Collection[int]) -> set[int]:
    """Those of a log's checkpoints that stay, so that no position is far from one: few old ones, more newer ones.

    Of every power of two the first checkpoint of each of the three newest cells of so many entries. The way from a
    checkpoint to a position is then at most about twice the way from that position to the log's end.
    """
    kept: set[int] = set()
    newest, size = max(positions, default=0), 1
    while size <= 2 * newest:
        cells: dict[int, int] = {}
        for position in positions:
            cell = position // size
            if newest // size - cell < SPACED_CELLS:
                cells[cell] = min(position, cells.get(cell, position))
        kept |= set(cells.values())
        size *= 2
    return kept


# --- pins: files in a folder beside the checkpoints ---


def pinned(folder: Path) -> list[str]:
    """Names of the files that pin checkpoints of a folder (``<position>.<name>.json``)."""
    return sorted(path.name for path in (folder / PINS).glob("*.json"))


def pins_of(folder: Path) -> dict[int, list[str]]:
    """Names of pins by position."""
    found: dict[int, list[str]] = {}
    for file in pinned(folder):
        digits, _, name = file.removesuffix(".json").partition(".")
        if digits.isdecimal():
            found.setdefault(int(digits), []).append(name)
    return found


def pin(folder: Path, position: int, name: str, why: str) -> None:
    """Keep a checkpoint whatever comes; OSError where that cannot be written."""
    (folder / PINS).mkdir(mode=0o700, exist_ok=True)
    replaced(_pin(folder, position, name), json.dumps({"why": why}).encode())


def unpin(folder: Path, position: int, name: str) -> None:
    """Let one go with the others of its age; FileNotFoundError where it has no such pin."""
    _pin(folder, position, name).unlink()


def _pin(folder: Path, position: int, name: str) -> Path:
    return folder / PINS / f"{position:0{DIGITS}d}.{name}.json"

"""Which checkpoints of a folder stay, on a disk as in a bucket; each is named by its position."""

from collections.abc import Collection

SPACED_CELLS = 3  # of each size
DIGITS = 20  # of the position in a file's name


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

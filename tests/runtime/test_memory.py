"""How much memory a process may use: its container's, or the machine's."""

import os
from pathlib import Path

import pytest

from stream_ml.runtime.memory import memory_bytes

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"memory.max": "104857600\n"}, 104_857_600),
        ({"memory.max": "max\n"}, MACHINE),
        ({"memory/memory.limit_in_bytes": "1073741\n"}, 1_073_741),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE),
        ({"memory.max": "max\n", "memory/memory.limit_in_bytes": "5000\n"}, 5_000),
        ({"memory.max": "0\n"}, MACHINE),
        ({"memory.max": "\xff"}, MACHINE),
        ({}, MACHINE),
    ],
)
def test_the_least_of_the_machine_and_its_control_group_holds(
    tmp_path: Path, files: dict[str, str], found: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "latin-1")
    assert memory_bytes(tmp_path) == found


def test_a_file_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "memory.max").mkdir()
    assert memory_bytes(tmp_path) == MACHINE

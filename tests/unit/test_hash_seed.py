"""A start remembers its hash seed for the next one with the same command line; a wrong guess does no harm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stream_ml import hash_seed

CODE = """
import sys
sys.argv = ["stream-ml", *sys.argv[1:]]
from stream_ml import hash_seed
hash_seed.run_with = lambda seed: (print("anew with", seed), sys.exit())
hash_seed.recall()
print("nothing known")
hash_seed.remember("77")
"""


def start(cache: Path, *told: str, **environment: str) -> str:
    """What a process with this command line does."""
    env = {name: value for name, value in os.environ.items() if name != hash_seed.VARIABLE}
    env |= {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    done = subprocess.run(
        [sys.executable, "-c", CODE, *told], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_the_second_start_of_a_command_line_knows_its_seed_and_another_does_not(tmp_path: Path) -> None:
    assert start(tmp_path, "run", "a.yaml") == "nothing known"
    assert start(tmp_path, "run", "a.yaml") == "anew with 77"
    assert start(tmp_path, "run", "b.yaml") == "nothing known"
    assert start(tmp_path, "run", "a.yaml", PYTHONHASHSEED="5") == "nothing known", "it is told, and not guessed"


@pytest.mark.parametrize("written", ["", "-1", "4294967296", "random", "1\x00", "ü"])
def test_a_file_that_holds_no_seed_is_passed_over(tmp_path: Path, written: str) -> None:
    start(tmp_path, "run", "a.yaml")
    (file,) = (tmp_path / "stream_ml").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    file.write_text(written, "utf-8")
    assert start(tmp_path, "run", "a.yaml") == "nothing known"


def test_where_nothing_can_be_written_the_start_is_only_slower(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert start(tmp_path / "file", "run", "a.yaml") == "nothing known"


def test_only_so_many_command_lines_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(hash_seed, "FILES_MAX", 3)
    for number in range(6):
        monkeypatch.setattr(sys, "argv", ["stream-ml", "run", f"{number}.yaml"])
        hash_seed.remember(str(number))
    assert len(list((tmp_path / "stream_ml").iterdir())) == 3

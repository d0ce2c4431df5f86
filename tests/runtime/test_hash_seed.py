"""A start remembers its hash seed for the next one with the same command line; a wrong guess does no harm."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stream_ml.runtime import hash_seed
from tests.support.paths import ROOT

CODE = """
import sys
sys.argv = ["stream-ml", *sys.argv[1:]]
from stream_ml.runtime import hash_seed
hash_seed.run_with = lambda seed: (print("anew with", seed), sys.exit())
hash_seed.recall()
print("nothing known")
hash_seed.remember("77")
"""


def start(cache: Path, *told: str, **environment: str) -> str:
    """What a process with this command line does."""
    env = {name: value for name, value in os.environ.items() if name != hash_seed.VARIABLE}
    env |= {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, "-c", CODE, *told], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_the_second_start_of_a_command_line_knows_its_seed_and_another_does_not(tmp_path: Path) -> None:
    assert start(tmp_path, "run", "a.yaml") == "nothing known"
    assert start(tmp_path, "run", "a.yaml") == "anew with 77"
    assert start(tmp_path, "run", "b.yaml") == "nothing known"
    assert start(tmp_path, "run", "a.yaml", PYTHONHASHSEED="5") == "nothing known", "it is reported, and not guessed"


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


def stranger(folder: Path) -> dict[str, str]:
    """A folder in which somebody has put modules that say who loads them; and the environment of a start in it."""
    folder.mkdir()
    for name in ("typer", "yaml", "random", "stream_ml"):
        (folder / f"{name}.py").write_text(f"import os\nos.write(1, b'{name} of a stranger')\n", "utf-8")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return env | {"XDG_CACHE_HOME": str(folder.parent / "cache")}


@pytest.mark.parametrize("flags", [["-P"], ["-I"], ["-I", "-X", "dev"], ["-P", "-W", "ignore"], ["-Ps"]])
@pytest.mark.parametrize("entry", ["script", "module"])
def test_a_second_start_searches_no_other_folder_than_the_first(tmp_path: Path, flags: list[str], entry: str) -> None:
    env = stranger(tmp_path / "cwd")
    script = Path(sys.executable).with_name("stream-ml")
    told = [str(script)] if entry == "script" else ["-m", "stream_ml"]
    command = [sys.executable, *flags, *told, "--version"]
    cache = tmp_path / "cache" / "stream_ml"
    cache.mkdir(parents=True)
    digest = hashlib.sha256("\0".join([str(tmp_path / "cwd"), "--version"]).encode()).hexdigest()[:32]
    (cache / digest).write_text("77", "ascii")  # remembered: so the process begins anew
    done = subprocess.run(
        command, env=env, cwd=tmp_path / "cwd", capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("stream-ml ")


def test_the_second_start_has_the_seed_whatever_python_was_told(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from stream_ml.runtime.hash_seed import run_with\n"
        "if os.environ.get('PYTHONHASHSEED') != '77' or sys.flags.ignore_environment:\n"
        "    run_with('77')\n"
        "print(hash('a'), sys.flags.safe_path, sys.flags.no_user_site, sys.argv[1:], 'PYTHONSTARTUP' in os.environ)\n"
    )
    (tmp_path / "main.py").write_text(code, "utf-8")
    env = {**os.environ, "PYTHONSTARTUP": "x", "PYTHONHASHSEED": "77"}
    said = set()
    for flags in (["-I"], ["-E", "-P", "-s"], ["-EPs"]):
        command = [sys.executable, *flags, str(tmp_path / "main.py"), "run", "-m", "x"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60)
        said.add(done.stdout.strip())
    (one,) = said
    assert one.endswith("True 1 ['run', '-m', 'x'] False")


@pytest.mark.parametrize(
    "form", ["-Improbe_", "-Emprobe_", "-bIm probe_", "-m probe_", "-mprobe_", "-Ec CODE", "-c CODE"]
)
def test_no_start_begins_anew_for_ever(tmp_path: Path, form: str) -> None:
    code = (
        "import os, sys\n"
        "os.write(1, b'start ')\n"
        "from stream_ml.runtime.hash_seed import run_with\n"
        "if os.environ.get('PYTHONHASHSEED') != '77' or sys.flags.ignore_environment:\n"
        "    run_with('77')\n"
        "print(sys.argv[1:])\n"
    )
    site = tmp_path / "site"
    site.mkdir()
    (site / "probe_.py").write_text(code, "utf-8")
    command = [sys.executable, *(code if part == "CODE" else part for part in form.split(" ")), "run", "-x"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    packages = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    link = packages / "probe_.py"
    link.write_text(code, "utf-8")
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    finally:
        link.unlink()
    assert (done.stdout, done.returncode) == ("start start ['run', '-x']\n", 0), done.stderr


def with_custom(folder: Path, text: str) -> dict[str, str]:
    """The environment of a process that runs this text as it starts."""
    (folder / "sitecustomize.py").write_text(text, "utf-8")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def test_the_end_of_a_process_takes_nothing_apart(tmp_path: Path) -> None:
    """Clients of Kafka whose threads still run were seen to crash there, and with them a worker that had ended well."""
    crash = "import atexit, os, signal\natexit.register(lambda: os.kill(os.getpid(), signal.SIGSEGV))\n"
    env = with_custom(tmp_path, crash)
    command = [sys.executable, "-m", "stream_ml", "--version"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.startswith("stream-ml ")) == (0, True)
    wrong = subprocess.run(
        [*command[:-1], "check", "nowhere.yaml"], env=env, capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 78 and "nowhere.yaml does not exist" in wrong.stderr


def test_a_crash_says_in_which_call_it_was(tmp_path: Path) -> None:
    crash = "import os, signal, typer\ntyper.Typer.__call__ = lambda *_: os.kill(os.getpid(), signal.SIGSEGV)\n"
    env = with_custom(tmp_path, crash)
    command = [sys.executable, "-m", "stream_ml", "--version"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode < 0 and "Fatal Python error: Segmentation fault" in done.stderr and "app.py" in done.stderr

"""The hash seed of a process, remembered from its last start, so that one interpreter starts and not two.

A worker's seed comes from a secret in its training log, which it learns too late: half a second of imports and two
requests later it has to begin anew. What is remembered is only a guess: `run_with` is called again where it was wrong.
"""

import hashlib
import os
import re
import sys
from pathlib import Path
from typing import NoReturn

VARIABLE = "PYTHONHASHSEED"
FILES_MAX = 100  # command lines whose seeds are remembered; the oldest go first


def recall() -> None:
    """Run this process anew with the seed of the last one with the same command line, if there was one."""
    if VARIABLE in os.environ or len(sys.argv) < 2:
        return
    try:
        seed = _file().read_text("ascii")
    except (OSError, ValueError):
        return
    if seed.isdecimal() and 0 < int(seed) < 2**32:
        run_with(seed)


def run_under(hash_seed: int) -> None:
    """Run this process anew with this seed, unless it has it already."""
    wanted = str(hash_seed)
    remember(wanted)
    if os.environ.get(VARIABLE) != wanted or sys.flags.ignore_environment:
        run_with(wanted)


def run_with(seed: str) -> NoReturn:
    """Run this process anew with this seed, else as it was started: no other folder is searched for modules.

    Python started with -I or -E would not read the seed: the same is then asked of it in other words, without those
    variables that it was told to pass over.
    """
    sys.stdout.flush()
    options, entry = _start()
    environment = dict(os.environ)
    if sys.flags.ignore_environment:
        environment = {name: value for name, value in environment.items() if not name.startswith("PYTHON")}
        flags = sys.flags
        options = [
            *(["-P"] if flags.safe_path else []),
            *(["-s"] if flags.no_user_site else []),
            *(["-B"] if flags.dont_write_bytecode else []),
            *["-O"] * flags.optimize,
            *["-b"] * flags.bytes_warning,
            *(f"-W{option}" for option in sys.warnoptions),
            *(f"-X{name}" if value is True else f"-X{name}={value}" for name, value in sys._xoptions.items()),  # noqa: SLF001
        ]
    command = [sys.executable, *options, *entry, *sys.argv[1:]]
    os.execve(sys.executable, command, environment | {VARIABLE: seed})  # noqa: S606 - itself


def _start() -> tuple[list[str], list[str]]:
    """With which options of Python this process was started, and what it was told to run: script, module or code."""
    *options, last = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv[1:])]
    joined = re.fullmatch("-([A-Za-z]*)m(.+)", last)  # -Imstream_ml
    if joined:
        return [*options, *([f"-{joined[1]}"] if joined[1] else [])], ["-m", joined[2]]
    if not options or not re.fullmatch("-[A-Za-z]*[mc]", options[-1]):
        return options, [last]
    *options, before = options
    flags, kind = before[1:-1], before[-1]  # -Im is -I and -m
    return [*options, *([f"-{flags}"] if flags else [])], [f"-{kind}", last]


def remember(seed: str) -> None:
    """Keep the seed for the next start; where nothing can be written that start is a little slower."""
    file = _file()
    try:
        if file.is_file() and file.read_text("ascii") == seed:
            return
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = file.with_suffix(f".{os.getpid()}")
        made.touch(mode=0o600)  # who knows the seed can make keys that collide
        made.write_text(seed, "ascii")
        made.replace(file)
        for old in sorted(file.parent.iterdir(), key=lambda path: path.stat().st_mtime)[:-FILES_MAX]:
            old.unlink(missing_ok=True)
    except (OSError, ValueError):
        return


def _file() -> Path:
    """Where this command line's seed stands: in the user's cache (XDG Base Directory Specification)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    told = "\0".join([str(Path.cwd()), *sys.argv[1:]])
    return cache / "stream_ml" / hashlib.sha256(told.encode(errors="replace")).hexdigest()[:32]

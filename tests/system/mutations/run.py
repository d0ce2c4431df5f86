"""Plant each bug of the list in a copy of the project and run the tests that must catch it; print the table.

``python -m tests.system.mutations.run [WORD ...]``: bugs whose name holds one of the words. Exit code 1
where one lives.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.paths import ROOT
from tests.system.mutations.bug import Bug
from tests.system.mutations.bugs import BUGS

TIMEOUT_S = 400.0
FOLDERS = ("stream_ml", "schemas", "tests", "benchmarks", "deploy", "docs", "examples")
COPIED = (*FOLDERS, "pyproject.toml", "mkdocs.yml", "README.md", "CONTRIBUTING.md", "SECURITY.md")


def plant(bug: Bug, root: Path) -> None:
    """Apply the patch; AssertionError where its text does not stand once in its file."""
    file = root / bug.file
    text = file.read_text("utf-8")
    assert text.count(bug.old) == 1, f"{bug.name}: the text to replace stands {text.count(bug.old)} times in {bug.file}"
    file.write_text(text.replace(bug.old, bug.new), "utf-8")


def caught(bug: Bug) -> tuple[str, float]:
    """The first test that fails, or nothing; and the seconds that it took."""
    with tempfile.TemporaryDirectory(prefix="stream-ml-bug-") as folder:
        root = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, root / name)
        plant(bug, root)
        started = time.monotonic()
        for test in bug.tests:
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-x",
                "-q",
                "-m",
                "",
                "-p",
                "no:cacheprovider",
                "--hypothesis-profile=no-shrinking",
                "--no-header",
                test,
            ]
            try:
                done = subprocess.run(
                    command,
                    cwd=root,
                    env={**os.environ, "PYTHONPATH": str(root)},
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=TIMEOUT_S,
                )
            except subprocess.TimeoutExpired:
                return f"{test} (it never ends)", time.monotonic() - started
            assert done.returncode in (0, 1), (
                f"{bug.name}: {test} cannot run\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
            if done.returncode == 1:
                failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
                assert failed, f"{bug.name}: {test} broke down instead of failing\n{done.stdout[-2000:]}"
                return failed[0].split()[1].partition("::")[2], time.monotonic() - started
        return "", time.monotonic() - started


def main() -> None:
    chosen = [bug for bug in BUGS if not sys.argv[1:] or any(word in bug.name for word in sys.argv[1:])]
    alive = 0
    print("| planted bug | caught by | seconds |\n|---|---|---|", flush=True)
    for bug in chosen:
        test, seconds = caught(bug)
        alive += not test
        print(f"| {bug.name} | {f'`{test}`' if test else '**nothing**'} | {seconds:.0f} |", flush=True)
    print(f"\n{len(chosen) - alive} of {len(chosen)} caught", flush=True)
    sys.exit(alive > 0)


if __name__ == "__main__":
    main()

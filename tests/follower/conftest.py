"""A whole follower over a list: an app, and its training log."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.follower_on_a_list import App, Log, on_a_list


@pytest.fixture(name="app")
def _app(tmp_path: Path) -> Iterator[App]:
    with on_a_list() as log:
        yield App(tmp_path, log)


@pytest.fixture(name="log")
def _log(app: App) -> Log:
    return app.log

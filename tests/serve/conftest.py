"""The scoring API over a list: an app, its training log, and an application whose model follows it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api import Api
from tests.support.follower_on_a_list import LINEAR, App, Log, on_a_list


@pytest.fixture(name="app")
def _app(tmp_path: Path) -> Iterator[App]:
    with on_a_list() as log:
        yield App(tmp_path, log)


@pytest.fixture(name="log")
def _log(app: App) -> Log:
    return app.log


@pytest.fixture(name="api")
def _api(app: App, log: Log) -> Api:
    config = app.config(LINEAR)
    app.serving(config)
    log.usual(300)
    return Api(app, config)

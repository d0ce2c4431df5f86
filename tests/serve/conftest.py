"""The scoring API over a list: an app, its training log, and an application whose model follows it."""

import pytest

from tests.follower.conftest import _app as _app  # noqa: PLC0414
from tests.follower.conftest import _log as _log  # noqa: PLC0414
from tests.support.api import Api
from tests.support.follower_on_a_list import LINEAR, App, Log


@pytest.fixture(name="api")
def _api(app: App, log: Log) -> Api:
    config = app.config(LINEAR)
    app.serving(config)
    log.usual(300)
    return Api(app, config)

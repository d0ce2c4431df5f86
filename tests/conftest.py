"""The broker of a test session, names for one test, and no skipping on CI."""

import os
import uuid
from collections.abc import Generator, Iterator

import pytest
from hypothesis import Phase, settings

from tests.support.brokers import broker

# For the planted bugs: that a test turns red is enough, the smallest example is not needed.
settings.register_profile("no-shrinking", phases=[Phase.explicit, Phase.generate], database=None)

# --- options and hooks ---------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--kafka``."""
    parser.addoption(
        "--kafka",
        default="embedded",
        metavar="embedded|cold|docker|HOST:PORT",
        help="the Kafka that tests marked `kafka` use: an embedded one (default), the same with Kafka's own settings "
        "from its first moment, a container, or any address",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several processes the files that take long come first, because xdist hands out files in this order.

    One that needs a broker, or waits for a client's bounds, takes up to two minutes: at the end it would run alone,
    while the other processes have nothing to do.
    """
    if hasattr(config, "workerinput"):
        with_broker = {item.path for item in items if item.get_closest_marker("kafka") is not None}
        long = ("system", "storage")
        items.sort(key=lambda item: (item.path not in with_broker, not set(long) & {*item.path.parts}))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """On CI a skipped test fails: what is not run proves nothing."""
    report = yield
    _fail_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """On CI a file that skips itself fails too."""
    report = yield
    _fail_skipped(report)
    return report


def _fail_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    expected = hasattr(report, "wasxfail")
    if not report.skipped or expected or os.environ.get("CI", "").lower() not in ("true", "1"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"skipped, and with CI=true a skipped test is a failure: {reason}"


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Started processes remember their hash seeds here, and not in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


# --- Kafka ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of the session's one broker; a test keeps to topics and groups named after `app_id`."""
    with broker(request.config.getoption("--kafka"), tmp_path_factory.mktemp("kafka")) as bootstrap_servers:
        yield bootstrap_servers


@pytest.fixture
def app_id() -> str:
    """A name that no other test has, such as ``t1f0c93ab``."""
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the service's is set."""
    for name in list(os.environ):
        if name.startswith("STREAM_ML_"):
            monkeypatch.delenv(name)

"""What `stream-ml probe` says and ends with, for each way in which a process on this machine can be."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from stream_ml.cli.app import app
from stream_ml.cli.probe import own_url
from stream_ml.embedded.broker import free_port
from stream_ml.observe.access import Access
from stream_ml.observe.http import serve
from stream_ml.observe.plain import ALIVE, Pages, ready_answer


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of a new app."""
    CliRunner().invoke(app, ["init", str(tmp_path / "shop")])
    return tmp_path / "shop" / "stream_ml.yaml"


@contextlib.contextmanager
def process(*reasons: str) -> Iterator[int]:
    """The port of one that lives, and is not ready for these reasons."""
    port = free_port()
    pages = Pages({"/livez": lambda: ALIVE, "/readyz": lambda: ready_answer(list(reasons))}, Access(token=b"t" * 16))
    stop = serve("127.0.0.1", port, pages)
    try:
        yield port
    finally:
        stop()


def probed(config: Path, *words: str, **ports: int) -> Result:
    keys = {"run": "http.port", "serve": "serve.admin_port", "jobs": "serve.jobs.port"}
    given = {"run": 0, "serve": 0} | ports
    sets = [word for verb, port in given.items() for word in ("--set", f"{keys[verb]}={port}")]
    return CliRunner().invoke(app, ["probe", str(config), *sets, *words])


@pytest.mark.parametrize("verb", ["run", "serve", "jobs"])
def test_one_that_is_ready_is_0_whichever_verb_it_is(config: Path, verb: str) -> None:
    with process() as port:
        found = probed(config, **{verb: port})
    assert (found.exit_code, found.output) == (0, f"{verb}: ready\n")


def test_one_that_is_not_says_each_reason_and_lives_all_the_same(config: Path) -> None:
    with process("no partition yet", "Kafka is silent") as port:
        ready, live = probed(config, run=port), probed(config, "--live", run=port)
    assert (ready.exit_code, ready.output) == (1, "run: no partition yet\nrun: Kafka is silent\n")
    assert (live.exit_code, live.output) == (0, "run: alive\n")


def test_of_two_on_one_machine_both_have_to_be_ready(config: Path) -> None:
    with process() as worker, process("starting") as api:
        found = probed(config, run=worker, serve=api)
    assert (found.exit_code, found.output) == (1, "run: ready\nserve: starting\n")


def test_where_none_listens_the_ports_are_named(config: Path) -> None:
    found = probed(config, run=free_port())
    assert found.exit_code == 1 and "nothing answers on 127.0.0.1, ports asked: 2" in found.output
    assert "every port is 0" in probed(config).output


def test_one_that_takes_a_connection_and_says_nothing_is_not_ready(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = probed(config, "--timeout", "0.2", run=silent.getsockname()[1])
    assert found.exit_code == 1 and "is open, and does not answer" in found.output


def test_one_that_listens_everywhere_is_asked_here(config: Path) -> None:
    with process() as port:
        found = probed(config, "--set", "http.host=0.0.0.0", "--set", "http.public=true", run=port)
    assert found.exit_code == 0, found.output
    assert own_url("::", 8080) == "http://[::1]:8080" and own_url("10.0.0.1", 1) == "http://10.0.0.1:1"


def test_the_configuration_may_be_named_by_the_environment(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_ML_CONFIG", str(config))
    with process() as port:
        found = CliRunner().invoke(app, ["probe", "--set", f"http.port={port}", "--set", "serve.admin_port=0"])
    assert (found.exit_code, found.output) == (0, "run: ready\n")

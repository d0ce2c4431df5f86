"""``stream-ml probe``: what supervisors that speak no HTTP (Docker, systemd) ask of a process on this machine."""

import http.client
import sys
from typing import Annotated

import typer

from stream_ml.cli.options import configured
from stream_ml.cli.say import say
from stream_ml.config import Config

TEXT_BYTES_MAX = 2_000
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared


def own_address(host: str) -> str:
    """Where a process of this machine that listens on `host` is asked."""
    return ANYWHERE.get(host, host)


def own_url(host: str, port: int) -> str:
    """The URL under which a process of this machine that listens on `host` is asked."""
    address = own_address(host)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


@configured
def probe(
    config: Config,
    live: Annotated[
        bool, typer.Option("--live", help="Ask whether it should be started anew, not whether it does its work.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for an answer of each.", min=0.1)] = 3.0,
) -> None:
    """Ask what runs here (worker, API, runner of jobs) whether it is ready; exit code 1 where it is not."""
    ports = {"run": config.http.port, "serve": config.serve.admin_port}
    if config.serve.jobs is not None:
        ports["jobs"] = config.serve.jobs.port
    host, path = own_address(config.http.host), "/livez" if live else "/readyz"
    answers = {verb: _asked(host, port, path, timeout) for verb, port in ports.items() if port}
    found = {verb: answer for verb, answer in answers.items() if answer is not None}
    for verb, (_, text) in found.items():
        for line in text.splitlines():
            say(f"{verb}: {line}")
    if not found:
        asked = ", ".join(f"{port} ({verb})" for verb, port in ports.items() if port) or "none: every port is 0"
        say(f"nothing answers on {host}, ports asked: {asked}")
    sys.exit(0 if found and all(is_well for is_well, _ in found.values()) else 1)


def _asked(host: str, port: int, path: str, timeout_s: float) -> tuple[bool, str] | None:
    """Whether it is well, and its words; None where nobody listens."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status == http.client.OK, answer.read(TEXT_BYTES_MAX).decode("utf-8", "replace")
    except ConnectionRefusedError:
        return None
    except (OSError, http.client.HTTPException) as error:
        return False, f"port {port} is open, and does not answer: {error or type(error).__name__}"
    finally:
        connection.close()

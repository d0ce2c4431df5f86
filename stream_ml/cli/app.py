"""``stream-ml``: every verb, and how errors leave the process.

River, numpy and the Kafka clients are imported where a verb needs them: a second less for ``--help``.
"""

import contextlib
import logging
import os
import signal
import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from stream_ml.cli import operate, trial, watch
from stream_ml.cli.config import config as config_verbs
from stream_ml.cli.init import init
from stream_ml.cli.models import export, rollback
from stream_ml.cli.models import verbs as models
from stream_ml.cli.models.checkpoints import checkpoints
from stream_ml.cli.options import configured
from stream_ml.cli.past.explain import explain
from stream_ml.cli.past.predict import predict
from stream_ml.cli.past.replay import replay
from stream_ml.cli.probe import probe
from stream_ml.cli.say import say
from stream_ml.cli.serving.keys import keys
from stream_ml.config import Config
from stream_ml.errors import ConfigError, StreamMLError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Online learning from Kafka: score events, learn from their labels, exactly once.",
)
app.add_typer(operate.topics, name="topics")
app.add_typer(operate.offsets, name="offsets")
app.add_typer(operate.schema, name="schema")
app.add_typer(watch.dead_letters, name="dead-letters")
app.add_typer(config_verbs, name="config")
app.add_typer(models.models, name="models")
app.add_typer(checkpoints, name="checkpoints")
app.add_typer(keys, name="keys")
operate.add_commands(app)
models.add_commands(app)
rollback.add_commands(app)
app.command("init")(init)
app.command("produce")(trial.produce)
app.command("play")(trial.play)
app.command("try")(trial.attempt)
models.models.command("export")(export.export)
app.command("local")(export.local)
app.command("merge")(export.merge)
app.command("probe")(probe)
app.command("replay")(replay)
app.command("explain")(explain)
app.command("predict")(predict)
app.command("top")(watch.top)
app.command("tail")(watch.tail)
app.command("show")(watch.show_one)


@app.command()
@configured
def run(config: Config) -> None:
    """Score and learn until SIGTERM."""
    from stream_ml.cli.run import run as run_worker

    run_worker(config)


@app.command()
@configured
def jobs(config: Config) -> None:
    """Score what callers of the API left as jobs, until SIGTERM."""
    from stream_ml.cli.serving.jobs import run_jobs

    run_jobs(config)


@app.command()
@configured
def serve(
    config: Config,
    openapi: Annotated[
        bool, typer.Option("--openapi", help="Print the API's document and end; without Kafka.")
    ] = False,
) -> None:
    """Answer over HTTP with the model as it learns, until SIGTERM."""
    from stream_ml.cli.serving.serve import print_openapi
    from stream_ml.cli.serving.serve import serve as answer

    if openapi:
        print_openapi(config)
    else:
        answer(config)


@app.command()
@configured
def check(
    config: Config,
    online: Annotated[bool, typer.Option("--online", help="Ask Kafka too: topics, retention, limits, rights.")] = False,
    downtime: Annotated[
        str, typer.Option(help="Longest time that all workers may be down; records must live longer.")
    ] = "1d",
    workers: Annotated[int, typer.Option(help="Planned workers, with --labels or --events.", min=1)] = 1,
    labels: Annotated[float | None, typer.Option(help="Labels a second that they are to hold.", min=0)] = None,
    events: Annotated[float | None, typer.Option(help="Events a second, where not all are labelled.", min=0)] = None,
) -> None:
    """Say everything that is wrong before a worker runs; exit code 78 where something is."""
    from stream_ml.cli.check import Load
    from stream_ml.cli.check import check as look

    sys.exit(look(config, online=online, downtime=downtime, load=Load(workers, events, labels)))


@app.command()
@configured
def audit(
    config: Config,
    sample: Annotated[int, typer.Option(help="How many predictions are derived again from the log.", min=0)] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Read everything in the topics and say what is lost, twice or wrong. Exit code 1 where something is."""
    from stream_ml.cli.audit import audit as read_all

    sys.exit(read_all(config, sample, as_json=as_json))


@app.command()
def broker(
    directory: Annotated[Path, typer.Argument(help="Where it keeps its data; made where it is missing.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0: a free one.", min=0, max=65535)] = 9092,
    nodes: Annotated[int, typer.Option(help="Brokers: 1, or 3 and more, each record on three.", min=1, max=9)] = 1,
) -> None:
    """Run a real Apache Kafka in the foreground, for development: on this machine only, one broker or several."""
    from stream_ml.embedded.broker import EmbeddedKafka
    from stream_ml.embedded.cluster import EmbeddedCluster

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    made = EmbeddedKafka(directory, port=port) if nodes == 1 else EmbeddedCluster(directory, nodes=nodes, port=port)
    with made as kafka:
        say(f"Kafka answers at {kafka.bootstrap_servers}, data in {directory}; Ctrl-C stops it")
        kafka.wait()


@app.command()
def demo(
    limit: Annotated[int | None, typer.Option(help="Only so many flights.", min=1)] = None,
    directory: Annotated[Path | None, typer.Option(help="Keep the demo's files here.")] = None,
    drift: Annotated[bool, typer.Option("--drift", help="From July on a feature means something else.")] = False,
    upgrade: Annotated[bool, typer.Option("--upgrade", help="In July the model becomes another one.")] = False,
    serve: Annotated[bool, typer.Option("--serve", help="Flights are asked for over HTTP meanwhile.")] = False,
    replay_: Annotated[
        bool, typer.Option("--replay", help="A day is poisoned and rolled back; models are compared on the past.")
    ] = False,
    config_file: Annotated[
        Path | None,
        typer.Option("--config", help="Only play the flights, to the Kafka and the workers of this configuration."),
    ] = None,
) -> None:
    """Score and learn a year of real flights on a real Kafka; the last line is JSON."""
    if config_file is not None:
        from stream_ml.config import load_config
        from stream_ml.demo.elsewhere import play_elsewhere

        if directory or drift or upgrade or serve or replay_:
            raise ConfigError("--config plays the flights elsewhere", "only --limit goes with it")
        play_elsewhere(load_config(config_file, None, None), limit)
        return
    from stream_ml.demo.run import run_demo

    run_demo(limit, directory, drift=drift, upgrade=upgrade, serve=serve, replay=replay_)


@app.callback(invoke_without_command=True)
def stream_ml(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Online learning from Kafka: score events, learn from their labels, exactly once."""
    if version:
        say(f"stream-ml {installed('stream-ml')}")
        raise typer.Exit


def main() -> None:
    """Entry point: errors become one message and an exit code."""
    logging.getLogger("stream_ml").addHandler(logging.NullHandler())  # a verb says what is wrong, once; `run` logs
    leave(_ended())


def _ended() -> int:
    """The exit code of the verb."""
    try:
        app()
    except StreamMLError as error:
        say(f"stream-ml: {error}", err=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:
        if isinstance(end.code, str):
            say(end.code, err=True)
            return 1
        return end.code or 0
    return 0


def leave(code: int) -> NoReturn:
    """End the process at once: nothing is left to be done.

    Python would take the clients of Kafka apart while their threads still run; a worker that had written all it had to
    was seen to crash there, once in hundreds of ends.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more
            stream.flush()
    os._exit(code)

"""``stream-ml serve``: the supervisor of processes that answer over HTTP, or one of these processes."""

import contextlib
import importlib.util
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from stream_ml.cli.logs import set_up_log
from stream_ml.cli.run import INTERRUPTED, Stop
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.errors import ConfigError, FatalError, StreamMLError, TransientError
from stream_ml.kafka.topics import inspect_topics
from stream_ml.runtime.collector import calm_collector
from stream_ml.runtime.hash_seed import VARIABLE as HASH_SEED

if TYPE_CHECKING:
    from stream_ml.kafka.topics import TopicFacts

EXTRAS = {
    "serve": ("uvicorn", "uvloop", "httptools", "msgspec"),
    "grpc": ("grpc", "grpc_health", "grpc_reflection"),
    "jwt": ("jwt", "cryptography"),
}
AGAIN_S = 2.0  # between two looks for a log, before a worker has begun one
LOOK_S = 0.1

log = logging.getLogger(__name__)


def serve(config: Config) -> None:
    """Answer until SIGTERM; SIGHUP replaces the processes, one after the other, with the configuration of then."""
    _check_installed(config)
    from stream_ml.serve.child import Pipes

    pipes = Pipes.of_environment()
    set_up_log(config)
    if pipes is not None:
        _child(config, pipes)
        return
    _supervise(config)


def _check_installed(config: Config) -> None:
    """ConfigError where an extra is missing that this configuration needs."""
    wanted = {"serve": True, "grpc": config.serve.grpc_port is not None, "jwt": config.serve.auth.jwt is not None}
    for extra in (extra for extra, is_wanted in wanted.items() if is_wanted):
        missing = [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]
        if missing:
            words = "stream-ml serve" if extra == "serve" else f"serve with {extra}"
            raise ConfigError(f"{words} needs {', '.join(missing)}", f"pip install 'stream-ml[{extra}]'")


def _child(config: Config, pipes: object) -> None:
    from stream_ml.app.assemble import assemble
    from stream_ml.app.trial import checked
    from stream_ml.follower.identity import identified
    from stream_ml.serve.child import Pipes, run_child
    from stream_ml.serve.supervisor import OTHER_LOG

    assert isinstance(pipes, Pipes)  # noqa: S101 - callers have looked
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is the supervisor's, whoever else is sent it
    try:
        facts = identified(config, inspect_topics(config), make=False)
        if os.environ.get(HASH_SEED) != str(facts.log.hash_seed):
            log.error("the training log is another one than at the start: its hash seed differs")
            sys.exit(OTHER_LOG)
        _check_workers_know_the_key(config, facts.partitions)  # SIGHUP may have brought another one
        parts = checked(assemble(config))
        calm_collector()
        run_child(parts, facts, pipes)
    except StreamMLError as error:
        logging.getLogger(__name__).critical("%s", error)
        sys.exit(error.exit_code)


def _supervise(config: Config) -> None:
    from stream_ml.kafka.errors import reaching
    from stream_ml.kafka.reading.jobs import check_topics
    from stream_ml.observe.access import Access
    from stream_ml.observe.http import serve as answer
    from stream_ml.serve.access.certificates import Certificates
    from stream_ml.serve.access.guard import Guard
    from stream_ml.serve.admin import admin_pages
    from stream_ml.serve.supervisor import Supervisor, own_command
    from stream_ml.storage.keys import token_of

    stop = Stop()
    Guard(config)  # what is wrong with keys and certificates is said before anything is started
    Certificates.of(config)
    facts = _log_of(config, stop)
    _check_workers_know_the_key(config, facts.partitions)
    if config.serve.jobs is not None:
        with reaching(config):
            check_topics(config)
    environment = {**os.environ, HASH_SEED: str(facts.log.hash_seed)}
    supervisor = Supervisor(config, own_command(), environment)

    def told(number: int, frame: object) -> None:
        if number == signal.SIGHUP:
            supervisor.hung_up = True
        elif supervisor.stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            stop.signal, supervisor.stopping = number, True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, told)
    scheme = "https" if config.serve.tls_cert is not None else "http"
    access = Access([socket.gethostname(), config.serve.host, *config.http.hosts], token_of(config))
    with contextlib.ExitStack() as stack:
        if config.serve.admin_port:
            pages = admin_pages(supervisor, access)
            stack.callback(answer(config.http.host, config.serve.admin_port, pages, "serve.admin_port"))
        log.info(
            "%d to answer at %s://%s:%d; the page is /docs",
            *(config.serve.processes, scheme, config.serve.host, config.serve.port),
        )
        supervisor.run()
    if supervisor.other_log:
        raise FatalError(
            "the training log was made anew, or app.id is another one", "a start reads it from its beginning"
        )
    if stop.signal == signal.SIGINT:
        sys.exit(INTERRUPTED)


def _log_of(config: Config, stop: Stop) -> "TopicFacts":
    """What the topics and the log say; waited for, because a worker may begin the log only later."""
    from stream_ml.follower.identity import identified

    said = ""
    while True:
        try:
            return stop.unless_told(lambda: identified(config, inspect_topics(config), make=False))
        except (ConfigError, TransientError) as error:
            if isinstance(error, ConfigError) and "no worker has started yet" not in error.message:
                raise
            if error.message != said:
                said = error.message
                log.warning("waiting: %s", said)
        until_s = time.monotonic() + AGAIN_S
        while time.monotonic() < until_s:
            if stop.told():
                log.info("stopping, because of %s: nothing was begun", stop.why)
                sys.exit(0 if stop.signal == signal.SIGTERM else INTERRUPTED)
            time.sleep(LOOK_S)


def _check_workers_know_the_key(config: Config, partitions: int) -> None:
    """Refuse to record answers that workers would not publish; ConfigError says which partitions they own."""
    from stream_ml.admin.observer import Observer
    from stream_ml.app.assemble import assemble
    from stream_ml.storage.keys import answer_seal

    if config.serve.record == "off":
        return
    seal = answer_seal(config, assemble(config).domain)
    assert seal is not None  # noqa: S101 - the configuration has seen to it
    pairs = Observer(config, partitions).pairs()
    strangers = [p.partition for p in pairs if p.metadata is not None and seal.key_ids[0] not in p.metadata.key_ids]
    if strangers:
        raise ConfigError(
            f"the workers of partitions {strangers} do not have the key of serve.provenance_key_file: they would score "
            "anew what is answered here, and publish that",
            "restart the workers with this configuration first",
        )


def print_openapi(config: Config) -> None:
    """The API's document, without Kafka."""
    import json

    from stream_ml.app.assemble import assemble
    from stream_ml.serve.api import table
    from stream_ml.serve.handlers.info import document_of

    parts = assemble(config)
    say(json.dumps(document_of(parts, table(parts)), indent=2))


def keys_file(config: Config) -> Path:
    """Where the API keys are; ConfigError where none is named."""
    file = config.serve.auth.keys_file
    if file is None:
        raise ConfigError(
            "serve.auth.keys_file is not set: the API asks nobody for a key",
            "say serve: {auth: {keys_file: api-keys.json}} in the configuration, make a key, then SIGHUP the API",
        )
    return config.path(file)

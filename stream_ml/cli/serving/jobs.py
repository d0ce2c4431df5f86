"""``stream-ml jobs``: a runner that scores what callers left at /v1/jobs."""

import contextlib
import importlib.util
import logging
import signal
import socket
import sys

from stream_ml.cli.logs import set_up_log
from stream_ml.cli.run import INTERRUPTED, Stop, begin_anew, fix_hash_seed
from stream_ml.config import Config
from stream_ml.errors import ConfigError
from stream_ml.kafka.topics import inspect_topics
from stream_ml.runtime.collector import calm_collector

log = logging.getLogger(__name__)


def run_jobs(config: Config) -> None:
    """Score jobs until SIGTERM. Several runners share the work; each needs a worker.instance of its own."""
    if importlib.util.find_spec("msgspec") is None:
        raise ConfigError("stream-ml jobs needs msgspec", "pip install 'stream-ml[serve]'")
    if config.serve.jobs is None:
        raise ConfigError("serve.jobs is not set: no jobs are taken", "say serve: {jobs: {}} in the configuration")
    from stream_ml.follower.identity import identified
    from stream_ml.kafka.errors import reaching
    from stream_ml.kafka.reading.jobs import check_topics

    set_up_log(config)
    stop = Stop()
    facts = stop.unless_told(lambda: identified(config, inspect_topics(config), make=False))
    with reaching(config):
        check_topics(config)
    fix_hash_seed(facts.log)

    from stream_ml.app.assemble import assemble
    from stream_ml.app.trial import checked
    from stream_ml.jobs.pages import runner_pages
    from stream_ml.jobs.runner import Runner
    from stream_ml.kafka.access.certificates import FileWatch
    from stream_ml.observe.access import Access
    from stream_ml.observe.http import serve as answer
    from stream_ml.observe.metrics import JOBS_TABLE, Metrics
    from stream_ml.observe.traces import traces_of
    from stream_ml.storage.keys import log_seal, token_of

    parts = checked(assemble(config))
    metrics, port = Metrics(JOBS_TABLE), config.serve.jobs.port
    files = FileWatch(config)
    with reaching(config), contextlib.ExitStack() as stack:
        seal = log_seal(config, facts.training_log_topic_id)
        traces = traces_of(config, metrics, "jobs")
        stack.callback(traces.close)
        runner = stop.unless_told(lambda: Runner(parts, facts, seal, metrics, traces))
        if port:
            access = Access([socket.gethostname(), config.http.host, *config.http.hosts], token_of(config))
            stack.callback(answer(config.http.host, port, runner_pages(runner, metrics, access), "serve.jobs.port"))
        try:
            calm_collector()
            runner.run(lambda: stop.told() or bool(files.replaced()))
        finally:
            runner.close()
    log.info("stopped, because of %s: %d rows scored", stop.why or "other certificates", runner.scored)
    begin_anew(stop, facts.log)
    if stop.signal == signal.SIGINT:
        sys.exit(INTERRUPTED)

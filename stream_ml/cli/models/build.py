"""``stream-ml models build``: fold the log into one model, as a worker would, and leave its checkpoint."""

import time

from stream_ml.cli.logs import set_up_log
from stream_ml.cli.run import Stop, fix_hash_seed
from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.errors import ConfigError

TURN_S = 0.5
IDLE_S = 0.05
SAY_S = 5.0


def build(config: Config) -> None:
    """Fold until the configuration's model is at the log's end; it is declared where the log does not know it.

    Raises
    ------
    ConfigError
        It cannot be built, or was told to stop.
    """
    from stream_ml.app.assemble import assemble
    from stream_ml.app.trial import checked
    from stream_ml.follower.follower import Follower
    from stream_ml.follower.identity import identified
    from stream_ml.kafka.errors import reaching
    from stream_ml.kafka.topics import inspect_topics
    from stream_ml.observe.metrics import Metrics
    from stream_ml.storage.keys import log_seal

    set_up_log(config)
    stop = Stop()
    facts = identified(config, inspect_topics(config), make=False)
    fix_hash_seed(facts.log)
    interval_s = config.checkpoints.interval / 1000
    with reaching(config):
        seal = log_seal(config, facts.training_log_topic_id)
        follower = Follower(checked(assemble(config)), facts, Metrics(), lambda: None, seal, builds=True)
        own, said_s = follower.recipes.own.lineage, time.monotonic()
        follower.start(stop.told, interval_s)
        while own not in follower.replica.models and not stop.told():
            if own in follower.lineup.unbuildable:
                raise ConfigError(f"model {own} cannot be built here: {follower.lineup.unbuildable[own]}")
            follower.turn(TURN_S)
            follower.take_over.look(follower.lineup)
            follower.checkpoint_if_due(interval_s)
            if not follower.behind:
                time.sleep(IDLE_S)  # nothing is there: the log is waited for
            if time.monotonic() - said_s > SAY_S:
                said_s = time.monotonic()
                say(follower.how_far(own))
        done = own in follower.replica.models
        position = follower.replica.models[own].position if done else 0
        follower.finish(TURN_S, config.checkpoints.stop_wait / 1000)
    if not done:
        raise ConfigError("it was told to stop before the model was at the log's end", "the next one goes on from here")
    say(f"model {own} is at {position:,} of {config.training_log_topic}, and its checkpoint written")
    say("start a worker with this configuration: it takes over at once")

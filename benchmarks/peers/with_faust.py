"""Faust (faust-streaming), at least once: an agent for each topic, its defaults otherwise (a commit every 2.8 s)."""

import faust
from faust.types import StreamT

from benchmarks.peers.join import Arguments, Join, arguments


def app_of(told: Arguments, join: Join) -> faust.App:
    """The agents. Records are bytes until the functions that the other peers use too."""
    app = faust.App(
        f"{told.events}-faust",
        broker=f"kafka://{told.servers}",
        store="memory://",
        value_serializer="raw",
        key_serializer="raw",
        consumer_auto_offset_reset="earliest",
        topic_disable_leader=True,
        web_enabled=False,
        datadir="faust",
    )
    events = app.topic(told.events, key_type=bytes, value_type=bytes)
    labels = app.topic(told.labels, key_type=bytes, value_type=bytes)
    predictions = app.topic(told.predictions, key_type=bytes, value_type=bytes)

    @app.agent(events)
    async def score(stream: StreamT) -> None:
        async for key, value in stream.items():
            await predictions.send(key=key, value=join.event(value))

    @app.agent(labels)
    async def learn(stream: StreamT) -> None:
        async for value in stream:
            join.label(value)

    return app


def main() -> None:
    told = arguments()
    join = Join(told.labels_expected)
    app = app_of(told, join)

    @app.on_before_shutdown.connect
    def end(*_: object, **__: object) -> None:
        join.report()  # the worker leaves the process without coming back here

    faust.Worker(app, loglevel="warn", quiet=True, redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main()

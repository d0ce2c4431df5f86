"""Quix Streams. Variants: `at-least-once` and `exactly-once`; its defaults otherwise (a commit every 5 s).

Records stay bytes until the functions that the other peers use too; JSON, its default, would be slower.
"""

from quixstreams import Application

from benchmarks.peers.join import Join, arguments


def main() -> None:
    told = arguments()
    join = Join(told.labels_expected)
    app = Application(
        broker_address=told.servers,
        consumer_group=f"{told.events}-quix",
        auto_offset_reset="earliest",
        processing_guarantee=told.variant,
        auto_create_topics=False,
        use_changelog_topics=False,
        loglevel="WARNING",
    )
    events = app.topic(told.events, value_deserializer="bytes", key_deserializer="bytes")
    labels = app.topic(told.labels, value_deserializer="bytes", key_deserializer="bytes")
    predictions = app.topic(told.predictions, value_serializer="bytes", key_serializer="bytes")
    app.dataframe(events).apply(join.event).to_topic(predictions)
    app.dataframe(labels).update(join.label)
    app.run()  # until SIGTERM, after which it commits
    join.report()


if __name__ == "__main__":
    main()

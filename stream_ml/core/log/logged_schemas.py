"""Which Avro schemas the app's records were written with: those that the log holds, and those of now."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from stream_ml.core.avro.schema import fingerprint_of_text, shown_fingerprint
from stream_ml.core.log.entry import Entry

_TOPIC = re.compile("[A-Za-z0-9._-]{1,249}")  # what Kafka takes as a name


class LoggedSchema(NamedTuple):
    """A schema as the training log has it; no topic says that it is the events'."""

    topic: str
    fingerprint: int
    text: str

    @classmethod
    def of(cls, entry: Entry) -> "LoggedSchema":
        """From an entry of kind schema; ValueError where its text has another fingerprint or its topic can be none."""
        topic, said, text = "", entry.event_schema, entry.arguments
        if not said:
            arguments = entry.parsed_arguments()
            topic, said, text = (arguments.get(name, "") for name in ("topic", "fingerprint", "schema"))
            if not isinstance(topic, str) or not isinstance(text, str) or not _TOPIC.fullmatch(topic):
                raise ValueError(f"a schema entry of the topic {str(topic)[:50]!r}, which Kafka does not allow")
        found = fingerprint_of_text(text)
        if said != found:
            raise ValueError(f"a schema entry says fingerprint {said}, its text has {found}")
        return cls(topic, found, text)


class WrittenSchema(NamedTuple):
    """A schema that records of a topic have.

    Parameters
    ----------
    fingerprint
        CRC-64-AVRO as hex of its eight bytes, in the order in which single-object encoding has them.
    current
        Whether it is what the app reads or writes now.
    text
        The schema as JSON.
    """

    topic: str
    fingerprint: str
    current: bool
    text: str

    def plain(self) -> dict[str, str | bool]:
        """What a list of schemas says of one; the text is asked for by its fingerprint."""
        return {"topic": self.topic, "fingerprint": self.fingerprint, "current": self.current}


def written_schemas(
    events_topic: str, now: Iterable[LoggedSchema], logged: Iterable[LoggedSchema]
) -> list[WrittenSchema]:
    """Topic by topic in the order of `now`, each topic's schemas in the order in which the log has them.

    Parameters
    ----------
    now
        What is read and written now.
    logged
        Those that the log holds, in its order.
    """
    of_now = [(one.topic or events_topic, shown_fingerprint(one.fingerprint), one.text) for one in now]
    of_log = [(one.topic or events_topic, shown_fingerprint(one.fingerprint), one.text) for one in logged]
    current = {(topic, name): text for topic, name, text in of_now}  # a fingerprint leaves docs and logical types out
    found: dict[str, dict[str, WrittenSchema]] = {topic: {} for topic, *_ in of_now}
    for topic, name, text in of_log + of_now:
        one = WrittenSchema(topic, name, (topic, name) in current, current.get((topic, name), text))
        found.setdefault(topic, {}).setdefault(name, one)
    return [one for of in found.values() for one in of.values()]

"""The models of an app as its log says, read and never written."""

from stream_ml.config import Config
from stream_ml.core.fold.roles import Declared, Roles
from stream_ml.core.log.entry import Entry, decode_entry, is_command
from stream_ml.core.log.seals import LogSeal
from stream_ml.errors import ConfigError
from stream_ml.follower.identity import identified
from stream_ml.kafka.clients import admin
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.log_reader import log_value
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.kafka.topics import TopicFacts, inspect_topics
from stream_ml.storage.keys import log_seal


class LoggedModels:
    """Roles of one app, read from its log; read on with `read`.

    Attributes
    ----------
    roles
        Up to `position`.
    freezes
        Offsets of the commands up to there that freeze or resume learning, and the commands.
    begins_at
        Where the log began when it was read last.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.facts: TopicFacts = identified(config, inspect_topics(config), make=False)
        self.seal: LogSeal | None = log_seal(config, self.facts.training_log_topic_id)
        self.roles, self.position, self.begins_at = Roles(), 0, 0
        self.freezes: list[tuple[int, Entry]] = []
        self.read()

    def read(self) -> int:
        """Read what came since; where the log ends now."""
        topic = self.config.training_log_topic
        self.begins_at, end = ends(admin(self.config), [(topic, 0)])[topic, 0]
        start = max(self.begins_at, self.position)
        for batch in read_range(self.config, topic, 0, start, end, keep_alive=lambda: None):
            for record in batch:
                value = log_value(record, self.seal)
                if is_command(value):
                    self._note(record.offset, value)
        self.position = max(self.position, end)
        return end

    def _note(self, offset: int, value: bytes) -> None:
        try:
            entry = decode_entry(value)
            entry.check_known()
        except ValueError:  # learning halts there, which others say
            return
        self.roles.note(offset, entry, self.facts.log.log_id)
        if entry.command in ("freeze", "resume"):
            self.freezes.append((offset, entry))

    def named(self, name: str) -> Declared:
        """The model with this name, or whose lineage begins so.

        Raises
        ------
        ConfigError
            There is none, or more than one lineage begins so.
        """
        found = self.roles.named(name)
        if not found:
            known = ", ".join(one.name for one in self.roles.declared.values()) or "none"
            raise ConfigError(f"no model of this log is named {name}; there are: {known}", "stream-ml models ls CONFIG")
        if found[0].name != name and len(found) > 1:
            raise ConfigError(f"{len(found)} lineages begin with {name}", "stream-ml models ls CONFIG")
        return found[0]


def version_of(text: str) -> tuple[str, int | None]:
    """Name and position out of ``NAME`` or ``NAME/POSITION``; ConfigError where the position is none."""
    name, slash, position = text.rpartition("/")
    if not slash:
        return text, None
    digits = position.replace(",", "").replace("_", "")
    if not digits.isdecimal() or not name:
        raise ConfigError(f"{text} names no version", "write NAME/POSITION, as predictions and the status have it")
    return name, int(digits)

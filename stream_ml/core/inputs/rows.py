"""Rows of JSON, as people write them or `tail --json` shows them, to records of a topic."""

from collections.abc import Callable
from typing import Any

from stream_ml.core.avro.fields import composed, find_field, getter, id_text_of
from stream_ml.core.avro.framing import Payloads
from stream_ml.core.avro.from_json import SchemaMismatch, from_json
from stream_ml.core.inputs.settings import Source


class RowEncoder:
    """Rows of JSON to records of one topic: key and framed value; the key is the id of the event.

    Parameters
    ----------
    where
        events or feedback, for messages.
    """

    def __init__(self, source: Source, payloads: Payloads, where: str) -> None:
        self._payloads, self._where = payloads, where
        self._id: Callable[[Any], str] | None = None
        if source.id != "key":
            field = find_field(payloads.reader, source.id, where=f"{where}.id")
            self._id = composed(getter(field), id_text_of(field, where=f"{where}.id"))

    def encode(self, row: Any) -> tuple[bytes, bytes]:
        """Key and value of a row; SchemaMismatch where it is not of the schema: whoever wrote it mends it.

        A row that `tail --json` has shown says under `record` which key it had, which is kept.
        """
        place, given = self._parted(row)
        key = place.get("key")
        if self._id is not None:
            payload = from_json(self._payloads.reader, given)
            own = key if isinstance(key, str) and key else self._id(payload) or ""
            return own.encode(), self._payloads.encode(payload)
        if isinstance(given, dict):
            key = given.pop("key", key)
        if not isinstance(key, str) or not key:
            raise SchemaMismatch(f'{self._where}.id is key: give the record key as "key" beside the fields')
        return key.encode(), self._payloads.encode(from_json(self._payloads.reader, given))

    def timestamp_ms(self, row: Any) -> int | None:
        """Kafka's timestamp of a row that `tail --json` has shown; None of others."""
        found = self._parted(row)[0].get("timestamp_ms")
        return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None

    def _parted(self, row: Any) -> tuple[dict[str, Any], Any]:
        """Where a row was read, as `tail --json` says it, and its fields."""
        if not isinstance(row, dict):
            return {}, row
        fields = {field["name"] for field in self._payloads.reader.fields}
        given = dict(row)
        place = given.pop("record", {}) if "record" not in fields else {}
        return place if isinstance(place, dict) else {}, given

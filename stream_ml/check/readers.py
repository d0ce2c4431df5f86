"""What readers of the predictions will meet: another schema than the one that they know."""

from stream_ml.app.parts import Parts
from stream_ml.kafka.reading.newest import newest


def changed_schema(parts: Parts) -> str:
    """A sentence where the newest prediction names another schema than a worker would write now, else nothing.

    Records framed `bare` name none. Reads committed records; errors as of `read_messages`.
    """
    header, topic = parts.predictions.header, parts.config.predictions.topic
    if not header:
        return ""
    records, _ = newest(parts.config, topic, 1)
    found = (records[-1].value or b"")[: len(header)] if records else header
    if found == header:
        return ""
    return (
        f"the schema of predictions would change: {topic} has {_kind(header)} {_name(found)}, and a worker would "
        f"write {_name(header)}; carried fields and their types belong to it. Consumers need it before they meet it: "
        "stream-ml schema show CONFIG predictions"
    )


def _kind(header: bytes) -> str:
    return "fingerprint" if header[0] == 0xC3 else "schema id"


def _name(header: bytes) -> str:
    """As Avro's single-object encoding has it, the bytes of the fingerprint; Confluent's id as a number."""
    return header[2:].hex() if header[0] == 0xC3 else str(int.from_bytes(header[1:], "big"))

"""Scored events as the join holds them, until their labels come."""

from collections.abc import Mapping, Sequence

from stream_ml.core.inputs.events import Events, picked
from stream_ml.core.join.pending import Rows, Tag, known_or_nan
from stream_ml.core.model.scoring import Scores
from stream_ml.records import Version

ENTRY_BYTES = 4_096  # what a log entry holds beside event, id and scores, rounded up


def pending_rows(
    events: Events,
    scores: Scores,
    rows: Sequence[int],
    fresh: Sequence[int],
    flags: Sequence[tuple[str, ...]],
    by: tuple[Version, int],
    record_bytes_max: int,
    others: Mapping[int, tuple[Version, int]],
) -> Rows:
    """Scored events as the join keeps them.

    Parameters
    ----------
    rows
        Which m of the batch's events were published; `flags` of each of them.
    fresh
        Which of the m are the first of their id.
    by
        Version of the model that served them, and the epoch; of some rows `others`.
    """
    scored = scores.values is None
    numbers = scores.scores if scored else scores.values
    chosen = [rows[number] for number in fresh]
    schemas, names = events.schemas, scores.class_names
    shared = [
        (schemas[row], names[row], flags[number], others.get(row, by) if others else by)
        for number, row in zip(fresh, chosen, strict=True)
    ]
    tags = {
        of: Tag(schema, name, version.lineage, version.position, flags_, scored, epoch=epoch)
        for of in set(shared)
        for schema, name, flags_, (version, epoch) in [of]
    }
    held = Rows()
    held.extend(
        picked(events.records.offsets, chosen),
        picked(events.times_ms, chosen),
        picked(events.ids, chosen),
        [events.records.values[row] or b"" for row in chosen],
        [tags[of] for of in shared],
        known_or_nan(picked(numbers, chosen), len(chosen)),
        picked(scores.texts, chosen),
    )
    held.limit(record_bytes_max - ENTRY_BYTES)
    return held

"""The demo's planted drift: from DAY on, `hour` counts down to midnight. What the topics then say about it."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import numpy as np

from stream_ml.config import Config
from stream_ml.core.drift.signals import Signal, decode_signal
from stream_ml.core.evaluation.window import Row, measures
from stream_ml.core.log.entry import Entry
from stream_ml.core.log.entry_columns import decode_entries
from stream_ml.demo.flights import Item
from stream_ml.kafka.clients import admin
from stream_ml.kafka.reading.ends import ends
from stream_ml.kafka.reading.ranges import read_range
from stream_ml.records import Record

DAY_MS = int(datetime(2013, 7, 1, 4, tzinfo=UTC).timestamp() * 1000)  # midnight in New York
SPAN = 5_000  # labels over which quality is reported: five days
STEP = 3_000
WITHIN = 15_000  # labels after DAY among which the worst is looked for
SUBJECT = "feature:hour"


def planted(items: list[Item]) -> list[Item]:
    """The flights, of which those from DAY on tell another hour."""
    return [_changed(item) if item.kind == "event" and item.time_ms >= DAY_MS else item for item in items]


def _changed(item: Item) -> Item:
    return item._replace(values={**item.values, "hour": 23 - item.values["hour"]})


def drift_report(config: Config) -> dict[str, Any]:
    """Whether and when it was found, and what it cost: from the signals and the training log alone.

    Quality is the ROC AUC of what was served.
    """
    signals = [(record.timestamp_ms, decode_signal(record.value or b"")) for record in read_all(config, config.signals)]
    values = [record.value or b"" for record in read_all(config, config.training_log_topic)]
    examples = [e for e in decode_entries(values) if isinstance(e, Entry) and e.kind == "example"]
    scored = [e for e in examples if e.served.score is not None]
    first = next((n for n, entry in enumerate(scored) if entry.event_time_ms >= DAY_MS), len(scored))
    rows = np.array([_row(entry) for entry in scored], np.float64).reshape(len(scored), len(Row._fields))
    after = [_auc(rows[at : at + STEP]) for at in range(first, min(first + WITHIN, len(rows) - STEP), STEP)]
    found = _found(signals, scored[first:])
    return {
        "drift_from": datetime.fromtimestamp(DAY_MS / 1000, UTC).date().isoformat(),
        "drift_detected": found is not None,
        "labels_until_detected": found,
        "quality_before": _auc(rows[max(0, first - SPAN) : first]),
        "quality_at_worst": min((auc for auc in after if auc is not None), default=None),
        "quality_after": _auc(rows[first + WITHIN : first + WITHIN + SPAN]),
        "signals": dict(Counter(f"{signal.kind} {signal.subject}" for _, signal in signals)),
    }


def _found(signals: list[tuple[int, Signal]], after: list[Entry]) -> int | None:
    """Labels of changed flights that were learned before the signal was written; None where there is none."""
    told = [at_ms for at_ms, s in signals if (s.kind, s.subject) == ("drift", SUBJECT)]
    written = [entry.written_at_ms for entry in after]
    if not told or not written or told[0] < written[0]:
        return None  # one from before is a false alarm, and no finding
    return int(np.searchsorted(np.array(written), told[0], side="right"))


def _row(entry: Entry) -> Row:
    score = entry.served.score or 0.0
    return Row(entry.label_time_ms, 0, float(entry.target.class_name == "true"), float(score >= 0.5), score, 0.0, 0.5)


def _auc(rows: Any) -> float | None:
    found = measures("binary", rows, 2).get("auc")
    return None if found is None else round(found, 4)


def read_all(config: Config, topic: str) -> list[Record]:
    """All committed records of a topic of one partition."""
    first, end = ends(admin(config), [(topic, 0)])[topic, 0]
    return [r for batch in read_range(config, topic, 0, first, end, keep_alive=lambda: None) for r in batch]

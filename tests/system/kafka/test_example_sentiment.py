"""The example over HTTP, as its README says it: text in, a label out, and feedback changes the answer."""

from pathlib import Path

import pytest

from stream_ml.core.partition.answered import FLAG
from tests.support.api_process import ApiProcess
from tests.support.examples import example

pytestmark = pytest.mark.kafka
TOLD = (
    ("I love this, what a great day", "positive"),
    ("I hate this, what an awful day", "negative"),
    ("great, I love it", "positive"),
    ("awful, I hate it", "negative"),
)


def test_feedback_changes_what_the_sentiment_example_answers(kafka: str, app_id: str, tmp_path: Path) -> None:
    made = example("sentiment", tmp_path, kafka, app_id)
    try:
        worker = made.start()
        made.wait_for(lambda: bool(worker.owned), "owning")
        with ApiProcess(made, **made.settings["serve"]) as api:
            api.wait_ready()

            def ask(text: str, **headers: str) -> dict[str, object]:
                status, _, said = api.ask("POST", "/v1/sentiment", {"text": text}, **headers)
                assert status == 200, said
                return said  # type: ignore[no-any-return]

            assert ask("what a great day")["label"] is None, "it knows nothing yet"
            for text, verdict in TOLD:
                label = {"id": ask(text)["id"], "sentiment": verdict}
                status, _, said = api.ask("POST", "/v1/feedback", {"labels": [label]})
                assert status == 202, said
                again = ask("what a great day", Stream_ML_After=said["after"], Prefer="wait=20")
            assert again["label"] == "positive" and 0.5 < float(str(again["confidence"])) < 1.0
            assert ask("so awful, I hate it")["label"] == "negative"
            assert api.ask("POST", "/v1/sentiment", {"text": "x" * 20_000})[0] == 422
        made.wait_until_done()
        published = made.predictions()
        assert all(FLAG in one["flags"] for one in published) and len(published) == 10
        found = made.audited()
        assert found["findings"] == [] and found["examples"] == len(TOLD)
    finally:
        made.close()

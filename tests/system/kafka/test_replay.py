"""Replay of a service's own log: the champion says what was published, whatever has happened to it."""

import json
import re
from pathlib import Path

import pytest

from stream_ml.embedded.broker import free_port
from tests.support.service import T0, Service, brothers, service

pytestmark = pytest.mark.kafka


def report(made: Service, *words: str) -> dict:  # type: ignore[type-arg]
    """What a replay says as JSON; it may fail its bounds."""
    code, said = made.ended("replay", "CONFIG", "--json", *words)
    assert code in (0, 1), said
    found: dict = json.loads(
        said.splitlines()[-1] if said.startswith("failed") else re.search(r"^\{.*\}$", said, re.M)[0]
    )  # type: ignore[type-arg,index]
    return found


def test_the_champion_says_what_was_published_also_after_a_halt_a_freeze_and_another_model(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}, partitions=2) as made:
        worker = made.start()
        for numbers in (range(20), range(20, 200), range(200, 400)):
            made.pairs(numbers)
            made.wait_until_done()
        made.typed("freeze", "CONFIG")
        made.pairs(range(400, 500))
        made.wait_until_done()
        made.typed("resume", "CONFIG")
        made.pairs(range(500, 700))
        made.wait_until_done()
        model = made.config.model.factory.partition(":")[0]
        (tmp_path / "trees.yaml").write_text(
            json.dumps({"model": {"factory": f"{model}:build"}, "features": {"exclude": ["note", "kind"]}})
        )
        found = report(
            made,
            "--spec",
            str(tmp_path / "trees.yaml"),
            "--model",
            "build",
            "--out",
            str(tmp_path / "out"),
        )
        specs = {one["name"]: one for one in found["specs"]}
        same, of = specs["build"]["equal_to_served"]
        assert same == of == found["compared"]["examples"] > 650, found["compared"]
        assert specs["build"]["measures"] == specs["served"]["measures"]
        assert specs["trees"]["equal_to_served"] == [0, 0], "it has served nothing"
        assert specs["build"]["examples_learned"] == 600
        pair = next(one for one in found["pairs"] if one["first"] == "build")
        assert pair["mean"] == 0.0
        page = (tmp_path / "out" / "report.html").read_text("utf-8")
        assert "Which is better" in page and "trees - served" in page and "<script" not in page
        assert json.loads((tmp_path / "out" / "report.json").read_text())["specs"] == found["specs"]
        failing = made.ended(
            "replay", "CONFIG", "--fail-if", "build.brier < 1", "--fail-if", "build worse than served by 0.5"
        )
        assert failing[0] == 1 and "failed: build.brier < 1: it is" in failing[1], failing[1]
        assert "worse than served" not in failing[1].partition("failed: ")[2]
        assert worker.stop() == 0, worker.log


@pytest.mark.parametrize("number", brothers(0, 1))
def test_what_cannot_be_replayed_is_said_in_one_sentence(kafka: str, app_id: str, tmp_path: Path, number: int) -> None:
    with service(tmp_path, kafka, app_id) as made:
        made.start()
        code, said = made.ended("replay", "CONFIG")
        assert code == 78 and "holds no example: there is nothing to replay" in said, said
        made.pairs(range(60))
        made.wait_until_done()
        (tmp_path / "other.yaml").write_text("model: {task: regression}\n")
        (tmp_path / "more.yaml").write_text("events: {topic: x}\n")
        (tmp_path / "odd.yaml").write_text("model: {factory: 'nowhere:build'}\n")
        files = {name: str(tmp_path / f"{name}.yaml") for name in ("other", "more", "odd", "none")}
        wrong = [
            (("--fail-if", "trees.auc < 1"), "there is no model trees"),
            (("--from", "2030-01-01"), "holds no example in that time"),
            (("--score-from", "2030-01-01"), "no example is left to compare"),
            (("--spec", files["other"]), "model.task is another one than the app's"),
            (("--fail-if", "build.sharpness < 1"), "there is no measure sharpness"),
            (("--fail-if", "build is bad"), "is no bound"),
            (("--score-from", "soon"), "is no time"),
            (("--block", "0s"), "--block is 0"),
            (("--block", "six hours"), "is not a duration"),
            (("--spec", files["more"]), "events makes no model"),
            (("--spec", files["odd"]), "nowhere"),
            (("--spec", files["none"]), "cannot be read"),
            (("--model", "nobody"), "no model of this log is named nobody"),
            (("--label", "y"), "are columns of files"),
            (("--work", str(tmp_path / "nowhere")), "cannot be used"),
            (("--file", str(tmp_path / "none.parquet")), "is no file"),
        ]
        for words, why in wrong[:4] if number == 0 else wrong[4:]:
            code, said = made.ended("replay", "CONFIG", *words)
            assert code in (1, 78) and why in said and "Traceback" not in said, (words, code, said)


def test_topics_that_nobody_has_scored_give_what_the_same_rows_in_a_file_give(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    """History with labels an hour later: the honest number before the service has run once."""
    late_s, count = 3_600, 4_000
    with service(tmp_path, kafka, app_id, partitions=3, feedback={"ttl": "2h"}) as made:
        lines = []
        for number in range(count):
            x = float(number * 7919 % 100)
            made.visit(number, at=T0 + 10_000 * number)
            event = {"id": f"v{number}", "at": T0 + 10_000 * number, "x": x, "kind": f"k{number % 3}", "note": None}
            if number == 600:
                made.truth(7, at=T0 + 10_000 * number, y=True)  # a second label of an event
            if number % 10:
                delay_s = late_s + number * 7919 % 600
                at = T0 + 10_000 * number + 1_000 * delay_s
                made.truth(number, at=at, y=x > 50)
                lines.append(json.dumps({**event, "y": x > 50, "late": float(delay_s)}))
        made.truth(10**6, at=T0, y=True)  # of none
        made.flush()
        (tmp_path / "rows.jsonl").write_text("\n".join(lines))
        of_topics = report(made, "--topics", "--assume", "0s", "--assume", "2h", "--out", str(tmp_path / "out"))
        of_file = report(made, "--file", str(tmp_path / "rows.jsonl"), "--delay", "late")
        assert of_topics["source"]["timeline"] == "topics"
        notes = " ".join(of_topics["source"]["notes"])
        assert f"events without a label: {count // 10}" in notes and "orphan: 1" in notes, notes
        assert "duplicate: 1" in notes, notes
        ours, theirs = (next(one for one in found["specs"] if one["name"] == "build") for found in (of_topics, of_file))
        assert ours["examples_learned"] == len(lines) == theirs["examples_learned"]
        assert ours["measures"] == theirs["measures"] and ours["measures"]["auc"] > 0.9
        assumed = {one["delay_ms"]: one["measures"]["build"]["log_loss"] for one in of_topics["assumed"]}
        assert assumed[0] < ours["measures"]["log_loss"] < assumed[7_200_000]
        page = (tmp_path / "out" / "report.html").read_text("utf-8")
        assert "Quality, had labels taken so long" in page and "How long labels took" in page
        some = report(made, "--topics", "--from", "2020-01-01", "--to", "2030-01-01")
        assert some["compared"]["examples"] == of_topics["compared"]["examples"]
        for words, why in (
            (("--topics", "--from", "2100-01-01"), "no label of"),
            (("--topics", "--file", str(tmp_path / "rows.jsonl")), "are of Kafka"),
            (("--topics", "--assume", "soon"), "--assume"),
            (("--topics", "--model", "build"), "no model of this log is named build"),
        ):
            code, said = made.ended("replay", "CONFIG", *words)
            assert code == 78 and why in said and "Traceback" not in said, (words, said)

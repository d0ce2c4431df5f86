"""What who looks on sees: tail, top, dead letters by reason and redriven once, signals that stand there once."""

import json
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from typer.testing import CliRunner

from stream_ml.admin.redrive import FROM
from stream_ml.cli.app import app
from stream_ml.core.avro.record import encode_record
from stream_ml.embedded.broker import free_port
from stream_ml.errors import ConfigError
from stream_ml.kafka.clients import admin
from stream_ml.kafka.reading.ends import ends
from stream_ml.records import Record
from tests.support.service import T0, WAIT_S, Service, any_hash_seed, service

pytestmark = pytest.mark.kafka

NOTED = {"features": {"include": ["x", "kind", "note"]}}  # an event without a note becomes a dead letter


def cli(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def refused(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(done.exception, ConfigError), (done.output, done.exception)
    return str(done.exception)


def rows(*arguments: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cli(*arguments).splitlines()]


def tail(made: Service, what: str, *options: str) -> list[dict[str, Any]]:
    return rows("tail", made.folder / "w1.yaml", what, "--json", *options)


def kinds(made: Service) -> list[str]:
    return [signal["kind"] for signal in tail(made, "signals", "--last", "99") if signal["subject"] != "models"]


def redrive(made: Service, *options: str, reason: str = "missing_feature") -> list[str]:
    return cli("dead-letters", "redrive", made.folder / "w1.yaml", "--reason", reason, *options).splitlines()


def process(made: Service, *verb: str) -> "subprocess.Popen[str]":
    """A verb in a process of its own; CONFIG stands for the configuration."""
    words = [str(made.folder / "w1.yaml") if word == "CONFIG" else word for word in verb]
    command, pipe = [sys.executable, "-m", "stream_ml", *words], subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=any_hash_seed(), start_new_session=True)


def noteless(made: Service, numbers: range) -> None:
    """Events without a note, each with its label; keys are the ids, and two headers are a stranger's."""
    for number in numbers:
        event = {"id": f"v{number}", "at": T0 + 1000 * number, "x": 1.5, "kind": "k", "note": None}
        value, headers = encode_record(made.VISIT_SCHEMA, event), [("trace", b"t%d" % number), ("empty", None)]
        made.raw_visit(value, partition=made.of(number), key=b"v%d" % number, headers=headers)
        made.truth(number)


def again(made: Service, *, header: str = FROM) -> list[Record]:
    """Events that were redriven, or that have another header."""
    found = [record for p in range(made.partitions) for record in made.read(made.config.events.topic, p)]
    return [record for record in found if header in dict(record.headers)]


def dead_letters(made: Service) -> list[Record]:
    return [record for p in range(made.partitions) for _, record, _ in made.dead_letters(p)]


def times(written: list[Record]) -> Counter[str]:
    return Counter(dict(record.headers)[FROM].decode() for record in written)


def test_tail_shows_every_topic_decoded_and_filters_by_fields(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        made.start()
        made.pairs(range(20))
        made.raw_visit(b'{"id": "a"}', key=b"bad")
        made.raw_truth(None)
        made.wait_until_done()
        made.truth(3)
        made.wait_until_done()
        cli("freeze", tmp_path / "w1.yaml")
        made.wait_for(lambda: kinds(made) == ["frozen"], "the signal")
        shown = tail(made, "events", "--last", "99", "--where", "id=v7")
        assert [(e["id"], e["x"], e["kind"], e["note"]) for e in shown] == [("v7", 33.0, "k1", None)]
        assert (shown[0]["record"]["partition"], shown[0]["record"]["offset"]) == (0, 7)
        assert "this is JSON" in tail(made, "events", "--last", "1")[0]["unreadable"]
        assert [f["y"] for f in tail(made, "feedback", "--last", "99", "--where", "id=v19")] == [True]
        assert [p["event_id"] for p in tail(made, "predictions", "--last", "3")] == ["v17", "v18", "v19"]
        assert [(o["outcome"], o["event_id"]) for o in tail(made, "outcomes")] == [("duplicate", "v3")]
        assert ["this is JSON" in d["message"] for d in tail(made, "dead-letters", "--where", "key=bad")] == [True]
        log = tail(made, "training-log", "--last", "99", "--where", "target.class_name=true")
        assert {e["event_id"] for e in log} == {f"v{number}" for number in range(20) if number * 7919 % 100 > 50}
        assert tail(made, "training-log", "--where", "served.no.such=1") == tail(made, "events", "--last", "0") == []
        said = refused("tail", tmp_path / "w1.yaml", "predicions")
        assert "none of events, feedback, predictions, outcomes, dead-letters, signals, training-log" in said
        assert "FIELD=VALUE" in refused("tail", tmp_path / "w1.yaml", "events", "--where", "id")
        text = cli("tail", tmp_path / "w1.yaml", "predictions", "--last", "1")
        assert text.count("\n") == 1 and " event_id=v19 " in text and "0:" in text


def test_a_followed_topic_shows_what_comes_after_the_start(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id) as made:
        made.visit(1)
        made.flush()
        with process(made, "tail", "CONFIG", "events", "-f") as follower:
            deadline = threading.Timer(WAIT_S, follower.kill)  # then the lines end
            deadline.start()
            assert follower.stdout is not None and " id=v1 " in follower.stdout.readline()
            made.visit(2)
            made.flush()
            assert " id=v2 " in follower.stdout.readline()
            deadline.cancel()
            follower.send_signal(signal.SIGINT)
            assert follower.wait(WAIT_S) == 130


def test_dead_letters_are_listed_by_reason_and_shown_one_by_one(kafka: str, app_id: str, tmp_path: Path) -> None:
    config = tmp_path / "w1.yaml"
    with service(tmp_path, kafka, app_id, partitions=2, **NOTED) as made:
        assert cli("dead-letters", "ls", config) == "there are none\n"
        made.start()
        noteless(made, range(5))
        made.raw_visit(None, partition=1)
        made.wait_until_done()
        text = cli("dead-letters", "ls", config)
        assert f"5 missing_feature in {app_id}-visits, 20" in text and "feature note is null" in text
        groups = rows("dead-letters", "ls", config, "--json")
        assert [(g["reason"], g["dead_letters"]) for g in groups] == [("missing_feature", 5), ("empty", 1)]
        each = {one["key"]: one["dead_letter"] for one in rows("dead-letters", "ls", config, "--each")}
        assert each == {(r.key or b"").decode(): f"{r.partition}:{r.offset}" for r in dead_letters(made)}
        assert sorted(each) == ["k", "v0", "v1", "v2", "v3", "v4"]
        one = json.loads(cli("dead-letters", "show", config, each["v3"]))
        assert (one["reason"], one["partition"], one["offset"]) == ("missing_feature", "1", "1")
        assert (one["decoded"]["id"], one["decoded"]["note"], one["headers"]["trace"]) == ("v3", None, "t3")
        for wrong in ("17", "a:b", ":1"):
            assert f"{wrong} is no PARTITION:OFFSET" in refused("dead-letters", "show", config, wrong)
        assert "it is none of empty, not_avro" in refused("dead-letters", "redrive", config, "--reason", "bad")


@pytest.mark.timeout(15, func_only=True)
@pytest.mark.parametrize("dead_letter", ["0:1", "0:99999", "9:0"])
def test_a_letter_that_is_not_there_is_named(kafka: str, app_id: str, tmp_path: Path, dead_letter: str) -> None:
    with service(tmp_path, kafka, app_id) as made:
        made.producer.produce(made.config.dead_letters, b"some bytes", partition=0)
        made.flush()
        assert dead_letter in refused("dead-letters", "show", tmp_path / "w1.yaml", dead_letter)


def test_each_letter_of_a_reason_is_redriven_once_and_scored(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, partitions=2, **NOTED) as made:
        worker = made.start()
        noteless(made, range(10))
        for partition in (0, 1, 1):
            made.raw_visit(b"", partition=partition)
        made.wait_until_done()
        assert worker.stop() == 0
        before, held = dead_letters(made), {record.key: record for record in again(made, header="trace")}
        made.settings["features"] |= {"missing": {"note": {"impute": "none"}}}
        made.config = made.write()
        made.start()
        assert redrive(made, "--dry-run") == [f"missing_feature: 10 would be written to {app_id}-visits"]
        assert again(made) == []
        assert redrive(made, "--most", "4") == [f"missing_feature: 4 written to {app_id}-visits"]
        assert redrive(made) == [f"missing_feature: 6 written to {app_id}-visits"]
        assert redrive(made) == ["nothing was left to redrive"]
        written = again(made)
        wanted = {f"{app_id}.dead-letters:{r.partition}:{r.offset}" for r in before if r.value}
        assert times(written) == dict.fromkeys(wanted, 1)
        for record in written:
            origin = held[record.key]
            assert (record.topic, record.partition, record.value) == (origin.topic, origin.partition, origin.value)
            assert [header for header in record.headers if header[0] != FROM] == list(origin.headers)
        made.wait_for(lambda: sum(len(made.predictions(p)) for p in (0, 1)) == 10, "ten predictions")
        made.visit(100, note="n")
        made.visit(101, note="n")  # behind the transactions' markers
        made.wait_until_done()
        found = made.audit()
        assert not found.findings and not found.unread, found.findings
        assert (found.events, found.predictions, found.dead_letters) == (25, 12, {"missing_feature": 10, "empty": 3})
        made.wait_for(lambda: made.audit().examples == 10, "each label's example")
        assert redrive(made, "--dry-run", reason="empty") == [f"empty: 3 would be written to {app_id}-visits"]


def test_a_letter_that_somebody_made_up_is_not_redriven(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, partitions=2, **NOTED) as made:
        worker = made.start()
        noteless(made, range(4))
        made.wait_until_done()
        assert worker.stop() == 0
        honest = dead_letters(made)
        one = next(record for record in honest if record.partition == 0)
        headers = dict(one.headers)
        for changed in (
            {"value": b"another value"},
            {"key": b"another key"},
            {"headers": headers | {"more": b"x"}},
            {"headers": headers | {"__connect.errors.offset": b"1000000"}},
            {"headers": headers | {"__connect.errors.partition": b"1"}},
            {"headers": headers | {"__connect.errors.topic": f"{app_id}-truths".encode()}},
            {"headers": headers | {"__connect.errors.topic": f"{app_id}.training-log".encode()}},
        ):
            forged = {"value": one.value, "key": one.key, "headers": headers} | changed
            made.producer.produce(
                made.config.dead_letters, forged["value"], forged["key"], 0, headers=list(forged["headers"].items())
            )
        made.flush()
        assert redrive(made, "--dry-run")[0] == f"missing_feature: 4 would be written to {app_id}-visits"
        said = redrive(made)
        assert said[0] == f"missing_feature: 4 written to {app_id}-visits"
        assert "7 are not the record that they name" in said[1]
        assert sorted((r.key or b"", r.value or b"") for r in again(made)) == sorted(
            (r.key or b"", r.value or b"") for r in honest
        )


@pytest.mark.long
def test_a_letter_whose_record_was_deleted_is_redriven_only_where_somebody_says_so(
    kafka: str, app_id: str, tmp_path: Path
) -> None:
    with service(tmp_path, kafka, app_id, **NOTED) as made:
        worker = made.start()
        noteless(made, range(4))
        made.wait_until_done()
        assert worker.stop() == 0
        client = admin(made.config)
        for future in client.delete_records([TopicPartition(made.config.events.topic, 0, 2)]).values():
            future.result()
        where = ("dead-letters", "redrive", tmp_path / "w1.yaml", "--reason", "missing_feature")
        assert "which retention has deleted: nothing proves" in refused(*where)
        for flags in (["--dry-run"], ["--dry-run", "--no-unproven"]):
            assert redrive(made, *flags) == [
                f"missing_feature: 2 would be written to {app_id}-visits",
                "missing_feature: 2 are of records that retention has deleted, and stay",
            ]
        assert redrive(made, "--dry-run", "--unproven") == [f"missing_feature: 4 would be written to {app_id}-visits"]
        assert redrive(made, "--unproven") == [f"missing_feature: 4 written to {app_id}-visits"]


def test_a_redriven_letter_that_fails_again_is_a_new_letter(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, **NOTED) as made:
        made.start()
        noteless(made, range(3))
        made.wait_until_done()
        redrive(made)
        made.wait_for(lambda: len(dead_letters(made)) == 6, "three new dead_letters")
        six = {f"{app_id}.dead-letters:0:{record.offset}" for record in dead_letters(made)}
        redrive(made)
        assert times(again(made)) == dict.fromkeys(six, 1)
        assert all([name for name, _ in record.headers].count(FROM) == 1 for record in again(made))
        assert not made.audit().findings


@pytest.mark.long
def test_a_killed_redrive_is_finished_once_by_the_next(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, delivery={"transaction_timeout": "3s"}, **NOTED) as made:
        worker = made.start()
        noteless(made, range(4000))
        made.wait_until_done()
        assert worker.stop() == 0
        where, client = (made.config.events.topic, 0), admin(made.config)
        end = ends(client, [where])[where][1]
        killed = process(made, "dead-letters", "redrive", "CONFIG", "--reason", "missing_feature")
        made.wait_for(lambda: ends(client, [where])[where][1] > end, "the first record that is written again")
        killed.kill()
        killed.communicate()
        assert killed.returncode == -9
        redrive(made)
        assert sorted(times(again(made)).values()) == [1] * 4000
        assert redrive(made) == ["nothing was left to redrive"]


@pytest.mark.long
def test_two_redrives_at_once_write_each_letter_once(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, **NOTED) as made:
        worker = made.start()
        noteless(made, range(3000))
        made.wait_until_done()
        assert worker.stop() == 0
        both = [process(made, "dead-letters", "redrive", "CONFIG", "--reason", "missing_feature") for _ in range(2)]
        said = [one.communicate(timeout=WAIT_S) for one in both]
        redrive(made)
        assert Counter(times(again(made)).values()) == {1: 3000}, said


def test_top_prints_a_workers_panel_and_says_what_to_do_without_one(kafka: str, app_id: str, tmp_path: Path) -> None:
    port = free_port()
    with service(tmp_path, kafka, app_id, http={"port": port}) as made:
        absent = process(made, "top", "CONFIG", "--once")
        told = absent.communicate(timeout=WAIT_S)[1].splitlines()
        assert absent.returncode == 69 and len(told) == 2
        assert f"no worker answers at http://127.0.0.1:{port}/v1/status" in told[0]
        assert told[1] == "  -> is it running, and is http.port right? --url names another"
        made.start()
        made.pairs(range(20))
        made.wait_until_done()
        top = ["top", str(tmp_path / "w1.yaml"), "--once"]
        made.wait_for(lambda: " 20 examples" in CliRunner().invoke(app, top).output, "twenty examples")
        for part in (f"{app_id} / w1  ready", "20 predicted, 0 dead letters", "20 joined"):
            assert part in cli(*top)
        cli("freeze", tmp_path / "w1.yaml")
        made.wait_for(lambda: CliRunner().invoke(app, top).exit_code == 1, "the problem")
        assert "learning is frozen; type stream-ml resume CONFIG" in CliRunner().invoke(app, top).output


@pytest.mark.long
def test_commands_and_halts_stand_in_signals_once_whoever_dies(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, partitions=2, delivery={"membership": "dynamic"}) as made:
        both = [made.start(instance) for instance in ("w1", "w2")]
        made.wait_for(lambda: sorted(one.owned for one in both) == [[0], [1]], "a partition each")
        made.pairs(range(40))
        made.wait_until_done()
        for command, kind in (("freeze", "frozen"), ("resume", "resumed"), ("rebaseline", "rebaselined")):
            cli(command, tmp_path / "w1.yaml")
            made.wait_for(lambda kind=kind: kind in kinds(made), kind)  # type: ignore[misc]
        made.forge(5)
        made.wait_for(lambda: "halted" in kinds(made), "the halt")
        for one in both:
            one.kill()
        _ = [made.start(instance) for instance in ("w1", "w2")]
        made.pairs(range(500, 520))
        made.wait_until_done()
        assert kinds(made) == ["frozen", "resumed", "rebaselined", "halted"]


@pytest.mark.long
def test_offsets_set_by_hand_tell_no_signal_again(kafka: str, app_id: str, tmp_path: Path) -> None:
    with service(tmp_path, kafka, app_id, delivery={"membership": "dynamic"}) as made:
        worker = made.start()
        made.pairs(range(10))
        made.wait_until_done()
        cli("freeze", tmp_path / "w1.yaml")
        made.wait_for(lambda: kinds(made) == ["frozen"], "the signal")
        assert worker.stop() == 0
        cli("offsets", "set", tmp_path / "w1.yaml", "--partition", "0", "--events", "10", "--feedback", "10")
        made.start()
        made.pairs(range(10, 20))
        made.wait_until_done()
        assert kinds(made) == ["frozen"]


def test_what_tail_shows_is_produced_again_as_it_was(
    kafka: str, app_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_ml.cli.run.fix_hash_seed", lambda *_: None)  # this process is the test's own
    with service(tmp_path, kafka, app_id) as made:
        for number, key in enumerate((b"v0", b"customer-7", "größe".encode())):
            event = {"id": f"v{number}", "at": T0 + number, "x": 0.1 * number, "kind": "k", "note": None}
            made.raw_visit(encode_record(made.VISIT_SCHEMA, event), key=key)
        made.flush()
        lines = cli("tail", tmp_path / "w1.yaml", "events", "--json")
        said = CliRunner().invoke(app, ["produce", str(tmp_path / "w1.yaml"), "events", "-"], input=lines)
        assert said.exit_code == 0, f"{said.output}{said.exception}"
        records = [(r.key, r.value, r.timestamp_ms) for r in made.read(made.config.events.topic)]
        assert records[3:] == records[:3]
        tried = json.loads(cli("try", tmp_path / "w1.yaml", lines.splitlines()[1]))
        assert (tried["becomes"], tried["event_id"], tried["features"]) == (
            "prediction", "v1", {"x": 0.1, "kind": "k"},
        )  # fmt: skip


def test_one_record_is_shown_decoded_whichever_topic_it_stands_in(kafka: str, app_id: str, tmp_path: Path) -> None:
    config = tmp_path / "w1.yaml"
    with service(tmp_path, kafka, app_id, partitions=2) as made:
        made.start()
        made.pairs(range(6))
        made.raw_visit(b'{"id": "a"}', partition=1, key=b"bad")
        made.wait_until_done()
        made.wait_for(lambda: len(tail(made, "training-log", "--last", "99", "--where", "kind=example")) == 6, "six")
        one = json.loads(cli("show", config, "events", "1:2"))
        assert (one["id"], one["x"]) == ("v5", 95.0)
        place = one["record"]
        assert (place["topic"], place["partition"], place["offset"], place["key"]) == (f"{app_id}-visits", 1, 2, "v5")
        assert json.loads(cli("show", config, f"{app_id}-visits", "1:2")) == one, "by its whole name, too"
        prediction = json.loads(cli("show", config, "predictions", "0:0"))
        assert (prediction["event_id"], prediction["event_topic"]) == ("v0", f"{app_id}-visits")
        assert "this is JSON" in json.loads(cli("show", config, "dead-letters", "1:0"))["message"]
        logged = tail(made, "training-log", "--last", "99", "--where", "event_id=v5")[0]["record"]
        entry = json.loads(cli("show", config, "training-log", f"0:{logged['offset']}"))
        assert entry["features"] == {"x": 95.0, "kind": "k2"} and entry["target"]["class_name"] == "true"
        assert (entry["event"]["id"], entry["event"]["note"]) == ("v5", None)
        assert "this is JSON" in json.loads(cli("show", config, "events", "1:3"))["unreadable"], (
            "a record that cannot be read says why"
        )


@pytest.fixture(scope="module")
def short(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An app whose topics hold one event and what became of it."""
    with service(tmp_path_factory.mktemp("short"), kafka, f"t{uuid.uuid4().hex[:8]}") as made:
        made.start()
        made.visit(0)
        made.wait_until_done()
        yield made


@pytest.mark.parametrize(
    ("topic", "place", "told"),
    [
        ("events", "0:99999", "there is no record at 0:99999: partition 0 of {app}-visits holds 0 to 1"),
        ("events", "7:0", "there is no record at 7:0: {app}-visits has no partition 7"),
        ("events", "17", "17 is no PARTITION:OFFSET"),
        ("events", "0:-1", "0:-1 is no PARTITION:OFFSET"),
        ("evnts", "0:0", "'evnts' is none of events, feedback, predictions, outcomes, dead-letters, signals"),
        ("predictions", "0:1", "there is no record at 0:1 of {app}-predictions: a transaction's marker"),
    ],
)
def test_a_place_without_a_record_is_named(short: Service, topic: str, place: str, told: str) -> None:
    assert told.format(app=short.config.app.id) in refused("show", short.folder / "w1.yaml", topic, place)

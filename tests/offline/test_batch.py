"""Batch scoring: each row as the service would score it, nothing half, and the same command goes on."""

import datetime
import json
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy
from pyarrow import parquet

from stream_ml.app.assemble import assemble
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.errors import ConfigError, FatalError
from stream_ml.offline.batch import sinks
from stream_ml.offline.batch.scoring import BatchScorer, Piece
from stream_ml.offline.batch.sinks import FileSink, TableSink, asked_of, work_of
from stream_ml.offline.local import LocalApp
from stream_ml.offline.rows import read_rows
from tests.support.rows_app import app, rows, written


def learned(folder: Path, count: int = 300) -> tuple[BatchScorer, LocalApp]:
    """A scorer with a model that has learned some, and the app in which it has."""
    local = LocalApp(app(folder))
    some = rows(count, seed=7)
    fields = ("id", "at", "x", "n", "kind", "note")
    local.predict_many([{name: row[name] for name in fields} for row in some])
    local.learn_many([{"id": row["id"], "at": row["at"], "y": row["y"]} for row in some])
    return BatchScorer(local.parts, local._replica.only), local


def pieces(scorer: BatchScorer, path: Path, skipped: int = 0) -> list[Piece]:
    return list(scorer.score_file(path, skipped))


def scored(some: list[Piece]) -> list[dict[str, Any]]:
    return [row for piece in some for row in piece.columns().to_pylist()]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "avro"])
def test_each_row_is_scored_as_the_service_scores_its_event(kind: str, tmp_path: Path) -> None:
    scorer, local = learned(tmp_path)
    some = [{**row, "id": f"b{number}"} for number, row in enumerate(rows(500, seed=9))]
    found = scored(pieces(scorer, written(tmp_path, some, kind)))
    fields = ("id", "at", "x", "n", "kind", "note")
    expected = local.predict_many([{name: row[name] for name in fields} for row in some])
    assert [one["event_id"] for one in found] == [one["event_id"] for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["class"] == other["class"] and one["score"] == pytest.approx(other["score"], rel=1e-12, abs=1e-12)
        assert one["flags"] == other["flags"] and one["event_time"] == other["event_time"]
    assert [one["row"] for one in found] == list(range(1, 501)) and scorer.left_out == {"y", "late"}


def test_columns_of_parquet_and_rows_of_json_become_the_same_bytes(tmp_path: Path) -> None:
    scorer, _ = learned(tmp_path, 10)
    some = rows(200, seed=2)
    of = {}
    for kind in ("jsonl", "parquet", "avro", "csv"):
        path = written(tmp_path, some, kind)
        encoded = [scorer._encoder.encode(path, 1, given) for given in read_rows(path)]
        of[kind] = [pair for one in encoded for pair in zip(one.keys, one.values, strict=True)]
    assert of["parquet"] == of["jsonl"] == of["avro"]
    assert len(of["csv"]) == 200


def test_rows_that_cannot_be_used_go_beside_the_result_with_their_reason(tmp_path: Path) -> None:
    scorer, _ = learned(tmp_path)
    some = rows(60)
    some[4]["x"], some[9]["id"], some[14]["kind"] = "much", "", None
    path = written(tmp_path, some, "jsonl")
    sink = FileSink(tmp_path / "out.parquet", work_of(asked_of([path], "", None), "v/1"))
    for piece in scorer.score_file(path):
        sink.take(path.name, piece)
    sink.finish()
    assert parquet.read_table(tmp_path / "out.parquet").num_rows == 57 == sink.done.predictions
    told = [json.loads(line) for line in (tmp_path / "out.parquet.refused.jsonl").read_text().splitlines()]
    assert [one["row"] for one in told] == [5, 10, 15] and all(one["why"] for one in told)
    assert told[0]["given"]["x"] == "much"


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_one_that_was_ended_in_the_middle_goes_on_and_gives_what_a_whole_one_gives(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "PART_ROWS", 100)
    scorer, _ = learned(tmp_path)
    some = rows(20_000)
    path = written(tmp_path, some, "jsonl")
    whole = FileSink(tmp_path / f"whole.{form}", work_of(asked_of([path], "", None), "v/1"))
    for piece in scorer.score_file(path):
        whole.take(path.name, piece)
    whole.finish()
    out = tmp_path / f"out.{form}"
    for ended_after in (1, 2, 99):
        sink = FileSink(out, work_of(asked_of([path], "", None), "v/1"))
        skipped = sink.done.upto.get(path.name, 0)
        for number, piece in enumerate(scorer.score_file(path, skipped)):
            if number == ended_after - 1 and ended_after < 99:
                sink.take(path.name, piece)
                break
            sink.take(path.name, piece)
        else:
            sink.finish()
        sink.close()  # as the end of its process does
        assert out.exists() is (ended_after == 99), "nothing half has the name"
    if form == "parquet":
        assert parquet.read_table(out).equals(parquet.read_table(tmp_path / "whole.parquet"))
    else:
        assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not (tmp_path / f".out.{form}.parts").exists()


def test_parts_of_other_files_or_another_version_are_not_gone_on_with(tmp_path: Path) -> None:
    scorer, _ = learned(tmp_path)
    path = written(tmp_path, rows(50), "jsonl")
    sink = FileSink(tmp_path / "out.parquet", work_of(asked_of([path], "", None), "abc/7"))
    for piece in scorer.score_file(path):
        sink.take(path.name, piece)
    sink._flush()
    with pytest.raises(ConfigError, match="another process writes"):
        FileSink(tmp_path / "out.parquet", work_of(asked_of([path], "", None), "abc/7"))
    sink.close()
    said = sinks.begun(tmp_path / "out.parquet")
    assert said is not None and said["version"] == "abc/7"
    with pytest.raises(ConfigError, match=r"(?s)version abc/7.*go on with --at abc/7"):
        FileSink(tmp_path / "out.parquet", work_of(asked_of([path], "", None), "abc/8"))
    os.utime(path, (1, 1))
    with pytest.raises(ConfigError, match="parts of another run"):
        FileSink(tmp_path / "out.parquet", work_of(asked_of([path], "", None), "abc/7"))
    (tmp_path / "there.parquet").write_text("")
    with pytest.raises(ConfigError, match="is there already"):
        FileSink(tmp_path / "there.parquet", {})
    with pytest.raises(ConfigError, match=r"neither \.parquet nor"):
        FileSink(tmp_path / "out.txt", {})


def test_a_table_is_upserted_by_the_id_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    scorer, _ = learned(tmp_path)
    some = rows(300)
    some[10]["id"] = some[200]["id"]  # one id twice: the later row stays
    path, url = written(tmp_path, some, "jsonl"), f"sqlite:///{tmp_path / 'p.db'}"
    found = []
    for _ in range(2):
        sink = TableSink(url, "predictions", tmp_path / "refused.jsonl")
        for piece in scorer.score_file(path):
            sink.take(path.name, piece)
        sink.finish()
        with sqlalchemy.create_engine(url).connect() as connection:
            found.append(connection.execute(sqlalchemy.text("select * from predictions order by event_id")).all())
    assert found[0] == found[1] and len(found[0]) == 299
    row = next(one for one in found[0] if one.event_id == some[200]["id"])
    assert row.row == 201


def test_a_database_that_cannot_be_used_is_told_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the database cannot be used") as caught:
        TableSink("postgresql://u:secret@127.0.0.1:1/db", "t", tmp_path / "r")
    assert "secret" not in str(caught.value)
    for url in ("nothing://x", "postgresql://u:pa@ss:w0rd@h/db", "mysql://u:w0rd@h/db"):
        with pytest.raises(ConfigError) as caught:
            TableSink(url, "t", tmp_path / "r")
        assert "w0rd" not in str(caught.value), caught.value
    with pytest.raises(ConfigError, match="names no table"):
        TableSink("sqlite://", "../../t", tmp_path / "r")


def test_a_table_that_is_another_one_is_said_and_the_same_command_helps(tmp_path: Path) -> None:
    scorer, _ = learned(tmp_path)
    path, url = written(tmp_path, rows(10), "jsonl"), f"sqlite:///{tmp_path / 'p.db'}"
    with sqlalchemy.create_engine(url).begin() as connection:
        connection.execute(sqlalchemy.text("create table predictions (event_id text primary key)"))
    sink = TableSink(url, "predictions", tmp_path / "r")
    with pytest.raises(FatalError, match="predictions could not be written"):
        sink.take(path.name, pieces(scorer, path)[0])


def test_a_cold_model_says_so_for_each_row(tmp_path: Path) -> None:
    config = app(tmp_path)
    parts = assemble(config)
    scorer = BatchScorer(parts, LineageModel(parts.fold_settings("l")))
    found = scored(pieces(scorer, written(tmp_path, rows(20), "parquet")))
    assert {one["flags"] for one in found} == {"cold"}


def test_a_time_of_parquet_in_another_unit_is_the_same_time(tmp_path: Path) -> None:
    scorer, _ = learned(tmp_path)
    some = rows(30)
    moments = [datetime.datetime.fromtimestamp(row["at"] / 1000, datetime.UTC) for row in some]
    expected = [one["event_time"] for one in scored(pieces(scorer, written(tmp_path, some, "jsonl")))]
    for unit in ("s", "us", "ns"):
        table = pa.Table.from_pylist(some)
        times = pa.array(moments, pa.timestamp("us", "UTC")).cast(pa.timestamp(unit, "UTC"))
        parquet.write_table(table.set_column(table.schema.get_field_index("at"), "at", times), tmp_path / "t.parquet")
        assert [one["event_time"] for one in scored(pieces(scorer, tmp_path / "t.parquet"))] == expected


def test_a_refused_file_of_an_earlier_run_does_not_stay_beside_a_result_without_one(tmp_path: Path) -> None:
    scorer, _ = learned(tmp_path)
    path = written(tmp_path, rows(20), "jsonl")
    (tmp_path / "out.parquet.refused.jsonl").write_text("of before\n")
    sink = FileSink(tmp_path / "out.parquet", work_of(asked_of([path], "", None), "v/1"))
    for piece in scorer.score_file(path):
        sink.take(path.name, piece)
    sink.finish()
    assert not (tmp_path / "out.parquet.refused.jsonl").exists()


# --- one bad row is refused, and costs no other ---


def refused(folder: Path, path: Path) -> dict[int, str]:
    scorer, _ = learned(folder, 10)
    found = pieces(scorer, path)
    told = {one.number: one.why for piece in found for one in piece.refused}
    for piece in found:
        for one in piece.refused:
            json.dumps(one.plain(), default=str, allow_nan=False)
    count = sum(len(piece.taken) for piece in found)
    assert count + len(told) == 20, (count, told)
    return told


def test_lines_that_are_no_json_too_long_or_nested_are_refused_with_their_own_number(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in rows(20)]
    lines[3], lines[5], lines[7] = "{nothing", "[" * 200_000, json.dumps({**rows(8)[7], "kind": "k" * (2**20 + 5)})
    lines[9] = '{"id": "\xff"'
    lines.insert(2, "")  # what is empty is no row, and has a number
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8", errors="surrogatepass")
    told = refused(tmp_path, path)
    assert set(told) == {5, 7, 9, 11}, told
    assert "no JSON" in told[5] and "no JSON" in told[9]


def test_what_parquet_can_hold_and_no_event_is_refused_row_by_row(tmp_path: Path) -> None:
    some = rows(20)
    table = pa.Table.from_pylist(some)
    texts = pa.array([row["kind"].encode() for row in some], pa.binary())
    raw = texts.to_pylist()
    raw[4] = b"\xff\xfe"
    for name, column, bad in (
        ("binary", pa.array(raw, pa.binary()), {5}),
        ("number", pa.array([1.5] * 20), set(range(1, 21))),
        ("date", pa.array([datetime.date(2026, 1, 1)] * 20), set(range(1, 21))),
    ):
        path = tmp_path / f"{name}.parquet"
        parquet.write_table(table.set_column(table.schema.get_field_index("kind"), "kind", column), path)
        assert set(refused(tmp_path / name, path)) == bad, name
    counts = pa.array([float("nan") if n == 3 else 2.0 for n in range(20)])
    parquet.write_table(table.set_column(table.schema.get_field_index("n"), "n", counts), tmp_path / "nan.parquet")
    assert 4 in refused(tmp_path / "nan", tmp_path / "nan.parquet")
    far = pa.array([2**60 if n == 6 else row["at"] for n, row in enumerate(some)], pa.timestamp("ms", "UTC"))
    parquet.write_table(table.set_column(table.schema.get_field_index("at"), "at", far), tmp_path / "far.parquet")
    assert set(refused(tmp_path / "far", tmp_path / "far.parquet")) == {7}


def test_a_line_of_csv_with_another_number_of_values_is_refused_alone(tmp_path: Path) -> None:
    path = written(tmp_path, rows(20), "csv")
    lines = path.read_text().splitlines()
    lines[4] += ",more"
    lines[9] = "one"
    path.write_text("\n".join(lines) + "\n")
    assert set(refused(tmp_path, path)) == {4, 9}


def test_bytes_of_a_parquet_text_are_the_text(tmp_path: Path) -> None:
    scorer, _ = learned(tmp_path)
    some = rows(40)
    expected = scored(pieces(scorer, written(tmp_path, some, "jsonl")))
    table = pa.Table.from_pylist(some)
    for name in ("id", "kind"):
        column = pa.array([row[name].encode() for row in some], pa.binary())
        table = table.set_column(table.schema.get_field_index(name), name, column)
    parquet.write_table(table, tmp_path / "b.parquet")
    found = scored(pieces(scorer, tmp_path / "b.parquet"))
    assert [(one["event_id"], one["score"]) for one in found] == [(one["event_id"], one["score"]) for one in expected]


def test_a_file_of_many_row_groups_is_read_in_little_memory(tmp_path: Path) -> None:
    """Read as one, every group that was read stayed in memory: a file of 12 GB ended a process that had 1."""
    path, count = tmp_path / "rows.parquet", 40
    table = pa.table({f"x{n}": np.random.default_rng(n).normal(size=20_000) for n in range(12)})
    with parquet.ParquetWriter(path, table.schema) as writer:
        for _ in range(count):
            writer.write_table(table)
    group = path.stat().st_size / count
    before, most, read = pa.total_allocated_bytes(), 0, 0
    for given in read_rows(path):
        read += len(given)
        most = max(most, pa.total_allocated_bytes() - before)
    assert read == 20_000 * count and most < 8 * group


@pytest.mark.parametrize("room", [200_000, 1_500_000])  # of a part of 20,000 rows, and of the whole
def test_a_disk_that_takes_no_more_leaves_nothing_half_and_the_same_work_goes_on(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "PART_ROWS", 20_000)
    scorer, _ = learned(tmp_path)
    path, out = written(tmp_path, rows(80_000), "parquet"), tmp_path / "out.parquet"

    def work() -> int:
        """Score what is not done; how many rows were."""
        sink = FileSink(out, work_of(asked_of([path], "", None), "v/1"))
        before = sink.done.rows
        try:
            for piece in scorer.score_file(path, sink.done.upto.get(path.name, 0)):
                sink.take(path.name, piece)
            sink.finish()
        finally:
            sink.close()
        return before

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        for _ in range(2):
            with pytest.raises(OSError, match=r"(?i)file too large"):
                work()
            assert not out.exists() and not list(tmp_path.glob("out.parquet*")), "nothing half has a name"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert work() == (80_000 if room > 1_000_000 else 0)
    assert parquet.read_table(out).num_rows == 80_000
    assert len(set(parquet.read_table(out).column("event_id").to_pylist())) == 80_000

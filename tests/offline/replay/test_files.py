"""Replay of files: River's scores to the bit whatever the file, and what is refused is told."""

import contextlib
import datetime
import json
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from river import evaluate, metrics, stream

from stream_ml.app.assemble import assemble
from stream_ml.core.log.identity import NO_LOG
from stream_ml.errors import ConfigError
from stream_ml.offline.replay.from_files import Columns, FromFiles, tape_of_files
from stream_ml.offline.replay.river_score import progressive_val_score
from stream_ml.offline.replay.run import Ran, Said, run
from stream_ml.offline.replay.specs import Spec, plans_of, spec_of, spec_of_file
from stream_ml.offline.rows import FileRefused, read_rows
from tests.support.rows_app import EVENT, app, module_of, rows, written

TASKS = ("binary", "multiclass", "regression")
DELAYS: dict[str, Any] = {"at once": None, "constant": 40_000, "field": "late"}


def replayed(folder: Path, specs: list[Spec], files: list[Path], delay: Any) -> tuple[FromFiles, dict[str, Ran]]:
    """The tape of files, and what each model says of it; in files beside it."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    recipes, plans = plans_of(specs)
    first = recipes[0].settings
    settings = [one.settings._replace(payloads=first.payloads) for one in recipes]
    read = tape_of_files(specs[0].recipe.parts, settings, files, Columns("y", delay), work)
    ran = {}
    for spec in specs:
        own = spec.recipe.settings._replace(payloads=first.payloads)
        ran[spec.name] = run(read.tape, plans[spec.name], own, work / f"{spec.name}.npy")
    return read, ran


def said(folder: Path, name: str) -> Said:
    """What a model said."""
    return Said.of(np.load(folder / "work" / f"{name}.npy"))


def features_of(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("x", "n", "kind")}


def with_river(build: Any, task: str, some: list[dict[str, Any]], delay: Any) -> tuple[list[Any], Any]:
    """What River alone says of each row, and its metric."""
    began = datetime.datetime(1970, 1, 1)  # noqa: DTZ001
    moments = {row["id"]: began + datetime.timedelta(milliseconds=row["at"]) for row in some}
    dataset = [({**features_of(row), "_id": row["id"]}, row["y"]) for row in some]
    late = {row["id"]: datetime.timedelta(seconds=row["late"]) for row in some}
    given: Any = {
        "at once": datetime.timedelta(0),
        "constant": datetime.timedelta(seconds=40),
        "field": lambda x, _: late[x["_id"]],
    }[delay]
    metric: Any = {"binary": metrics.LogLoss, "multiclass": metrics.CrossEntropy, "regression": metrics.MAE}[task]()
    model, answers = build(), {}
    order = []
    for number, x, y in stream.simulate_qa(dataset, lambda x: moments[x["_id"]], given):
        own = {name: value for name, value in x.items() if name != "_id"}
        if y is None:
            answers[number] = model.predict_one(own) if task == "regression" else model.predict_proba_one(own)
        else:
            order.append(number)
            if answers[number] not in (None, {}):
                metric.update(y, answers[number])
            model.learn_one(own, y)
    return [(number, answers[number]) for number in order], metric


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("task", TASKS)
def test_scores_are_rivers_to_the_bit(task: str, delay: str, tmp_path: Path) -> None:
    config, some = app(tmp_path, task), rows(1_500, task)
    spec = spec_of("own", assemble(config), NO_LOG)
    read, ran = replayed(tmp_path, [spec], [written(tmp_path, some, "jsonl")], DELAYS[delay])
    theirs, metric = with_river(spec.recipe.settings.build, task, some, delay)
    ours, classes = said(tmp_path, "own"), spec.recipe.settings.domain.classes
    assert ran["own"].examples_learned == len(some) and not ran["own"].halted and not read.refused
    ys = read.tape.facts().column("y").to_pylist()
    for place, (number, answer) in enumerate(theirs):
        if answer in (None, {}):
            assert np.isnan(ours.said[place])
        elif task == "regression":
            assert ours.said[place] == answer and ys[place] == some[number]["y"]
        elif task == "binary":
            assert ours.probability[place] == answer[True] and bool(ys[place]) is some[number]["y"]
        else:
            assert ours.probability[place] == answer.get(some[number]["y"], 0.0) and ys[place] == some[number]["y"]
            assert classes[int(ours.said[place])] == max(sorted(answer), key=lambda name: answer[name])
    if task == "binary":  # River's own metric, fed from the tape, to the last digit
        again = metrics.LogLoss()
        for y, probability in zip(ys, ours.probability, strict=True):
            if not np.isnan(probability):
                again.update(bool(y), {True: probability, False: 1 - probability})
        assert again.get() == metric.get()


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "avro"])
def test_every_kind_of_file_gives_the_same_bits(kind: str, tmp_path: Path) -> None:
    config, some = app(tmp_path), rows(600)
    specs = [spec_of("own", assemble(config), NO_LOG)]
    replayed(tmp_path, specs, [written(tmp_path, some, "jsonl")], "late")
    expected = said(tmp_path, "own")
    read, _ = replayed(tmp_path, specs, [written(tmp_path, some, kind)], "late")
    assert not read.refused and read.tape.examples == 600
    for one, other in zip(expected, said(tmp_path, "own"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_models_with_plans_of_their_own_say_what_each_says_alone(tmp_path: Path) -> None:
    config, some = app(tmp_path), rows(900)
    module = module_of(config)
    (tmp_path / "few.yaml").write_text(
        json.dumps({"model": {"factory": f"{module}:scaled"}, "features": {"include": ["x", "n"]}})
    )
    (tmp_path / "trees.yaml").write_text(json.dumps({"model": {"factory": f"{module}:trees"}}))
    file = written(tmp_path, some, "parquet")
    specs = [spec_of("own", assemble(config), NO_LOG)]
    specs += [spec_of_file(config, tmp_path / f"{name}.yaml", NO_LOG) for name in ("few", "trees")]
    assert len(plans_of(specs)[0]) == 2
    _, together = replayed(tmp_path, specs, [file], 40_000)
    found = {spec.name: said(tmp_path, spec.name) for spec in specs}
    for spec in specs:
        _, alone = replayed(tmp_path, [spec], [file], 40_000)
        assert alone[spec.name].bits == together[spec.name].bits
        for one, other in zip(found[spec.name], said(tmp_path, spec.name), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_linear_model_is_scored_as_columns_with_the_bits_of_one_by_one(tmp_path: Path) -> None:
    """Many events at one moment: they are asked about together."""
    config = app(tmp_path, features={"include": ["x", "n"]})
    module = module_of(config)
    some = [{**row, "at": row["at"] // 100_000 * 100_000} for row in rows(2_000)]
    (tmp_path / "few.yaml").write_text(json.dumps({"model": {"factory": f"{module}:scaled"}}))
    spec = spec_of_file(config, tmp_path / "few.yaml", NO_LOG)
    read, _ = replayed(tmp_path, [spec], [written(tmp_path, some, "parquet")], 40_000)
    dataset = [({"x": row["x"], "n": row["n"], "at": row["at"]}, row["y"]) for row in some]
    model = spec.recipe.settings.build()
    answers = {}
    for number, x, y in stream.simulate_qa(dataset, "at", 40_000):
        own = {"x": x["x"], "n": x["n"]}
        if y is None:
            answers[number] = model.predict_proba_one(own)[True]
        else:
            model.learn_one(own, y)
    np.testing.assert_array_equal(said(tmp_path, "few").probability, np.array([answers[n] for n in range(len(some))]))
    assert read.tape.examples == len(some)


def test_rows_that_cannot_be_used_are_told_with_their_number_and_the_others_count(tmp_path: Path) -> None:
    config, some = app(tmp_path), rows(50)
    bad: list[tuple[int, dict[str, Any], str]] = [
        (3, {"x": "much"}, "x is 'much'"),
        (7, {"y": "maybe"}, "the label 'maybe' is none of"),
        (11, {"late": None}, "late is None"),
        (13, {"id": ""}, "the id is"),
        (17, {"n": 2**70}, "64 bits"),
    ]
    for number, change, _ in bad:
        some[number - 1] = {**some[number - 1], **change}
    read, ran = replayed(
        tmp_path, [spec_of("own", assemble(config), NO_LOG)], [written(tmp_path, some, "jsonl")], "late"
    )
    assert [(one.number, True) for one in sorted(read.refused, key=lambda one: one.number)] == [
        (n, True) for n, _, _ in bad
    ]
    for one, (_, _, words) in zip(sorted(read.refused, key=lambda one: one.number), bad, strict=True):
        assert words in one.why, one
    assert read.tape.examples == 45 == ran["own"].examples_learned


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.parquet", b"PAR1 no parquet", "cannot be read as parquet"),
        ("rows.csv", b"id,at,x\n1,2\n", "no row of rows.csv can be used: it has more or fewer values"),
        ("rows.jsonl", b'nothing\n{"id": 1}\n', "no row of rows.jsonl can be used: it is no JSON"),
        ("rows.avro", b"no avro", "cannot be read as avro"),
        ("rows.txt", b"", "is none of .parquet"),
        ("rows.csv", b"", "no row of rows.csv can be used"),
        ("rows.jsonl", b'{"id": "1", "at": 0, "x": 1.0, "n": 1, "kind": "a"}\n', "there is no column y"),
    ],
)
def test_a_file_that_is_none_is_told_in_one_sentence(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    config = app(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        replayed(tmp_path, [spec_of("own", assemble(config), NO_LOG)], [tmp_path / name], None)


def test_rivers_own_function_and_ours_give_one_number_with_delays() -> None:
    some = rows(800)
    dataset = [({"x": row["x"], "n": row["n"], "at": row["at"], "late": row["late"]}, row["y"]) for row in some]
    from river import linear_model, preprocessing

    def model() -> Any:
        return preprocessing.StandardScaler() | linear_model.LogisticRegression()

    theirs = evaluate.progressive_val_score(dataset, model(), metrics.LogLoss(), moment="at", delay="late")
    assert progressive_val_score(dataset, model(), metrics.LogLoss(), "at", "late").get() == theirs.get()


def test_labels_at_once_come_right_behind_their_events_also_where_times_run_backwards(tmp_path: Path) -> None:
    config, some = app(tmp_path), rows(300)[::-1]
    spec = spec_of("own", assemble(config), NO_LOG)
    read, _ = replayed(tmp_path, [spec], [written(tmp_path, some, "jsonl")], None)
    assert read.tape.positions().tolist() == list(range(300))


@pytest.mark.parametrize("late", [1_600_000_000_000, 10**18, -(10**12)])
def test_a_delay_that_is_a_time_is_refused_and_never_taken_for_seconds(late: int, tmp_path: Path) -> None:
    config, some = app(tmp_path), [{**row, "late": late} for row in rows(30)]
    with pytest.raises(ConfigError, match="more than ten years: write a time as ISO 8601"):
        replayed(tmp_path, [spec_of("own", assemble(config), NO_LOG)], [written(tmp_path, some, "jsonl")], "late")


def test_what_rivers_function_takes_and_ours_does_not_is_refused() -> None:
    from river import active, linear_model

    dataset = [({"x": 1.0}, True, {"w": 2.0})]
    with pytest.raises(ValueError, match="arguments of its own"):
        progressive_val_score(dataset, linear_model.LogisticRegression(), metrics.Accuracy())
    learner = active.EntropySampler(linear_model.LogisticRegression(), seed=1)
    with pytest.raises(ValueError, match="active learners"):
        progressive_val_score(dataset, learner, metrics.Accuracy())


@pytest.mark.parametrize("at", [3, 40, 120, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_an_avro_file_that_is_damaged_anywhere_is_told_in_one_sentence(at: float, codec: str, tmp_path: Path) -> None:
    """Whatever the reader raises: it is of this file, and ends nothing else."""
    path = tmp_path / "rows.avro"
    with path.open("wb") as file:
        schema = {**EVENT, "fields": EVENT["fields"]}
        fastavro.writer(
            file, schema, [{k: v for k, v in row.items() if k not in ("y", "late")} for row in rows(500)], codec
        )
    whole = path.read_bytes()
    place = int(at * len(whole)) if at < 1 else int(at)
    for damaged in (whole[:place], whole[:place] + bytes(8) + whole[place + 8 :], whole[:place] + b"\xff" * 9):
        path.write_bytes(damaged)
        with contextlib.suppress(FileRefused):  # where the damage is a value of a row
            assert sum(map(len, read_rows(path))) <= 500

"""The demo's poisoned day: its labels are flipped, found, and left out by a rollback while flights come. Then four
models are replayed on the last months, and the one that serves is compared with one that never saw that day."""

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from stream_ml.app.assemble import assemble
from stream_ml.config import Config
from stream_ml.core.fold.batches import FoldSettings, Run
from stream_ml.core.fold.book import Book
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.model.selection import EVERYTHING, Selection
from stream_ml.demo.flights import Item
from stream_ml.errors import FatalError
from stream_ml.follower.past.judged import judged_entries
from stream_ml.follower.past.logged_models import LoggedModels
from stream_ml.follower.recipes import Recipes

DAY, NEXT = "2013-10-10T04:00:00Z", "2013-10-11T04:00:00Z"  # midnight in New York
SCORE_FROM = "2013-10-01T04:00:00Z"
DAY_MS, NEXT_MS = (int(datetime.fromisoformat(text).timestamp() * 1000) for text in (DAY, NEXT))
AFTER_MS = 10 * 86_400_000  # until it is noticed
WAIT_MAX_S = 300.0
OTHERS: dict[str, dict[str, Any]] = {
    "trees": {"model": {"factory": "river.tree:HoeffdingTreeClassifier", "params": {"grace_period": 500}}},
    "shallow": {
        "model": {"factory": "river.tree:HoeffdingTreeClassifier", "params": {"grace_period": 2000, "max_depth": 4}}
    },
    "bayes": {
        "model": {"factory": "river.naive_bayes:GaussianNB", "params": {}},
        "features": {"include": ["distance", "hour", "month", "weekday"]},
    },
}


def poisoned(items: list[Item]) -> list[Item]:
    """The flights, of which those that land on DAY are told wrongly."""
    return [_flipped(item) if item.kind == "label" and DAY_MS <= item.time_ms < NEXT_MS else item for item in items]


def _flipped(item: Item) -> Item:
    return item._replace(values={**item.values, "late": not item.values["late"]})


class RolledBack:
    """Rolls back while flights are played, once the poisoned day is some days ago; its output is kept."""

    def __init__(self, file: Path, items: list[Item]) -> None:
        self._file, self._at = file, sum(item.time_ms < NEXT_MS + AFTER_MS for item in items)
        self._serves_by = (self._at + len(items)) // 2  # flights wait until the other model serves
        self._thread: threading.Thread | None = None
        self.said, self.code = "", -1

    def progress(self, done: int) -> None:
        """So many records are played."""
        if self._thread is None and done >= self._at:
            self._thread = threading.Thread(target=self._roll_back, name="rollback")
            self._thread.start()
        elif self.code < 0 and done >= self._serves_by:
            self.wait()

    def _roll_back(self) -> None:
        where = f"label_time>={DAY} and label_time<{NEXT}"
        done = _verb("rollback", str(self._file), "--where", where, "--why", "labels of a day were flipped")
        self.said, self.code = done.stdout + done.stderr, done.returncode

    def wait(self) -> None:
        """Until it is done; FatalError where it failed, or never came."""
        if self._thread is not None:
            self._thread.join(WAIT_MAX_S)
        if self.code != 0:
            raise FatalError(f"the rollback ended with {self.code}: {self.said[-1_000:]}")


def _verb(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "stream_ml", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def past_report(config: Config, file: Path, out: Path) -> dict[str, Any]:
    """What a replay says, and whether the model that serves is one that never saw the day.

    Parameters
    ----------
    out
        Folder for the report.
    """
    log = LoggedModels(config)
    recipes = Recipes(assemble(config), log.facts, log.seal)
    serving = log.roles.table.lineage
    recipe = recipes.of(serving, log.roles.declared[serving])
    if isinstance(recipe, str):
        raise FatalError(f"the model that serves cannot be built: {recipe}")
    selection = recipe.parts.selection
    for name, said in OTHERS.items():
        (file.parent / f"{name}.yaml").write_text(yaml.safe_dump(said), "utf-8")
    first = log.roles.declared[log.roles.table.before].name
    whole = _replayed(file, "--model", first)
    words = [word for name in OTHERS for word in ("--spec", str(file.parent / f"{name}.yaml"))]
    named = log.roles.declared[serving].name
    compared = _replayed(file, "--model", named, *words, "--score-from", SCORE_FROM, "--out", str(out))
    briers = {one["name"]: round(one["measures"]["brier"], 5) for one in compared["specs"]}
    champion = next(one for one in whole["specs"] if one["name"] == first)
    own = next(one for one in compared["specs"] if one["name"] == named)
    pairs = {
        one["first"]: [one["decision"], round(one["low"], 5), round(one["high"], 5)]
        for one in compared["pairs"]
        if one["low"] is not None
    }
    return {
        "poisoned_left_out": selection.left_out,
        "same_as_one_that_never_saw_it": _bits(log, recipes.fresh(recipe), EVERYTHING)
        == _bits(log, recipes.fresh(recipe)._replace(selection=EVERYTHING), selection),
        "champion_equal": champion["equal_to_served"],
        "rolled_back_equal": own["equal_to_served"],
        "brier": briers,
        "against_served": pairs,
        "replay_seconds": round(whole["took_seconds"] + compared["took_seconds"], 1),
    }


def _replayed(file: Path, *words: str) -> dict[str, Any]:
    done = _verb("replay", str(file), *words, "--json")
    if done.returncode != 0:
        raise FatalError(f"the replay ended with {done.returncode}: {done.stderr[-1_000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _bits(log: LoggedModels, settings: FoldSettings, by_hand: Selection) -> Any:
    """Probe bits of a model that is given the log but for the examples that are left out by hand."""
    book, model = Book(settings), LineageModel(settings)
    for judged in judged_entries(log.config, settings, book, log.position, log.seal):
        for one in judged:
            if by_hand == EVERYTHING or not one.learns:
                model.fold([one])
                continue
            for item in _kept(one.item, by_hand):
                model.fold([one._replace(item=item)])
    return model.probe_bits(), model.examples_learned


def _kept(item: Any, by_hand: Selection) -> list[Any]:
    """Examples one by one, without those that are left out."""
    singles = list(item.singles()) if isinstance(item, Run) else [item]
    return [single for single in singles if not by_hand.excludes(single.record.offset)]


def past_words(result: dict[str, Any]) -> str:
    """The outcome for people."""
    same, of = result["champion_equal"]
    against = "; ".join(
        f"{name} {decision} [{low:+.4f}, {high:+.4f}]"
        for name, (decision, low, high) in sorted(result["against_served"].items())
    )
    never = "the same as" if result["same_as_one_that_never_saw_it"] else "ANOTHER ONE than"
    return (
        f"labels of {datetime.fromtimestamp(DAY_MS / 1000, UTC).date()} were flipped: {result['poisoned_left_out']:,} "
        f"examples are left out by a rollback under load, and the model is {never} one that never saw them\n"
        f"replayed: the first model says what it has served in {same:,} of {of:,}; against what was served from "
        f"October on (Brier score, 95 % at all times): {against}"
    )

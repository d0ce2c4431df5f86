"""What a status says of the models of a worker: who answers, who serves by the log, who stands by and how far it is."""

import time

from stream_ml.config import Config
from stream_ml.core.fold.halt import Halt
from stream_ml.core.fold.lineage_model import LineageModel
from stream_ml.core.fold.way_out import way_out
from stream_ml.follower.follower import Follower
from stream_ml.observe.status import HaltStatus, ModelLine, ModelsStatus, ModelStatus


class ModelsOfNow:
    """The models of one worker."""

    def __init__(self, config: Config, follower: Follower) -> None:
        self._config, self._follower = config, follower
        self._superseded_s: float | None = None  # since when (monotonic clock)

    def model(self) -> ModelStatus:
        """The one that answers."""
        follower = self._follower
        model, halt = follower.serving.model, follower.halt
        size = follower.checkpoints.size(model.settings.lineage)
        return {
            "lineage": model.settings.lineage,
            "position": model.position,
            "examples_learned": model.examples_learned,
            "examples_dropped": follower.book.dropped,
            "examples_far": model.model.far.count,
            "lag_seconds": round(follower.lag_s, 1),
            "cost": follower.cost.report(),
            "bytes": size.bytes,
            "bytes_max": size.most,
            "halted": _halted(halt),
            "frozen": model.frozen,
            "checkpoints_sealed": follower.checkpoints.sealed,
            "cold_below": self._config.quality.cold_below,
        }

    def models(self) -> ModelsStatus:
        """All that the log names, and what this worker has of them."""
        follower, roles = self._follower, self._follower.book.facts.roles
        serving, wanted = follower.serving, follower.lineup.wanted
        now_s = time.monotonic()
        self._superseded_s = (self._superseded_s or now_s) if serving.superseded else None
        lineages = dict.fromkeys([*wanted, *roles.declared, serving.model.settings.lineage])
        since_s = 0.0 if self._superseded_s is None else now_s - self._superseded_s
        return {
            "epoch": roles.table.epoch,
            "serves": wanted[0],
            "answers": serving.model.settings.lineage,
            "superseded_seconds": round(since_s, 1),
            "refused": roles.refused,
            "log_end": follower.replica.read_position,
            "lines": [self._line(lineage, wanted) for lineage in lineages],
        }

    def _line(self, lineage: str, wanted: list[str]) -> ModelLine:
        follower, roles = self._follower, self._follower.book.facts.roles
        lineup, known = follower.lineup, roles.declared.get(lineage)
        chase = lineup.chasing.get(lineage)
        model: LineageModel | None = lineup.head.models.get(lineage) or (chase.model if chase is not None else None)
        retired = known is not None and known.retired
        role = (
            "serves" if lineage == wanted[0] else "retired" if retired else "standby" if lineage in wanted else "known"
        )
        left_s = chase.left_s(follower.replica.read_position) if chase is not None else None
        found: ModelLine = {
            "lineage": lineage,
            "name": known.name if known is not None else "",
            "role": role,
            "ready": lineage in lineup.head.models,
            "position": model.position if model is not None else None,
            "examples_learned": model.examples_learned if model is not None else None,
            "left_seconds": None if left_s is None else round(left_s, 1),
            "halted": _halted(model.halt) if model is not None else None,
            "problem": lineup.unbuildable.get(lineage, ""),
            "declared_by": known.by if known is not None else "",
            "declared_ms": known.at_ms if known is not None else None,
            "told": "",
        }
        answers = lineage == lineup.answers and lineage != wanted[0]
        return {**found, "told": _told(found, roles.table.epoch, follower.replica.read_position, answers=answers)}

    def warnings(self, models: ModelsStatus) -> list[str]:
        """What is wrong with them as `models` has found them, in words with what to type."""
        follower = self._follower
        found = [text for text in (follower.recipes.problem, follower.take_over.problem) if text]
        if follower.serving.model.settings.plan is not follower.recipes.own.settings.plan:
            found.append("the drift of inputs is not watched: the model that answers has other features")
        by = {line["lineage"]: line for line in models["lines"]}
        wanted, answers = by[models["serves"]], by[models["answers"]]
        if models["superseded_seconds"] > self._config.models.grace / 1000:
            what = f"model {_named(wanted)} serves by the log and is not ready here, {_named(answers)} answers"
            how = f"for {models['superseded_seconds']:.0f} s: predictions are flagged superseded"
            found.append(f"{what} {how} -> stream-ml models ls CONFIG")
        for line in models["lines"]:
            if line["problem"]:
                found.append(
                    f"model {_named(line)} cannot be had here: {line['problem']} -> stream-ml models ls CONFIG"
                )
            elif line["halted"] is not None and line["lineage"] != models["answers"]:
                at, why = line["halted"]["position"], line["halted"]["reason"]
                found.append(f"model {_named(line)} is halted at {at}, {why} -> {line['halted']['suggestion']}")
        return found


def _told(line: ModelLine, epoch: int, end: int, *, answers: bool) -> str:
    """What one model does, and how far it is where it is behind."""
    told = f"serves, epoch {epoch:,}" if line["role"] == "serves" and epoch else line["role"]
    if answers:
        told += ", answers here meanwhile (superseded)"
    if line["problem"]:
        return f"{told}, cannot be had here: {line['problem']}"
    if line["halted"] is not None:
        return f"{told}, halted at {line['halted']['position']:,}"
    if line["ready"]:
        return told if line["role"] == "serves" else f"{told}, ready"
    if line["position"] is None:
        return told
    left = f", about {line['left_seconds']:,.0f} s left" if line["left_seconds"] is not None else ""
    return f"{told}, learns: at {line['position']:,} of {end:,}{left}"


def _named(line: ModelLine) -> str:
    return f"{line['name']} ({line['lineage']})" if line["name"] else line["lineage"]


def _halted(halt: Halt | None) -> HaltStatus | None:
    if halt is None:
        return None
    return {
        "position": halt.position,
        "reason": halt.reason,
        "why": halt.message,
        "suggestion": way_out(halt.reason, halt.position),
    }

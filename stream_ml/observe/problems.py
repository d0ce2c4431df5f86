"""What is wrong with a worker, in words, the worst first: for the page, for ``stream-ml top``, for automation."""

from collections.abc import Iterator
from typing import Any

from stream_ml.observe.status import FORMAT, AnyStatus, FirstBacklog, Problem, Share, Starting, Status

_ORDER = {"critical": 0, "warning": 1, "info": 2}


def printable(text: str) -> str:
    """Text without what would steer a terminal: it may come out of anybody's record."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def all_printable(value: Any) -> Any:
    """A JSON value in which every text is printable, names too: what another process has sent."""
    if isinstance(value, dict):
        return {printable(str(name)): all_printable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [all_printable(inner) for inner in value]
    return printable(value) if isinstance(value, str) else value


def watched(subject: str) -> str:
    """A subject of input drift: the score, or a feature."""
    return "the distribution of scores" if subject == "score" else f"feature {subject.partition(':')[2]}"


def problems(status: AnyStatus) -> list[Problem]:
    """Each with `severity`, `text` and `suggestion`, a command or empty; nothing where all is well."""
    return sorted(_problems(status), key=lambda one: _ORDER[one["severity"]])


def _problems(status: AnyStatus) -> Iterator[Problem]:
    for reason in status["reasons"]:
        yield _problem("warning", f"not ready: {reason}")
    if "model" not in status:
        return
    halted = status["model"]["halted"]
    if halted is not None:
        text = (
            f"learning is halted at {halted['position']}, {halted['reason']}: {halted['why']}. Scoring goes on, flagged"
        )
        yield _problem("critical", text, halted["suggestion"])
    for warning in status["warnings"]:
        text, _, suggestion = warning.partition(" -> ")
        yield _problem("warning", text, suggestion)
    learned, needed = status["model"]["examples_learned"], status["model"]["cold_below"]
    if learned < needed:
        text = f"the model is cold: it has learned {learned} of {needed} examples, and says so with each prediction"
        yield _problem("info", text, "stream-ml tail CONFIG feedback")
    if not status["model"]["checkpoints_sealed"]:
        text = "checkpoints are not sealed: who may write to their directory may change the model"
        yield _problem("info", text, "stream-ml check CONFIG")
    for name, of in status["watch"].items():
        if of["share"] is not None and of["share"] > of["max"]:
            yield _problem("warning", *share_words(name, of))
    backlog = status["first_backlog"]
    if backlog["left"]:
        yield _problem("info", backlog_words(backlog), "stream-ml replay CONFIG --topics")
    yield from _of_quality(status)
    for subject, found in status["drift"]["subjects"].items():
        if found["drifted"]:
            text = f"{watched(subject)} has moved away from its reference (index {found['psi']:.2f})"
            yield _problem("warning", text, "stream-ml rebaseline CONFIG")


def starting(app: str, instance: str, reasons: list[str]) -> Starting:
    """The status of a worker that is not there yet."""
    found = Starting(
        format=FORMAT, app=app, instance=instance, state="starting", ready=False, reasons=reasons, problems=[]
    )
    found["problems"] = problems(found)
    return found


def backlog_words(backlog: FirstBacklog) -> str:
    """What is done in a first backlog, and what is not."""
    done = backlog["events"] - backlog["left"]
    return (
        f"the first backlog: {done:,} of {backlog['events']:,} events that lay there at the first start are scored; "
        "drift, quality and missing labels are told of what comes after"
    )


def share_words(name: str, of: Share) -> tuple[str, str]:
    """What a share of the last records that is too large means, and the command that shows more."""
    share, met = f"{100 * (of['share'] or 0.0):.0f} % of the last {of['of']:,}", of["of"] - of["count"]
    labels = "stream-ml tail CONFIG outcomes --where outcome="
    if 2 * of.get("passed", 0) > of["count"]:
        return (
            f"{share} labels came when the time of their partition had passed them by: events were loaded before their "
            "labels? Load both files at once",
            "stream-ml produce CONFIG events EVENTS --labels LABELS",
        )
    return {
        "duplicates": (
            f"{share} events have an id that came before: they are scored and never learned; "
            "is events.id the id of one event?",
            "stream-ml tail CONFIG events",
        ),
        "too_old": (
            f"{share} events are older than feedback.ttl when they come: no label can join them",
            "stream-ml tail CONFIG events",
        ),
        "orphans": (
            f"{share} labels found no event: do events.id and feedback.id hold the same ids, "
            "and have both topics the same keys and partitioner?",
            f"{labels}orphan",
        ),
        "late": (f"{share} labels came later than feedback.ttl: nothing is learned from them", f"{labels}late"),
        "waiting": (
            f"{of['count']:,} labels wait for their event, and {met:,} of the last {of['of']:,} have met it: "
            "do events.id and feedback.id hold the same ids?",
            "stream-ml tail CONFIG feedback",
        ),
    }[name]


def _of_quality(status: Status) -> Iterator[Problem]:
    concept = status["concept"]
    if concept["below_baseline"]:
        text = "a guess that knows only the labels' frequencies does better than what is served"
        yield _problem("critical", text, "stream-ml tail CONFIG training-log")
    if concept["drifted"]:
        text = (
            f"the loss has risen and is not back yet ({concept['loss']:.3f}): what was learned holds less than it did"
        )
        yield _problem("warning", text, "stream-ml tail CONFIG signals")
    for number in status["starving"]:
        text = f"partition {number}: labels stay away, so nothing is learned from its events"
        yield _problem("warning", text, "stream-ml tail CONFIG feedback")
    if status["pending"]["shed"]:
        text = f"{status['pending']['shed']:,} events were forgotten before their time: a cap of `pending` was reached"
        yield _problem("warning", text, "stream-ml config show CONFIG")


def _problem(severity: str, text: str, suggestion: str = "") -> Problem:
    return {"severity": severity, "text": text, "suggestion": suggestion}

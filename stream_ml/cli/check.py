"""``stream-ml check``: every problem that a worker would meet, before one runs."""

import contextlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from stream_ml.cli.say import say
from stream_ml.config import Config
from stream_ml.errors import ConfigError, Problems, StreamMLError
from stream_ml.units import duration_ms, duration_text

if TYPE_CHECKING:
    from stream_ml.app.parts import Parts
    from stream_ml.check.speed import Speed

SHOWN_FEATURES_MAX = 12


class Load(NamedTuple):
    """What workers are planned for; None where nothing was said: then the log's growth is told by an example."""

    workers: int = 1
    events: float | None = None
    labels: float | None = None


def check(config: Config, *, online: bool, downtime: str, load: Load) -> int:
    """Print what is right and everything that is wrong; the exit code: 78 where something is."""
    from stream_ml.app.assemble import assemble

    problems = Problems()
    downtime_ms = problems.of(lambda: _downtime_ms(downtime))  # told whether or not Kafka is asked
    parts: Parts | None = problems.of(lambda: assemble(config))
    away: StreamMLError | None = None
    learn_us = 0.0
    say("ok    configuration")
    if parts is not None:
        learn_us = _say_parts(parts, problems, load)
    for line in problems.of(lambda: _sealed(config)) or ():
        say(line)
    _say_certificates(config, problems)
    if online and downtime_ms is not None:
        from stream_ml.check.online import check_online
        from stream_ml.check.readers import changed_schema

        try:
            seen = check_online(config, downtime_ms)
            changed = changed_schema(parts) if parts is not None and config.predictions.topic in seen.topics else ""
        except StreamMLError as error:
            away = error
        else:
            problems.found += seen.problems.found
            for line in (*(f"ok    {fact}" for fact in seen.facts), *(f"note  {note}" for note in seen.notes)):
                say(line)
            if learn_us and seen.log_entries:
                folding = duration_text(max(1_000, int(seen.log_entries * learn_us / 1e6) * 1_000))
                say(f"ok    training log: {seen.log_entries:,} entries, folded anew in about {folding}")
            if changed:
                say(f"note  {changed}")
    wrong: list[StreamMLError] = [*problems.found, *([away] if away is not None else [])]
    for problem in wrong:
        say(f"WRONG {problem}")
    if wrong:
        say(f"\n{len(wrong)} problem{'s' if len(wrong) > 1 else ''}")
        return wrong[0].exit_code
    say("\nnothing is wrong" + ("" if online else "; --online asks Kafka too"))
    return 0


def _say_certificates(config: Config, problems: Problems) -> None:
    """Which certificates of Kafka's clients expire soon, and which have."""
    from stream_ml.kafka.access.certificates import client_certificates, expiring

    found = client_certificates(config)
    gone = [one for one in found if one.left_s < 0]
    for one in gone:
        problems.add(
            f"{one.setting}: {one.words}", "put another in its place: running workers take it up by themselves"
        )
    soon = expiring([one for one in found if one not in gone])
    if soon:
        say(f"note  {soon}")


def _some(texts: list[str]) -> str:
    more = f" and {len(texts) - SHOWN_FEATURES_MAX} more" if len(texts) > SHOWN_FEATURES_MAX else ""
    return f"{', '.join(texts[:SHOWN_FEATURES_MAX])}{more}"


def _say_parts(parts: "Parts", problems: Problems, load: Load) -> float:
    """Say what schemas and model are like; microseconds to learn an example, 0.0 where the model is refused."""
    from stream_ml.app.trial import checked
    from stream_ml.check.speed import speed

    for line in _of_schemas(parts):
        say(line)
    if problems.of(lambda: checked(parts)) is None:
        return 0.0
    found = speed(parts)
    for line in (_of_speed(parts.config, found), *_of_load(parts, found, load), *_of_growth(parts, load)):
        say(line)
    return found.decode + found.learn


def _of_speed(config: Config, found: "Speed") -> str:
    """What one core holds."""
    return (
        f"ok    model {config.model.factory}: {found.score:.1f} us to score an event of a batch, "
        f"{found.learn:.1f} to learn one; decoding {found.decode:.1f}, publishing {found.publish:.1f}\n"
        f"      one core holds about {found.scored_per_s:,} events/s, or {found.learned_per_s:,} when every "
        "one is labelled (new model, made-up events, without Kafka's part)"
    )


def _of_load(parts: "Parts", found: "Speed", load: Load) -> list[str]:
    """Whether the workers hold the planned load, and how fast the log grows."""
    from stream_ml.check.plan import EXAMPLE_LABELS, Plan, entry_bytes, load_lines, log_line

    labels = EXAMPLE_LABELS if load.labels is None else load.labels
    grown = f"ok    {log_line(entry_bytes(parts), labels, found.decode + found.learn)}"
    if load.labels is None and load.events is None:
        return [grown]
    events = max(labels, load.events or 0.0)
    return [*load_lines(found, Plan(load.workers, events, load.labels or 0.0)), grown]


def _of_growth(parts: "Parts", load: Load) -> list[str]:
    """Whether the model grows with what it learns, as far as a few seconds can tell."""
    from stream_ml.app.trial import tried_events
    from stream_ml.check.growth import growth, growth_lines
    from stream_ml.core.model.estimator import ModelFailed
    from stream_ml.follower.model_size import ModelSize
    from stream_ml.storage.pickling import dumps

    model = parts.config.model
    texts = {name: parts.plan.distinct.get(name) for name in parts.plan.open_texts}

    def size_of(made: Any) -> int:
        return len(dumps(made, model.checkpoint_types))

    try:
        found = growth(parts.build, parts.domain, tried_events(parts), size_of, texts)
    except (ModelFailed, StreamMLError) as error:
        return [f"note  whether the model grows cannot be told: {error}"]
    most = ModelSize(model.memory_max, model.memory_policy).most
    open_texts = [name for name, bound in texts.items() if bound is None]
    but = f", of few different texts of {_some(open_texts)}: model.samples would show more" if open_texts else ""
    if model.samples:
        return growth_lines(found, most, load.labels, "the samples")
    return growth_lines(found, most, load.labels, "made-up events", but)


def _of_schemas(parts: "Parts") -> list[str]:
    """What the model sees and what it learns, and what a producer may do to both."""
    kinds = [f"{name} ({kind})" for name, kind in parts.plan.kinds.items()]
    nulls = [
        f"note  {name} may be null, and its event is then a dead letter; "
        f"features.missing: {{{name}: drop}} or {{{name}: {{impute: VALUE}}}} would score it"
        for name in parts.plan.refused_when_null
    ]
    labels = parts.domain.classes or ["any number"]
    return [
        f"ok    schemas; the model sees {len(kinds)}: {_some(kinds)}",
        *nulls,
        *_bounds(parts),
        *_open_texts(parts),
        f"ok    labels: {', '.join(labels[:SHOWN_FEATURES_MAX])}",
    ]


def _sealed(config: Config) -> list[str]:
    """With which key checkpoints are sealed, and what others may do with it and them."""
    from stream_ml.storage.files import exposure
    from stream_ml.storage.keys import key_file, key_of, log_seal, token_of

    file, folder = key_file(config), config.path(config.checkpoints.directory)
    key = key_of(config)
    how = f"sealed with the key {file}" if key else f"to be sealed with a key that the first run makes: {file}"
    if key is None and not os.access(file.absolute().parent, os.W_OK):
        how = f"not sealed: no key can be made in {file.absolute().parent}"
        if not config.checkpoints.unsealed:
            raise ConfigError(f"checkpoints would be {how}", "set checkpoints.key_file, or checkpoints.unsealed: true")
    named = config.training_log
    log_seal(config, "")  # for its errors
    keys = [config.path(file) for file in (named.key_file, *named.old_key_files) if file is not None]
    token = config.http.token_file
    if token is not None:
        token_of(config)
    wrong = [exposure(path) for path in (file, folder, *keys, *([config.path(token)] if token else []))]
    log = (
        f"sealed with the key {keys[0]} from {named.sealed_from} on"
        if keys
        else "not sealed: Kafka's rights guard them"
    )
    return [
        f"ok    checkpoints in {folder}, {how}",
        f"ok    entries of the training log: {log}",
        *(f"note  {words}" for words in wrong if words),
    ]


def _bounds(parts: "Parts") -> list[str]:
    """Numbers that nothing bounds, with bounds to propose where there are samples: one event may ruin a model."""
    from stream_ml.app.trial import tried_events

    free = [name for name in parts.plan.measured if name not in parts.plan.bounded]
    if not free:
        return []
    found = []
    if parts.config.model.samples:
        with contextlib.suppress(ConfigError):  # told where the model is tried
            rows = tried_events(parts)
            found = [f"{name}: {_bound([row[name] for row in rows if name in row])}" for name in free]
    proposed = f"{{{', '.join(found[:SHOWN_FEATURES_MAX])}}}" if found else "{default: {sigma: 8}}"
    return [
        f"note  nothing bounds {_some(free)}: one labelled event with 1e18 may spoil "
        f"the model; features.bounds: {proposed}" + (", from the samples with room to spare" if found else "")
    ]


def _open_texts(parts: "Parts") -> list[str]:
    """Texts of which there may be any number: a model that keeps something for each grows with them, without end."""
    free = [name for name in parts.plan.open_texts if name not in parts.plan.distinct]
    if not free:
        return []
    return [
        f"note  nothing bounds how many different texts {_some(free)} may have: a model that keeps a weight for each "
        f"gets slower with every new one; features.bounds: {{{free[0]}: {{distinct: 1000, length: 1000}}}}. Not where "
        "the model splits it into words: every text after those would be (other); bound its vocabulary there"
    ]


def _bound(values: list[float]) -> str:
    """As far again as the samples reach, to two digits."""
    if not values:
        return "{sigma: 8}"
    low, high = min(values), max(values)
    room = (high - low) or abs(high) or 1.0
    least = 0.0 if low >= 0 else low - room
    return f"{{min: {least:.2g}, max: {high + room:.2g}}}"


def _downtime_ms(text: str) -> int:
    try:
        return duration_ms(text)
    except ValueError as error:
        raise ConfigError(f"--downtime: {error}") from None

"""The configuration file: what is read, what is refused, and in which words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_ml.config import OWNED_KEYS, Config, load_config
from stream_ml.errors import ConfigError
from stream_ml.units import duration_ms, duration_text, size_bytes, size_text

EXAMPLE = """
app: {id: flights}
worker: {instance: null}
kafka:
  bootstrap_servers: localhost:9092
  properties: {}
events:
  topic: flights
  schema: schemas/flight.avsc
  framing: bare
  schema_ids: {}
  id: flight_id
  time: scheduled_departure
feedback:
  topic: arrivals
  schema: schemas/arrival.avsc
  framing: bare
  id: flight_id
  label: late
  time: landed_at
  ttl: 2d
  early_ttl: 1h
predictions:
  topic: flight-delays
  framing: single-object
  carry: [carrier, origin]
features:
  include: [carrier, origin, destination, distance, hour, month, weekday]
  exclude: []
  missing: {default: reject, distance: {impute: 1000.0}}
model:
  factory: stream_ml.demo.model:build
  params: {}
  task: binary
  positive: true
  labels: null
  threshold: 0.5
  seed: 7
  checkpoint_types: []
start: earliest
delivery: {batch_max_records: 5000, first_record_wait: 100ms,
           transaction_timeout: 10s, session_timeout: 10s, membership: static}
learning: {budget_per_turn: 50ms, lag_max: 60s}
pending: {events_max: 1000000, early_labels_max: 100000, bytes_max: 1GiB}
checkpoints: {directory: checkpoints, interval: 60s, keep: 5, key_file: null}
http: {host: 127.0.0.1, port: 8080}
log: {level: info, format: auto}
"""

Load = Callable[..., Config]

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load the example with some keys set, named by dotted paths; None as the path's last part removes nothing."""

    def load_with(changes: dict[str, Any] | None = None, without: str = "") -> Config:
        tree = yaml.safe_load(EXAMPLE)
        for dotted, value in (changes or {}).items():
            *parents, last = dotted.split("/")
            node = tree
            for parent in parents:
                node = node[parent]
            node[last] = value
        if without:
            *parents, last = without.split("/")
            node = tree
            for parent in parents:
                node = node[parent]
            del node[last]
        file = tmp_path / "stream_ml.yaml"
        file.write_text(yaml.safe_dump(tree), "utf-8")
        return load_config(file)

    return load_with


def _load_text(folder: Path, text: str) -> Config:
    file = folder / "stream_ml.yaml"
    file.write_text(text, "utf-8")
    return load_config(file)


def test_example_of_the_contract_loads(tmp_path: Path) -> None:
    config = _load_text(tmp_path, EXAMPLE)
    assert config.app.id == "flights"
    assert config.feedback.ttl == 172_800_000
    assert config.feedback.early_ttl == 3_600_000
    assert config.delivery.first_record_wait == 100
    assert config.pending.bytes_max == 1_073_741_824
    assert config.features.missing["distance"].impute == 1000.0  # type: ignore[union-attr]
    assert config.model.positive is True


def test_minimal_file_takes_the_defaults_of_the_contract(tmp_path: Path) -> None:
    config = _load_text(
        tmp_path,
        """
app: {id: flights}
kafka: {bootstrap_servers: localhost:9092}
events: {topic: flights, schema: a.avsc, id: flight_id}
feedback: {topic: arrivals, schema: b.avsc, id: flight_id, label: late, ttl: 2d}
predictions: {topic: flight-delays}
model: {factory: "stream_ml.demo.model:build", task: binary}
""",
    )
    full = _load_text(tmp_path, EXAMPLE)
    for part in ("worker", "start", "delivery", "learning", "pending", "checkpoints", "http", "log"):
        assert getattr(config, part) == getattr(full, part), part
    assert (config.events.framing, config.predictions.framing) == ("bare", "single-object")
    assert (config.model.threshold, config.model.seed, config.model.positive) == (0.5, 7, True)
    assert config.feedback.early_ttl == full.feedback.early_ttl


def test_topics_and_ids_are_named_after_the_app(load: Load) -> None:
    config = load({"worker/instance": "w1"})
    assert config.training_log_topic == "flights.training-log"
    assert config.outcomes == "flights.outcomes"
    assert config.dead_letters == "flights.dead-letters"
    assert config.signals == "flights.signals"
    assert config.transactional_id == "flights-w1"


@pytest.mark.parametrize(
    "dotted",
    [
        "kafk",
        "app.name",
        "worker.instances",
        "kafka.bootstrap",
        "events.label",
        "events.frame",
        "feedback.ttl_ms",
        "predictions.schema",
        "features.includes",
        "model.thresold",
        "delivery.batch_max",
        "learning.budget",
        "pending.max",
        "checkpoints.dir",
        "http.prot",
        "log.levle",
    ],
)
def test_unknown_key_is_refused_by_its_dotted_name(load: Load, dotted: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load({dotted.replace(".", "/"): "x"})
    assert f"{dotted}: no such key" in str(refused.value)
    assert refused.value.exit_code == 78


def test_all_problems_are_told_at_once(load: Load) -> None:
    with pytest.raises(ConfigError) as refused:
        load({"http/port": 70_000, "log/level": "loud", "feedback/ttl": "2 years"})
    for dotted in ("http.port", "log.level", "feedback.ttl"):
        assert dotted in str(refused.value)


@pytest.mark.parametrize("key", ["_env_prefix", "_env_file", "_case_sensitive", "_secrets_dir"])
def test_key_of_the_settings_library_is_an_unknown_key(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: no such key"):
        _load_text(tmp_path, f"{EXAMPLE}\n{key}: other\n")


@pytest.mark.parametrize("key", ["8080", "on", "1.5"])
def test_key_that_is_no_text_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError):
        _load_text(tmp_path, f"{EXAMPLE}\n{key}: x\n")


@pytest.mark.parametrize("section", ["properties", "consumer", "producer"])
@pytest.mark.parametrize("key", sorted(OWNED_KEYS))
def test_owned_key_of_the_client_is_refused_with_its_reason(load: Load, section: str, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load({f"kafka/{section}": {key: "x"}})
    assert key in str(refused.value)
    assert OWNED_KEYS[key] in str(refused.value)


def test_second_name_of_an_owned_key_is_refused(load: Load) -> None:
    with pytest.raises(ConfigError):
        load({"kafka/properties": {"metadata.broker.list": "elsewhere:9092"}})


def test_other_client_keys_pass_with_their_types(load: Load) -> None:
    config = load({"kafka/producer": {"linger.ms": 5, "compression.type": "zstd", "socket.keepalive.enable": True}})
    assert config.kafka.producer == {"linger.ms": 5, "compression.type": "zstd", "socket.keepalive.enable": True}


@pytest.mark.parametrize(
    ("text", "ms"),
    [("100ms", 100), ("10s", 10_000), ("5m", 300_000), ("1.5h", 5_400_000), ("2d", 172_800_000), ("1w", 604_800_000)],
)
def test_duration_has_a_unit(text: str, ms: int) -> None:
    assert duration_ms(text) == ms


def test_duration_zero_needs_no_unit() -> None:
    assert duration_ms(0) == 0


@pytest.mark.parametrize("text", ["10", "s", "", "-1s", "1 fortnight", "1S", "1s 5ms", "0x1s", "nan s", 10, 1.5, True])
def test_duration_without_a_known_unit_is_refused_with_the_units(text: object) -> None:
    with pytest.raises(ValueError, match="ms, s, m, h, d, w"):
        duration_ms(text)


@pytest.mark.parametrize(
    ("text", "size"), [("7B", 7), ("2kB", 2_000), ("3MB", 3_000_000), ("4KiB", 4_096), ("1GiB", 1_073_741_824)]
)
def test_size_has_a_unit(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["10", "1kb", "1K", "-1B", None, False])
def test_size_without_a_known_unit_is_refused_with_the_units(text: object) -> None:
    with pytest.raises(ValueError, match="B, kB, MB, GB, KiB, MiB, GiB"):
        size_bytes(text)


@pytest.mark.parametrize("ms", [0, 1, 999, 1_000, 90_000, 3_600_000, 172_800_000, 604_800_000])
def test_duration_text_reads_back(ms: int) -> None:
    assert duration_ms(duration_text(ms)) == ms


@pytest.mark.parametrize("size", [0, 1, 1_000, 1_024, 1_536, 10**9, 2**30])
def test_size_text_reads_back(size: int) -> None:
    assert size_bytes(size_text(size)) == size


def test_bare_number_as_duration_is_refused_where_it_stands(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"delivery\.transaction_timeout: .*10000 is not a duration"):
        load({"delivery/transaction_timeout": 10_000})


def test_environment_overrides_the_file(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_ML_KAFKA__BOOTSTRAP_SERVERS", "broker:9093")
    monkeypatch.setenv("STREAM_ML_WORKER__INSTANCE", "w2")
    monkeypatch.setenv("STREAM_ML_FEEDBACK__TTL", "3d")
    monkeypatch.setenv("STREAM_ML_EVENTS__SCHEMA", "other.avsc")
    config = load()
    assert config.kafka.bootstrap_servers == "broker:9093"
    assert config.instance == "w2"
    assert config.feedback.ttl == 259_200_000
    assert config.events.schema_ == Path("other.avsc")
    assert config.events.topic == "flights"


def test_environment_overrides_one_client_key_and_keeps_the_others(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_ML_KAFKA__PRODUCER", '{"linger.ms": 9}')
    config = load({"kafka/producer": {"linger.ms": 5, "compression.type": "zstd"}})
    assert config.kafka.producer == {"linger.ms": 9, "compression.type": "zstd"}


def test_unknown_key_in_the_environment_is_refused(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_ML_KAFKA__BOGUS", "x")
    with pytest.raises(ConfigError, match=r"kafka\.bogus: no such key"):
        load()


def test_broken_json_in_the_environment_is_refused(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_ML_KAFKA__PROPERTIES", "{")
    with pytest.raises(ConfigError, match="kafka"):
        load()


def test_secret_does_not_show_in_the_message(load: Load) -> None:
    with pytest.raises(ConfigError) as refused:
        load({"kafka/properties": {"sasl.password": ["hunter2"]}})
    assert "hunter2" not in str(refused.value)


def test_paths_are_relative_to_the_file(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load()
    assert config.path(config.events.schema_) == tmp_path / "schemas" / "flight.avsc"
    assert config.path(config.checkpoints.directory) == tmp_path / "checkpoints"


def test_absolute_path_stays(load: Load, tmp_path: Path) -> None:
    config = load({"checkpoints/directory": str(tmp_path / "kept")})
    assert config.path(config.checkpoints.directory) == tmp_path / "kept"


@pytest.mark.parametrize("part", ["events", "feedback"])
def test_confluent_without_schema_ids_is_refused(load: Load, part: str) -> None:
    with pytest.raises(ConfigError, match=rf"{part}: .*schema_ids"):
        load({f"{part}/framing": "confluent"})


def test_confluent_with_schema_ids_loads(load: Load) -> None:
    config = load({"events/framing": "confluent", "events/schema_ids": {4: "four.avsc"}})
    assert config.events.schema_ids == {4: Path("four.avsc")}


def test_predictions_confluent_without_schema_id_is_refused(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"predictions: .*schema_id"):
        load({"predictions/framing": "confluent"})


@pytest.mark.parametrize("framing", ["bare", "single-object"])
def test_schema_id_without_confluent_is_refused(load: Load, framing: str) -> None:
    with pytest.raises(ConfigError, match=r"predictions: .*schema_id"):
        load({"predictions/framing": framing, "predictions/schema_id": 4})


@pytest.mark.parametrize("part", ["events", "feedback"])
def test_schema_ids_beside_bare_are_refused(load: Load, part: str) -> None:
    """Bare bytes name no schema, so nothing would ever read them."""
    with pytest.raises(ConfigError, match=rf"{part}: framing bare has no schema_ids"):
        load({f"{part}/schema_ids": {4: "four.avsc"}})


@pytest.mark.parametrize(
    ("task", "key", "value"),
    [
        ("regression", "labels", ["a", "b"]),
        ("regression", "positive", "a"),
        ("regression", "threshold", 0.7),
        ("multiclass", "positive", "a"),
        ("multiclass", "threshold", 0.7),
    ],
)
def test_key_that_its_task_never_reads_is_refused(load: Load, task: str, key: str, value: object) -> None:
    others = {"model/task": task, "drift": {"concept": {"detector": "none"}}}
    without = {f"model/{name}": None for name in ("labels",) if name != key}
    with pytest.raises(ConfigError, match=rf"model\.{key}: task {task} does not read it"):
        load(others | without | {f"model/{key}": value})


@pytest.mark.parametrize(
    "changes", [{"model/params": {"seed": 3}}, {"drift": {"concept": {"detector": "kswin", "params": {"seed": 3}}}}]
)
def test_there_is_one_seed(load: Load, changes: dict[str, Any]) -> None:
    """Two would say two things about what is random: model.seed and the one that a function is given."""
    with pytest.raises(ConfigError, match=r"params\.seed: set model\.seed"):
        load(changes)


@pytest.mark.parametrize("number", [-1, 2**32])
def test_schema_id_outside_four_bytes_is_refused(load: Load, number: int) -> None:
    with pytest.raises(ConfigError, match=r"predictions\.schema_id"):
        load({"predictions/framing": "confluent", "predictions/schema_id": number})


def test_schema_id_zero_is_one(load: Load) -> None:
    assert load({"predictions/framing": "confluent", "predictions/schema_id": 0}).predictions.schema_id == 0


@pytest.mark.parametrize(
    ("dotted", "value"),
    [
        ("app/id", "two words"),
        ("app/id", ""),
        ("app/id", "-dash"),
        ("app/id", "a" * 201),
        ("events/topic", "a/b"),
        ("events/framing", "json"),
        ("model/task", "ranking"),
        ("model/factory", "no_colon"),
        ("model/threshold", 1.5),
        ("model/threshold", float("nan")),
        ("model/seed", -1),
        ("delivery/batch_max_records", 0),
        ("delivery/membership", "sticky"),
        ("features/missing", {"default": "ignore"}),
        ("checkpoints/keep", 0),
        ("start", "middle"),
    ],
)
def test_value_outside_its_domain_is_refused_where_it_stands(load: Load, dotted: str, value: object) -> None:
    with pytest.raises(ConfigError, match=dotted.replace("/", r"\.")):
        load({dotted: value})


@pytest.mark.parametrize("dotted", ["app", "kafka", "events/id", "feedback/ttl", "feedback/label", "model/task"])
def test_missing_key_is_named(load: Load, dotted: str) -> None:
    with pytest.raises(ConfigError, match=dotted.replace("/", r"\.")):
        load(without=dotted)


def test_values_cannot_be_changed_afterwards(load: Load) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().model.seed = 8


def test_missing_file_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist") as refused:
        load_config(tmp_path / "none.yaml")
    assert "stream-ml run" in refused.value.hint


def test_folder_instead_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_config(tmp_path)


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\t- x", "hello", "[1, 2]", "42", "\x00"])
def test_broken_yaml_is_refused_with_the_file_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"stream_ml\.yaml"):
        _load_text(tmp_path, text)


def test_empty_file_lists_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="app: is required"):
        _load_text(tmp_path, "")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "stream_ml.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError):
        load_config(tmp_path / "stream_ml.yaml")


# --- what YAML makes of plain words and digits ---

QUOTE = "quote it"
FIGURES = "012 0x10 1_000 12:30 2020-01-01"
WORDS = "no Yes off"
PLACES = [
    ("labels: null", "labels: [{}, dk]"),
    ("positive: true", "positive: {}"),
    ("params: {}", "params: {{note: {}}}"),
    ("  properties: {}", "  properties: {{sasl.username: u, sasl.password: {}}}"),
    ("distance: {impute: 1000.0}", "distance: {{impute: {}}}"),
]
NAMES = [
    ("id: flights}", "id: {}}}"),
    ("instance: null", "instance: {}"),
    ("topic: arrivals", "topic: {}"),
    ("label: late", "label: {}"),
    ("carry: [carrier, origin]", "carry: [{}]"),
    ("include: [carrier,", "include: [{},"),
    ("exclude: []", "exclude: [{}]"),
    ("checkpoint_types: []", "checkpoint_types: [{}]"),
]
NUMBERS = [("port: 8080", "port: {}"), ("seed: 7", "seed: {}"), ("events_max: 1000000", "events_max: {}")]
KEYS = [
    ("distance: {impute", "{}: {{impute"),
    ("  schema_ids: {}\n  id: flight_id\n  time: sch", "  schema_ids: {{{}: w.avsc}}\n  id: flight_id\n  time: sch"),
]


def changed(there: str, instead: str, word: str) -> str:
    """The example with one place changed."""
    assert there in EXAMPLE
    return EXAMPLE.replace(there, instead.format(word), 1)


@pytest.mark.parametrize("word", [*WORDS.split(), *FIGURES.split()])
@pytest.mark.parametrize(("there", "instead"), PLACES + NAMES)
def test_plain_word_that_yaml_takes_for_something_else_is_refused(
    tmp_path: Path, there: str, instead: str, word: str
) -> None:
    """As YAML 1.1 has it no is false, 012 ten, 12:30 seven hundred and fifty: as a label, a name, a password."""
    with pytest.raises(ConfigError, match=rf"stream_ml\.yaml:\d+: .*{QUOTE}") as refused:
        _load_text(tmp_path, changed(there, instead, word))
    may_be_secret = "params" in instead or "properties" in there or "sasl" in instead or "linger" in there
    assert (f"{QUOTE}: '{word}'" in str(refused.value)) is not may_be_secret


@pytest.mark.parametrize("word", ["012", "0x10", "1_000", "12:30"])
@pytest.mark.parametrize(("there", "instead"), NUMBERS + KEYS)
def test_number_is_written_as_a_number(tmp_path: Path, there: str, instead: str, word: str) -> None:
    """Port 012 is 10, 16:40 is 1000; schema ids 012 and 1_0 are one and the same, and the first file is forgotten."""
    with pytest.raises(ConfigError, match=rf"stream_ml\.yaml:\d+: .*{word}"):
        _load_text(tmp_path, changed(there, instead, word))


@pytest.mark.parametrize("word", [".nan", ".inf", "-.inf"])
def test_number_that_is_none_is_no_label(tmp_path: Path, word: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.labels"):
        _load_text(tmp_path, changed(*PLACES[0], word))


def test_quoted_word_is_the_word(tmp_path: Path) -> None:
    assert _load_text(tmp_path, changed(*PLACES[0], "'no', \"012\"")).model.labels == ["no", "012", "dk"]
    assert _load_text(tmp_path, changed(*PLACES[3], "'0123'")).kafka.properties["sasl.password"] == "0123"
    assert _load_text(tmp_path, changed(*PLACES[0], "true, -7, 1.5")).model.labels == [True, -7, 1.5, "dk"]


def test_a_client_that_is_to_bring_tokens_and_is_not_told_where_from_is_refused(load: Load) -> None:
    named = {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}
    with pytest.raises(ConfigError, match=r"OAUTHBEARER needs sasl\.oauthbearer\.method: oidc"):
        load({"kafka/properties": named})
    load({"kafka/properties": named | {"sasl.oauthbearer.method": "oidc"}})


@pytest.mark.parametrize(
    ("traces", "words"),
    [
        ({"endpoint": "collector:4318"}, "endpoint"),
        ({"endpoint": "http://user:word@collector"}, "endpoint"),
        ({"ratio": 1.5}, "ratio"),
        ({"endpoint": "http://collector:4318", "token": "secret-word"}, "token would be sent in the clear"),
    ],
)
def test_traces_that_lead_nowhere_or_tell_a_secret_are_refused(load: Load, traces: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        load({"traces": traces})
    assert "secret-word" not in str(refused.value)


def test_an_endpoint_of_traces_is_completed(load: Load) -> None:
    assert load({"traces": {"endpoint": "http://c:4318/"}}).traces.endpoint == "http://c:4318/v1/traces"
    assert load({"traces": {"endpoint": "https://c/own/path"}}).traces.endpoint == "https://c/own/path"

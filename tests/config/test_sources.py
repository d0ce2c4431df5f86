"""Where values come from: which source wins, where each stands, what is hidden, and how wrong ones are reported."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.config import load_config
from stream_ml.config.show import HIDDEN, is_secret, schema, show
from stream_ml.errors import ConfigError
from stream_ml.kafka.clients import common, reading

MINIMAL = """app: {id: flights}
kafka:
  bootstrap_servers: localhost:9092
  properties: {sasl.username: reader}
events: {topic: flights, schema: a.avsc, id: flight_id}
feedback: {topic: arrivals, schema: b.avsc, id: flight_id, label: late, ttl: 2d}
predictions: {topic: flight-delays}
model: {factory: "m:build", task: binary}
http:
  port: 1001
"""
CANARY = "correct-horse-battery"

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The smallest configuration."""
    found = tmp_path / "stream_ml.yaml"
    found.write_text(MINIMAL, "utf-8")
    return found


def secret(folder: Path, name: str, value: str) -> Path:
    """A directory with one secret, as Kubernetes mounts it."""
    data = folder / "secrets" / "..2026"
    data.mkdir(parents=True)
    (data / name).write_text(value + "\n", "utf-8")
    (folder / "secrets" / "..data").symlink_to(data)
    (folder / "secrets" / name).symlink_to(Path("..data", name))
    return folder / "secrets"


def test_flag_wins_over_environment_over_secret_file_over_yaml_over_default(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_config(file).log.level == "info"
    assert load_config(file).origin("log.level") == "default"
    assert load_config(file).http.port == 1001
    assert load_config(file).origin("http.port") == f"{file}:10"
    secrets = secret(tmp_path, "http.port", "1002")
    monkeypatch.setenv("STREAM_ML_SECRETS", str(secrets))
    assert load_config(file).http.port == 1002
    assert load_config(file).origin("http.port") == str(secrets / "http.port")
    monkeypatch.setenv("STREAM_ML_HTTP__PORT", "1003")
    assert load_config(file).http.port == 1003
    assert load_config(file).origin("http.port") == "STREAM_ML_HTTP__PORT"
    assert load_config(file, ["http.port=1004"]).http.port == 1004
    assert load_config(file, ["http.port=1004"]).origin("http.port") == "--set http.port"


def test_a_client_key_has_underscores_in_the_environment_and_dots_elsewhere(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAM_ML_KAFKA__PROPERTIES__SASL_MECHANISM", "PLAIN")
    config = load_config(
        file, ["kafka.producer.linger.ms=3"], secret(tmp_path, "kafka.properties.sasl.password", CANARY)
    )
    assert config.kafka.properties == {"sasl.username": "reader", "sasl.mechanism": "PLAIN", "sasl.password": CANARY}
    assert config.kafka.producer == {"linger.ms": 3}
    assert config.origin("kafka.properties.sasl.mechanism") == "STREAM_ML_KAFKA__PROPERTIES__SASL_MECHANISM"
    assert config.origin("kafka.properties.sasl.username") == f"{file}:4"


@pytest.mark.parametrize("spelling", ["sasl.password", "sasl_password"])
def test_a_client_key_is_one_key_whichever_way_a_source_spells_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    file.write_text(MINIMAL.replace("sasl.username: reader", f"{spelling}: of-the-file"), "utf-8")
    secrets = secret(tmp_path, "kafka.properties.sasl.password", "of-the-secret")
    assert load_config(file).kafka.properties == {"sasl.password": "of-the-file"}
    assert load_config(file, secrets=secrets).kafka.properties == {"sasl.password": "of-the-secret"}
    monkeypatch.setenv("STREAM_ML_KAFKA__PROPERTIES__SASL_PASSWORD", "of-the-environment")
    config = load_config(file, secrets=secrets)
    assert config.kafka.properties == {"sasl.password": "of-the-environment"}
    assert config.origin("kafka.properties.sasl.password") == "STREAM_ML_KAFKA__PROPERTIES__SASL_PASSWORD"
    config = load_config(file, [f"kafka.properties.{spelling}=of-the-flag"], secrets)
    assert config.kafka.properties == {"sasl.password": "of-the-flag"}
    assert config.origin("kafka.properties.sasl.password") == f"--set kafka.properties.{spelling}"


def test_a_wrong_part_of_a_section_is_told_with_its_own_origin(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_ML_KAFKA__SSL__X", "1")
    with pytest.raises(ConfigError, match=r"STREAM_ML_KAFKA__SSL__X: kafka\.ssl: no such key"):
        load_config(file)


@pytest.mark.parametrize(
    "name", ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_8080_TCP", "PORT_8080_TCP_ADDR"]
)
def test_what_kubernetes_sets_for_a_service_of_the_same_name_is_no_key(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"STREAM_ML_{name}", "tcp://10.0.0.1:8080")
    assert load_config(file).http.port == 1001


@pytest.mark.parametrize("service", ["METRICS", "HTTP"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVICE_HOST", "10.0.0.1"),
        ("SERVICE_PORT", "80"),
        ("SERVICE_PORT_WEB", "80"),
        ("SERVICE_PORT_HTTP_METRICS", "80"),
        ("PORT", "tcp://10.0.0.1:80"),
        ("PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("PORT_80_TCP_PROTO", "tcp"),
        ("PORT_80_TCP_PORT", "80"),
        ("PORT_80_TCP_ADDR", "10.0.0.1"),
        ("PORT_53_UDP", "udp://10.0.0.1:53"),
    ],
)
def test_what_kubernetes_sets_for_a_service_whose_name_begins_so_is_no_key(
    file: Path, monkeypatch: pytest.MonkeyPatch, service: str, name: str, value: str
) -> None:
    """Of a Service called stream-ml-metrics; where a key could be meant, the value tells: tcp:// is no port."""
    monkeypatch.setenv(f"STREAM_ML_{service}_{name}", value)
    assert load_config(file).http.port == 1001


def test_a_variable_with_one_underscore_too_few_is_told_the_right_name(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAM_ML_HTTP_PORT", "1")
    with pytest.raises(ConfigError, match="two underscores part a section from its key: http__port"):
        load_config(file)


def test_an_owned_key_is_blamed_on_the_source_that_sets_it(file: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--set kafka\.properties\.group\.id: kafka\.properties\.group\.id: belongs to"
    ):
        load_config(file, ["kafka.properties.group.id=x"])


def test_a_flag_into_a_value_that_is_no_section_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"http\.port cannot be set: http is given as a value of its own"):
        load_config(file, ["http=1", "http.port=2"])


def test_a_secret_deep_in_the_models_arguments_is_hidden(file: Path) -> None:
    config = load_config(file, [f'model.params={{"auth": {{"password": "{CANARY}"}}, "l2": 0.5}}'])
    for text in (show(config, with_origins=False), show(config, with_origins=True)):
        assert CANARY not in text and "0.5" in text


@pytest.mark.parametrize(
    ("flag", "word"),
    [
        ("model.labels=[no, se]", "no"),
        ("model.positive=off", "off"),
        ("kafka.properties.sasl.password=0123", "0123"),
        ("kafka.properties.sasl.password=no", "no"),
        ("worker.instance=007", "007"),
        ("http.port=16:40", "16:40"),
    ],
)
def test_a_flag_that_yaml_takes_for_something_else_is_refused(file: Path, flag: str, word: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"--set {flag.partition('=')[0]}: its value is .* to YAML; quote it"
    ) as refused:
        load_config(file, [flag])
    assert word == "no" or word not in str(refused.value), "it may be a secret"


def test_null_in_the_environment_is_no_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is documented as the host's name; two workers called null would fence each other for ever."""
    monkeypatch.setenv("STREAM_ML_WORKER__INSTANCE", "null")
    assert load_config(file).worker.instance is None


@pytest.mark.parametrize(
    "key",
    [
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.keystore.location",
        "ssl.crl.location",
        "sasl.kerberos.keytab",
    ],
)
def test_a_clients_file_is_relative_to_the_configuration(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load_config(file, [f"kafka.properties.{key}=keys/mine", f"kafka.consumer.{key}=/etc/mine"])
    assert common(config)[key] == str(tmp_path / "keys" / "mine")
    assert reading(config)[key] == "/etc/mine"
    assert yaml.safe_load(show(config, with_origins=False))["kafka"]["properties"][key] == "keys/mine"


def test_a_clients_file_of_one_section_is_relative_too(file: Path, tmp_path: Path) -> None:
    config = load_config(file, ["kafka.consumer.ssl.ca.location=ca.pem", "kafka.producer.ssl.ca.location=ca.pem"])
    assert reading(config)["ssl.ca.location"] == str(tmp_path / "ca.pem")
    assert config.client_properties("producer")["ssl.ca.location"] == str(tmp_path / "ca.pem")


@pytest.mark.parametrize("value", ["probe", "/etc/ssl/ca.pem"])
def test_a_clients_file_that_is_no_relative_path_stays(file: Path, value: str) -> None:
    assert common(load_config(file, [f"kafka.properties.ssl.ca.location={value}"]))["ssl.ca.location"] == value


def test_the_one_client_key_with_an_underscore_keeps_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_ML_KAFKA__PROPERTIES__LOG_LEVEL", "3")
    config = load_config(file)
    assert config.kafka.properties == {"sasl.username": "reader", "log_level": "3"}
    assert config.origin("kafka.properties.log_level") == "STREAM_ML_KAFKA__PROPERTIES__LOG_LEVEL"


def test_an_owned_key_is_refused_in_the_spelling_of_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAM_ML_KAFKA__CONSUMER__ISOLATION_LEVEL", "read_uncommitted")
    with pytest.raises(ConfigError, match=r"isolation\.level: belongs to the service: aborted records"):
        load_config(file)


@pytest.mark.parametrize("name", ["STREAM_ML_KAFK__BOOTSTRAP_SERVERS", "STREAM_ML_KAFKA__BOOTSTRAP_SERVER"])
def test_a_misspelt_variable_is_refused_by_its_name(file: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigError, match=rf"{name}: .*did you mean (kafka|bootstrap_servers)\?"):
        load_config(file)


def test_every_problem_has_its_line_and_the_nearest_name(tmp_path: Path) -> None:
    file = tmp_path / "stream_ml.yaml"
    wrong = MINIMAL.replace("ttl: 2d", "ttl: 2").replace("http:", "htpp:").replace("topic: flights", "topics: flights")
    file.write_text(wrong, "utf-8")
    with pytest.raises(ConfigError) as refused:
        load_config(file)
    told = str(refused.value).splitlines()[1:]
    assert [line.strip().removeprefix(f"{file}:") for line in told] == [
        "5: events.topic: is required",
        "5: events.topics: no such key; did you mean topic?",
        "6: feedback.ttl: 2 is not a duration: write a number and one of ms, s, m, h, d, w",
        "9: htpp: no such key; did you mean http?",
    ]


def test_a_key_that_stands_twice_is_refused_with_both_lines(file: Path) -> None:
    file.write_text(MINIMAL + "app: {id: other}\n", "utf-8")
    with pytest.raises(ConfigError, match=r":11: app stands a second time \(first at .*:1\)"):
        load_config(file)


@pytest.mark.parametrize("missing", [{"default": "ignore"}, {"x": {"imput": 2}}, {"x": 3}])
def test_a_wrong_way_with_missing_values_is_told_the_right_ones_once(file: Path, missing: object) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(file, [f"features.missing={json.dumps(missing)}"])
    assert str(refused.value).count("must be reject, drop, or {impute: VALUE}") == 1


@pytest.mark.parametrize("flag", ["http.port", "=3", ""])
def test_a_flag_that_is_no_assignment_is_refused(file: Path, flag: str) -> None:
    with pytest.raises(ConfigError, match="is not KEY=VALUE"):
        load_config(file, [flag])


def test_a_directory_of_secrets_that_is_not_there_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no directory of secrets"):
        load_config(file, secrets=tmp_path / "none")


@pytest.mark.parametrize(
    "key", ["sasl.password", "ssl.key.password", "sasl.oauthbearer.client.secret", "ssl.key.pem", "sasl.username"]
)
@pytest.mark.parametrize("section", ["properties", "consumer", "producer"])
def test_secrets_are_shown_by_nothing(file: Path, section: str, key: str) -> None:
    config = load_config(file, [f"kafka.{section}.{key}={CANARY}"])
    said = [show(config, with_origins=False), show(config, with_origins=True)]
    assert all(CANARY not in text and HIDDEN in text for text in said)
    assert is_secret(("kafka", section, key), CANARY)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("linger.ms", "3"),
        ("linger.ms", 3),
        ("ssl.ca.location", "ca.pem"),
        ("security.protocol", "SASL_SSL"),
        ("enable.ssl.certificate.verification", "true"),
    ],
)
def test_ordinary_keys_are_no_secrets(key: str, value: Any) -> None:
    assert not is_secret(("kafka", "properties", key), value)


@pytest.mark.parametrize(
    "flag",
    [
        f"model.params.api_key={CANARY}",
        f"model.params.inner={{deep: [{CANARY}]}}",
        f"model.params.url=https://user:{CANARY}@host/x",
        f"drift.concept.params.x={CANARY}",
        f"kafka.properties.some.future.key={CANARY}",
        f"kafka.consumer.sasl.jaas.config={CANARY}",
        f"kafka.bootstrap_servers=SASL://user:{CANARY}@host:9092",
    ],
)
def test_what_may_be_anything_is_not_shown(file: Path, flag: str) -> None:
    config = load_config(file, [flag])
    for origin in (False, True):
        assert CANARY not in show(config, with_origins=origin) and HIDDEN in show(config, with_origins=origin)


@pytest.mark.parametrize(
    "flag",
    [f"kafka.properties.sasl.password {CANARY}", CANARY, f"http.port={CANARY}", f"kafka={CANARY}", f"x=[{CANARY}"],
)
def test_an_error_about_a_flag_does_not_repeat_its_value(file: Path, flag: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(file, [flag])
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        f"0123456{CANARY}",
        "0123456",
        "*{C}",
        "!{C}",
        "!!{C} x",
        "!!int '{C}'",
        "!!float '{C}'",
        "!!bool '{C}'",
        "!!timestamp '{C}'",
        "!!int ''",
        "[{C}",
        "'{C}",
        "&{C}",
        "{C}: {C}: x",
        "!!binary '{C}'",
        "\\x00{C}",
    ],
)
def test_an_error_about_the_file_does_not_repeat_a_value(file: Path, value: str) -> None:
    value = value.replace("{C}", CANARY)
    file.write_text(f"kafka:\n  properties:\n    sasl.password: {value}\n", "utf-8")
    with pytest.raises(ConfigError) as refused:
        load_config(file)
    said = str(refused.value).partition("no such key")[0]
    assert CANARY not in said and "0123456" not in said and "12:30" not in said
    with pytest.raises(ConfigError) as refused:
        load_config(file, [f"kafka.properties.sasl.password={value}", "x=1"])
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(("name", "value"), [("KAFKA__PROPERTIES", '{"a":' * 30_000), ("MODEL__LABELS", "[" * 100_000)])
def test_a_variable_that_nests_too_deep_ends_in_one_line(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"STREAM_ML_{name}", value)
    with pytest.raises(ConfigError, match="an environment variable"):
        load_config(file)


@pytest.mark.parametrize("value", ["!!binary /w==", '"\\ud800"', "{a: " * 400 + "1" + "}" * 400])
def test_what_cannot_be_shown_is_said(file: Path, value: str) -> None:
    file.write_text(file.read_text("utf-8").replace("model:", f"model:\n  params: {{x: {value}}}"), "utf-8")
    try:
        config = load_config(file)
        show(config, with_origins=True)
    except ConfigError as error:
        assert len(str(error).splitlines()) <= 3


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["a: " + "1" * 20_000 + ":30.5", "x" * 400_000, "a: " + "b" * 40_000])
def test_a_long_file_takes_no_long_time(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError):
        load_config(file)


@pytest.mark.parametrize("url", ["http://u:{C}/x@h/p", "http://{C} x@h/p", "SASL://{C}@h:1,SASL://u:{C}@h:2"])
def test_a_password_in_an_address_is_not_shown_whatever_is_in_it(file: Path, url: str) -> None:
    config = load_config(file, [f"kafka.bootstrap_servers='{url.replace('{C}', CANARY)}'"])
    assert CANARY not in show(config, with_origins=True) and CANARY not in show(config, with_origins=False)


def laughs(kind: str) -> str:
    """A document of a few lines that stands for ten to the twelfth values."""
    lines = ["a: &a [x]" if kind == "list" else "a: &a {k: 1}"]
    for number in range(12):
        last, name = chr(97 + number), chr(98 + number)
        of = [f"*{last}"] * 10 if kind == "list" else [f"k{i}: *{last}" for i in range(10)]
        lines.append(f"{name}: &{name} {'[' if kind == 'list' else '{'}{', '.join(of)}{']' if kind == 'list' else '}'}")
    return "\n".join(lines)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        *("a: &a [*a]", "a: &a {b: *a}", "a: &a [[[*a]]]", laughs("list"), laughs("map")),
        *("[" * 5_000, "a: " + "{b: " * 5_000, "- " * 5_000),
    ],
)
def test_a_document_that_explodes_or_leads_back_to_itself_ends_in_one_line(file: Path, text: str) -> None:
    written = file.read_text("utf-8")
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as refused:
        load_config(file)
    assert len(str(refused.value).splitlines()) <= 2
    file.write_text(written, "utf-8")
    with pytest.raises(ConfigError):
        load_config(file, [f"model.params.x={text.partition('a: ')[2] or text}"])


def test_what_is_shown_loads_to_the_same_configuration(file: Path, tmp_path: Path) -> None:
    file.write_text(MINIMAL.replace("sasl.username: reader", "linger.ms: 3"), "utf-8")
    config = load_config(file)
    again = tmp_path / "again.yaml"
    again.write_text(show(config, with_origins=False), "utf-8")
    assert load_config(again).model_dump() == config.model_dump()


def test_the_schema_for_editors_knows_every_key_and_no_other() -> None:
    made = schema()
    definitions = made["$defs"]
    for section in ("App", "Kafka", "Events", "Feedback", "Model", "Delivery", "Http"):
        assert definitions[section]["additionalProperties"] is False
        assert all(key.get("description") for key in definitions[section]["properties"].values())
    assert set(made["required"]) == {"app", "kafka", "events", "feedback", "predictions", "model"}


def test_verbs_of_the_configuration_print_it(file: Path) -> None:
    shown = CliRunner().invoke(app, ["config", "show", str(file), "--set", "http.port=7"])
    assert (
        yaml.safe_load(shown.stdout)["http"] | {"host": "127.0.0.1", "port": 7} == yaml.safe_load(shown.stdout)["http"]
    )
    assert json.loads(CliRunner().invoke(app, ["config", "schema"]).stdout)["title"] == "stream_ml.yaml"
    assert "`feedback.ttl`" in CliRunner().invoke(app, ["config", "reference"]).stdout

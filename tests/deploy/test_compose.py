"""The composed service: least rights, limits, no secret in the open, and what it mounts is there."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_ml.config import load_config
from tests.deploy.prometheus import needs_prometheus, promtool
from tests.support.paths import ROOT

FOLDER = ROOT / "deploy/compose"
COMPOSED: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
THREE: dict[str, Any] = yaml.safe_load((FOLDER / "three-brokers.yaml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSED["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("stream-ml")]


@pytest.mark.parametrize("name", OURS)
def test_what_is_ours_may_no_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_everything_has_a_limit_of_memory_and_listens_on_this_machine_alone(name: str) -> None:
    service = SERVICES[name]
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert all(re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+", port) for port in service.get("ports", ()))
    assert not service["image"].endswith(":latest") and ":" in service["image"]


@pytest.mark.parametrize("name", [name for name in OURS if SERVICES[name]["restart"] != "no"])
def test_what_runs_on_is_asked_whether_it_is_ready_and_has_time_to_end(name: str) -> None:
    service, config = SERVICES[name], load_config(FOLDER / "stream_ml.yaml")
    assert service["healthcheck"]["test"] == ["CMD", "stream-ml", "probe"]
    grace_s = int(service["stop_grace_period"].removesuffix("s"))
    least_ms = config.checkpoints.stop_wait if service["command"] == ["run"] else config.serve.drain
    assert grace_s >= least_ms / 1000 + 10
    assert service["hostname"] == name, "its name as a worker stays where the container is made anew"


def test_what_is_mounted_from_the_project_is_there() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", ())]
    for mount in mounts:
        assert re.fullmatch(r"[^\s:]+:/[^\s:]*(:ro)?", mount), mount
        source = mount.split(":")[0]
        if source.startswith("."):
            assert (FOLDER / source).exists(), mount
        else:
            assert source in COMPOSED["volumes"], mount


def test_who_makes_secrets_may_write_where_the_others_read_them() -> None:
    for name in OURS:
        mounts = set(SERVICES[name]["volumes"])
        end = "" if name == "secrets" else ":ro"
        assert {f"secrets:/run/stream-ml{end}", f"token:/run/token{end}"} <= mounts, name


def test_no_secret_stands_in_a_file_of_the_project() -> None:
    for file in FOLDER.rglob("*"):
        if file.is_file():
            assert not re.search(r"smk_|(password|secret|token): *[\"']?\w{12}", file.read_text("utf-8"), re.I), file


def test_three_brokers_keep_each_record_twice_before_it_counts() -> None:
    for name in ("kafka-1", "kafka-2", "kafka-3"):
        said = THREE["services"][name]["environment"]
        assert said["KAFKA_DEFAULT_REPLICATION_FACTOR"] == said["KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR"] == 3
        assert said["KAFKA_MIN_INSYNC_REPLICAS"] == said["KAFKA_TRANSACTION_STATE_LOG_MIN_ISR"] == 2
        assert said["KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE"] == "false"
    for name in (*OURS, "topics"):
        if name != "secrets":
            servers = THREE["services"][name]["environment"]["STREAM_ML_KAFKA__BOOTSTRAP_SERVERS"]
            assert servers.count("kafka-") == 3, name


@needs_prometheus
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    text = (FOLDER / "prometheus.yml").read_text("utf-8")
    config = yaml.safe_load(text.replace("/etc/prometheus/rules.yml", str(ROOT / "deploy/prometheus/rules.yml")))
    (tmp_path / "token").write_text("x" * 16, "utf-8")
    for job in config["scrape_configs"]:
        assert job["authorization"]["credentials_file"] == str(load_config(FOLDER / "stream_ml.yaml").http.token_file)
        job["authorization"]["credentials_file"] = str(tmp_path / "token")
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    promtool("check", "config", tmp_path / "prometheus.yml")
    asked = {target for job in config["scrape_configs"] for one in job["static_configs"] for target in one["targets"]}
    assert asked == {"worker-1:8080", "worker-2:8080", "api-1:8001", "api-2:8001"}


def test_the_balancer_sends_a_question_twice_only_where_that_is_the_same_as_once() -> None:
    text, config = (FOLDER / "haproxy.cfg").read_text("utf-8"), load_config(FOLDER / "stream_ml.yaml")
    assert "disable-l7-retry unless is_once" in text
    paths = set(re.search(r"acl is_once path (.*)", text)[1].split())  # type: ignore[index]
    assert paths == {"/v1/predict", "/predict"} and config.serve.record == "off"
    assert set(re.findall(r"server (api-\d) ", text)) == {name for name in OURS if name.startswith("api")}

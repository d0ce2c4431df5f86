"""The manifests: valid, without names that lead nowhere, and each planted mistake is found."""

import copy
import importlib.util
import shutil
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_ml.config import load_config
from tests.deploy.manifests import Document, findings, named, pod_of, rendered
from tests.support.paths import ROOT

FOLDER = ROOT / "deploy/kubernetes"
OVERLAYS = ("dev", "production", "secured")
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not there: it renders the overlays (1.27 or newer)"
)


@cache
def _rendered(name: str) -> list[Document]:
    return rendered(FOLDER / "overlays" / name if name in OVERLAYS else FOLDER / name)


def overlay(name: str) -> list[Document]:
    return copy.deepcopy(_rendered(name))


def one(documents: list[Document], name: str) -> Any:
    [found] = [document for document in documents if named(document) == name]
    return found


def made() -> dict[Path, str]:
    spec = importlib.util.spec_from_file_location("make", FOLDER / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.made()  # type: ignore[no-any-return]


@needs_kubectl
@pytest.mark.parametrize("name", ["base", *OVERLAYS])
def test_nothing_is_wrong_with_what_is_rendered(name: str) -> None:
    assert findings(overlay(name)) == []


@needs_kubectl
def test_a_component_of_runners_and_one_of_secrets_fit_the_base(tmp_path: Path) -> None:
    parts = [f"../{part}" for part in ("jobs", "external-secrets")]
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    tried = tmp_path / "kubernetes/components/tried"
    tried.mkdir()
    text = yaml.safe_dump({"kind": "Kustomization", "resources": ["../../base"], "components": parts})
    (tried / "kustomization.yaml").write_text(text, "utf-8")
    documents = rendered(tried)
    assert findings(documents) == [] and one(documents, "Deployment/stream-ml-jobs")


# --- planted mistakes ---


def _container(documents: list[Document], name: str) -> Any:
    pod = pod_of(one(documents, name))
    assert pod is not None
    return pod["spec"]["containers"][0]


WORKER, API = "StatefulSet/stream-ml-worker", "Deployment/stream-ml-api"
PLANTED: dict[str, tuple[Callable[[list[Document]], Any], str]] = {
    "a word that Kubernetes does not know": (
        lambda all_: one(all_, WORKER)["spec"].update(podManagementPolicy="Paralel"),
        "Paralel",
    ),
    "a key at the wrong depth": (
        lambda all_: one(all_, API)["spec"]["template"]["spec"].update(replicas=2),
        "Additional properties",
    ),
    "a container that may write everywhere": (
        lambda all_: _container(all_, WORKER)["securityContext"].update(readOnlyRootFilesystem=False),
        "readOnlyRootFilesystem",
    ),
    "a container as root": (
        lambda all_: pod_of(one(all_, API))["spec"]["securityContext"].pop("runAsNonRoot"),  # type: ignore[index]
        "runAsNonRoot",
    ),
    "a probe that asks for readiness before it kills": (
        lambda all_: _container(all_, WORKER)["livenessProbe"]["httpGet"].update(path="/readyz"),
        "livenessProbe asks /readyz",
    ),
    "a service whose selector has a slip": (
        lambda all_: one(all_, "Service/stream-ml-api")["spec"]["selector"].update(
            {"app.kubernetes.io/component": "apl"}
        ),
        "which no pod has",
    ),
    "a service that leads to no port": (
        lambda all_: one(all_, "Service/stream-ml-api")["spec"]["ports"][0].update(targetPort="http"),
        "leads to port http",
    ),
    "an image without a version": (
        lambda all_: _container(all_, API).update(image="stream-ml:latest"),
        "names no version",
    ),
    "no limit of memory": (lambda all_: _container(all_, WORKER)["resources"].pop("limits"), "memory is not limited"),
    "a mount of nothing": (
        lambda all_: _container(all_, API)["volumeMounts"].append({"name": "date", "mountPath": "/x"}),
        "mounts date",
    ),
    "a disruption budget for nobody": (
        lambda all_: one(all_, "PodDisruptionBudget/stream-ml-worker")["spec"]["selector"]["matchLabels"].update(
            {"app.kubernetes.io/component": "workers"}
        ),
        "which no pod has",
    ),
    "too short a time to end": (
        lambda all_: pod_of(one(all_, WORKER))["spec"].update(terminationGracePeriodSeconds=10),  # type: ignore[index]
        "is killed before",
    ),
    "a secret that nobody makes": (
        lambda all_: pod_of(one(all_, API))["spec"]["volumes"][1]["secret"].update(secretName="streamml"),  # type: ignore[index]
        "which nobody makes",
    ),
    "an autoscaler of something else": (
        lambda all_: one(all_, "HorizontalPodAutoscaler/stream-ml-api")["spec"]["scaleTargetRef"].update(name="api"),
        "scales api",
    ),
    "a namespace that allows everything": (
        lambda all_: one(all_, "Namespace/stream-ml")["metadata"].pop("labels"),
        "restricted",
    ),
}


@needs_kubectl
@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_found(mistake: str) -> None:
    documents = overlay("production")
    plant, words = PLANTED[mistake]
    plant(documents)
    found = findings(documents)
    assert found and any(words in text for text in found), found


# --- what is made, and what belongs together ---


def test_rules_and_chart_are_what_their_script_makes() -> None:
    for path, text in made().items():
        assert path.read_text("utf-8") == text, f"{path.relative_to(ROOT)}: python deploy/kubernetes/make.py"
    there = {path for path in (ROOT / "deploy/helm/stream-ml").rglob("*") if path.is_file()}
    assert there <= set(made()), "nothing lies in the chart by hand"


def test_the_operator_gets_the_rules_that_are_tested() -> None:
    own = yaml.safe_load((FOLDER / "components/monitoring/rules.yaml").read_text("utf-8"))["spec"]["groups"]
    assert own == yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text("utf-8"))["groups"]


@pytest.mark.parametrize("file", ["kubernetes/base/stream_ml.yaml", "compose/stream_ml.yaml"])
def test_the_example_s_configuration_is_one_with_the_ports_that_the_manifests_name(file: str) -> None:
    config = load_config(ROOT / "deploy" / file)
    assert (config.http.port, config.serve.port, config.serve.admin_port) == (8080, 8000, 8001)
    assert config.http.token_file is not None and config.serve.auth.keys_file is not None
    assert config.training_log.key_file and config.checkpoints.key_file and config.models.key_file
    assert config.events.schema_.name == "flight.avsc" and config.feedback.schema_.name == "arrival.avsc"


@needs_kubectl
@pytest.mark.parametrize("name", ["base", "production", "secured"])
def test_nobody_sets_a_number_that_an_autoscaler_sets(name: str) -> None:
    documents = overlay(name)
    for document in documents:
        target = document.get("spec", {}).get("scaleTargetRef")
        if target is not None:
            assert "replicas" not in one(documents, f"{target.get('kind', 'Deployment')}/{target['name']}")["spec"]


@needs_kubectl
def test_a_scaler_knows_the_group_the_topic_and_that_markers_stay_unread() -> None:
    config = load_config(FOLDER / "base/stream_ml.yaml")
    spec = one(overlay("production"), "ScaledObject/stream-ml-worker")["spec"]
    asked = spec["triggers"][0]["metadata"]
    assert (asked["consumerGroup"], asked["topic"]) == (config.app.id, config.events.topic)
    assert spec["minReplicaCount"] >= 1 and int(asked["activationLagThreshold"]) >= spec["maxReplicaCount"]
    assert asked["excludePersistentLag"] == "true"
    assert "replicas" not in one(overlay("production"), WORKER)["spec"], "two who set it would undo each other"


@needs_kubectl
def test_a_secured_kafka_is_asked_by_every_pod_and_by_the_scaler() -> None:
    documents = overlay("secured")
    trigger = one(documents, "ScaledObject/stream-ml-worker")["spec"]["triggers"][0]
    assert one(documents, f"TriggerAuthentication/{trigger['authenticationRef']['name']}")
    assert trigger["metadata"]["tls"] == "enable"
    for name in (WORKER, API, "CronJob/stream-ml-audit"):
        env = {item["name"]: item.get("value") for item in _container(documents, name)["env"]}
        assert env["STREAM_ML_KAFKA__PROPERTIES__SECURITY_PROTOCOL"] == "SASL_SSL"
        assert env["STREAM_ML_SECRETS"] == "/run/kafka/values"


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    for file in FOLDER.rglob("kustomization.yaml"):
        for image in yaml.safe_load(file.read_text("utf-8")).get("images", ()):
            assert image["newTag"] == project, file

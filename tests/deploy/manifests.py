"""What is wrong with manifests of Kubernetes, beyond what their schema says: names that lead nowhere, pods that may too
much, probes that ask something else.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

VERSION = "1.36"
OTHERS = {
    "PodMonitor",
    "PrometheusRule",
    "ScaledObject",
    "TriggerAuthentication",
    "ExternalSecret",
}  # of operators: no schema is here
SECRETS = {"stream-ml", "stream-ml-kafka"}  # whoever deploys makes them
PATHS = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
GRACE_S = {"worker": 45, "api": 30, "jobs": 30}  # at least: what ends in an orderly way within takes that long
POD_MUST = {
    ("automountServiceAccountToken",): False,
    ("enableServiceLinks",): False,
    ("securityContext", "runAsNonRoot"): True,
    ("securityContext", "seccompProfile", "type"): "RuntimeDefault",
}
CONTAINER_MUST = {
    ("securityContext", "allowPrivilegeEscalation"): False,
    ("securityContext", "readOnlyRootFilesystem"): True,
    ("securityContext", "capabilities", "drop"): ["ALL"],
}

WORDS = {  # of which the schema says no more than that they are text
    "podManagementPolicy": {"Parallel"},  # in order, a worker that is not ready would hold up all behind it
    "restartPolicy": {"Always", "OnFailure", "Never"},
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "concurrencyPolicy": {"Allow", "Forbid", "Replace"},
    "whenUnsatisfiable": {"ScheduleAnyway", "DoNotSchedule"},
    "fsGroupChangePolicy": {"OnRootMismatch", "Always"},
    "protocol": {"TCP", "UDP", "SCTP"},
}

Document = dict[str, Any]


def rendered(folder: Path) -> list[Document]:
    """What kubectl makes of a folder of kustomize."""
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def findings(documents: list[Document]) -> list[str]:
    """All that is wrong, a line each."""
    return [f"{named(one)}: {text}" for one in documents for text in _of_one(one, documents)]


def named(document: Document) -> str:
    """Kind and name."""
    return f"{document['kind']}/{document['metadata']['name']}"


def _of_one(document: Document, documents: list[Document]) -> Iterator[str]:
    kind = document["kind"]
    if kind not in OTHERS:
        try:
            kubernetes_validate.validate(document, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{'.'.join(map(str, error.path))}: {error.message[:200]}"
            return
    yield from _wrong_words(document)
    pod = pod_of(document)
    if pod is not None:
        yield from _of_pod(document, pod, documents)
    selector = selector_of(document)
    if selector is not None and not any(matches(selector, labels) for labels in labels_of(documents)):
        yield f"selects {selector}, which no pod has"
    if kind == "Service":
        yield from _of_service(document, documents)
    target = document.get("spec", {}).get("scaleTargetRef")
    if target is not None and f"{target.get('kind', 'Deployment')}/{target['name']}" not in map(named, documents):
        yield f"scales {target['name']}, which is not there"
    if (
        kind == "Namespace"
        and document["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted"
    ):
        yield "does not enforce the restricted pod security standard"


def _wrong_words(node: Any) -> Iterator[str]:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if key in WORDS and isinstance(value, str) and value not in WORDS[key]:
            yield f"{key} is {value}, none of {', '.join(sorted(WORDS[key]))}"
        yield from _wrong_words(value)


def pod_of(document: Document) -> Document | None:
    """The pod that a document makes."""
    kind, spec = document["kind"], document.get("spec", {})
    if kind in ("StatefulSet", "Deployment"):
        return spec["template"]  # type: ignore[no-any-return]
    return spec["jobTemplate"]["spec"]["template"] if kind == "CronJob" else None


def selector_of(document: Document) -> dict[str, str] | None:
    """Labels that a document looks for."""
    spec = document.get("spec", {})
    if document["kind"] == "Service":
        return spec.get("selector")  # type: ignore[no-any-return]
    found = spec.get("selector", spec.get("podSelector"))
    return found.get("matchLabels") if isinstance(found, dict) else None


def labels_of(documents: list[Document]) -> list[dict[str, str]]:
    """Of all pods."""
    return [pod["metadata"].get("labels", {}) for one in documents if (pod := pod_of(one)) is not None]


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether all that is looked for is there."""
    return all(labels.get(key) == value for key, value in selector.items())


def _at(node: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _of_pod(document: Document, pod: Document, documents: list[Document]) -> Iterator[str]:
    spec, component = pod["spec"], pod["metadata"].get("labels", {}).get("app.kubernetes.io/component", "")
    for path, wanted in POD_MUST.items():
        if _at(spec, path) != wanted:
            yield f"{'.'.join(path)} is not {wanted}"
    account = spec.get("serviceAccountName")
    if f"ServiceAccount/{account}" not in map(named, documents):
        yield f"runs as {account}, which is not there"
    least = GRACE_S.get(component, 0)
    if spec.get("terminationGracePeriodSeconds", 30) < least:
        yield f"is killed before {least} s are over"
    volumes = {one["name"] for one in spec.get("volumes", ())}
    volumes |= {one["metadata"]["name"] for one in document["spec"].get("volumeClaimTemplates", ())}
    for one in spec.get("volumes", ()):
        configured = one.get("configMap", {}).get("name")
        if configured and f"ConfigMap/{configured}" not in map(named, documents):
            yield f"mounts the configuration {configured}, which is not there"
        if "secret" in one and one["secret"]["secretName"] not in SECRETS:
            yield f"mounts the secret {one['secret']['secretName']}, which nobody makes"
    for container in spec["containers"]:
        for text in _of_container(container, volumes, runs_on=document["kind"] != "CronJob"):
            yield f"{container['name']}: {text}"


def _of_container(container: Document, volumes: set[str], *, runs_on: bool) -> Iterator[str]:
    for path, wanted in CONTAINER_MUST.items():
        if _at(container, path) != wanted:
            yield f"{'.'.join(path)} is not {wanted}"
    tag = re.search(r":([\w.-]+)$", container["image"])
    if tag is None or tag[1] == "latest":
        yield f"the image {container['image']} names no version"
    limit, asked = (
        _at(container, ("resources", "limits", "memory")),
        _at(container, ("resources", "requests", "memory")),
    )
    if limit is None or limit != asked:
        yield "memory is not limited to what it asks for"
    for mount in container.get("volumeMounts", ()):
        if mount["name"] not in volumes:
            yield f"mounts {mount['name']}, which is no volume"
    ports = {one["name"] for one in container.get("ports", ())}
    for probe, path in PATHS.items() if runs_on else ():
        asks = _at(container, (probe, "httpGet"))
        if asks is None:
            yield f"has no {probe}"
        elif asks["path"] != path or asks["port"] not in ports:
            yield f"{probe} asks {asks['path']} on {asks['port']}"


def _of_service(document: Document, documents: list[Document]) -> Iterator[str]:
    selector = document["spec"]["selector"]
    chosen = [pod for one in documents if (pod := pod_of(one)) and matches(selector, pod["metadata"]["labels"])]
    there = {port["name"] for pod in chosen for c in pod["spec"]["containers"] for port in c.get("ports", ())}
    for port in document["spec"]["ports"]:
        if port.get("targetPort", port["port"]) not in there:
            yield f"leads to port {port.get('targetPort', port['port'])}, which no container names"

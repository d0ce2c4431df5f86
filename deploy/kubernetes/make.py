"""Makes of the plain manifests what would otherwise say the same twice: the operator's rules, and a Helm chart.

``python deploy/kubernetes/make.py`` writes components/monitoring/rules.yaml and deploy/helm/stream-ml; a test holds
that they are what this makes. The chart is the base of kustomize, with what people change as values.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHART = HERE.parent / "helm/stream-ml"
MADE = "# Made by deploy/kubernetes/make.py: change what it is made of.\n"

Document = dict[str, Any]


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def dumped(document: Any) -> str:
    """As YAML, keys in their order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=1_000, allow_unicode=True)


def documents(file: Path) -> list[Document]:
    """All of a file."""
    return [one for one in yaml.safe_load_all(file.read_text("utf-8")) if one]


def rules() -> str:
    """Prometheus' rules as the operator wants them."""
    groups = yaml.safe_load((HERE.parent / "prometheus/rules.yml").read_text("utf-8"))["groups"]
    kind = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "stream-ml"}}
    return MADE + dumped({**kind, "spec": {"groups": groups}})


# --- the chart ---

VALUES = """\
# Every value with its default, which is what the plain manifests say.
image: {repository: stream-ml, tag: "", pullPolicy: IfNotPresent} # tag "": the chart's version of the service
imagePullSecrets: []
secret: stream-ml # with token, log.key, checkpoints.key, models.key, api_keys.json: deploy/kubernetes/make_secrets.sh
config: "" # the text of stream_ml.yaml; "": the example's. Paths in it begin with /config/ for what `files` holds
files: {} # schemas, model.py: name and text of each
extraEnv: [] # of every container
worker:
  replicas: 2
  resources: {requests: {cpu: 500m, memory: 1Gi}, limits: {memory: 1Gi}}
  storage: {enabled: true, size: 5Gi, className: ""}
api:
  enabled: true
  replicas: 2
  resources: {requests: {cpu: 500m, memory: 512Mi}, limits: {memory: 512Mi}}
  autoscaling: {enabled: true, minReplicas: 2, maxReplicas: 6, cpu: 60}
audit: {enabled: true, schedule: "17 3 * * *"}
networkPolicy: {enabled: true}
monitoring: {enabled: false} # PodMonitors and rules, for the Prometheus operator
nodeSelector: {}
tolerations: []
podAnnotations: {}
"""

CHART_YAML = """\
apiVersion: v2
name: stream-ml
description: "Online learning from Kafka: score events, learn from their labels, exactly once"
type: application
version: {version}
appVersion: "{version}"
kubeVersion: ">=1.27.0-0"
"""

NOTES = """\
Workers and replicas of the API start in {{ .Release.Namespace }}. They need the Secret {{ .Values.secret }} there
(deploy/kubernetes/make_secrets.sh), and the topics:

  stream-ml topics create stream_ml.yaml

Is a worker ready, and why not:

  kubectl -n {{ .Release.Namespace }} exec {{ .Release.Name }}-worker-0 -- stream-ml probe
"""


def said(expression: str) -> str:
    """A mark that becomes a template's expression once all is YAML."""
    return f"<<{expression}>>"


def block(expression: str) -> str:
    """A mark that becomes an expression whose value has several lines."""
    return f"<<=={expression}>>"


def templated(text: str) -> str:
    """Marks as templates; a block is indented as deep as its key asks."""

    def of_block(found: re.Match[str]) -> str:
        indent = len(found[1]) + 2
        return f"{found[1]}{found[2]}: {{{{- toYaml {found[3]} | nindent {indent} }}}}"

    text = re.sub(r"^( *)([\w.-]+): '?<<==(.*?)>>'?$", of_block, text, flags=re.MULTILINE)
    return re.sub(r"'?<<(.*?)>>'?", r"{{ \1 }}", text)


def renamed(node: Any) -> Any:
    """With the release's name in the place of ours: what stands in names and in references to them."""
    if isinstance(node, dict):
        return {key: renamed(value) for key, value in node.items()}
    if isinstance(node, list):
        return [renamed(value) for value in node]
    if isinstance(node, str) and re.fullmatch(r"stream-ml-(worker|api|audit)", node):
        return node.replace("stream-ml", said(".Release.Name"), 1)
    return node


def pod_of(document: Document) -> Document | None:
    """The pod that a document makes."""
    kind, spec = document["kind"], document.get("spec", {})
    if kind in ("StatefulSet", "Deployment"):
        return spec["template"]  # type: ignore[no-any-return]
    return spec["jobTemplate"]["spec"]["template"] if kind == "CronJob" else None


def labelled(document: Document) -> None:
    """The labels that kustomize would give, and the release's."""
    own = {"app.kubernetes.io/name": "stream-ml", "app.kubernetes.io/instance": said(".Release.Name")}
    metadata, spec = document["metadata"], document.get("spec", {})
    metadata["labels"] = {**own, "app.kubernetes.io/managed-by": said(".Release.Service"), **metadata.get("labels", {})}
    for selector in (spec.get("selector"), spec.get("podSelector")):
        if isinstance(selector, dict):
            selector.setdefault("matchLabels", selector if document["kind"] == "Service" else {})
    if document["kind"] == "Service":
        found = spec["selector"].pop("matchLabels")
        spec["selector"] = {**own, **{key: value for key, value in found.items() if key != "matchLabels"}}
    elif "selector" in spec:
        spec["selector"]["matchLabels"] = {**own, **spec["selector"]["matchLabels"]}
    if "podSelector" in spec:
        spec["podSelector"]["matchLabels"] = {**own, **spec["podSelector"]["matchLabels"]}
    pod = pod_of(document)
    if pod is not None:
        pod["metadata"]["labels"] = {**own, **pod["metadata"]["labels"]}
        for spread in pod["spec"].get("topologySpreadConstraints", ()):
            spread["labelSelector"]["matchLabels"] = {**own, **spread["labelSelector"]["matchLabels"]}


def valued(document: Document) -> None:
    """With values where people change things."""
    pod, name = pod_of(document), document["metadata"]["name"].removeprefix("stream-ml-")
    if document["kind"] == "PodMonitor":
        for endpoint in document["spec"]["podMetricsEndpoints"]:
            endpoint["authorization"]["credentials"]["name"] = said(".Values.secret")
    if pod is None:
        return
    pod["metadata"]["annotations"] = block(
        '(merge (dict "checksum/config" (include "stream-ml.config" . | sha256sum)) .Values.podAnnotations)'
    )
    spec = pod["spec"]
    spec |= {key: block(f".Values.{key}") for key in ("imagePullSecrets", "nodeSelector", "tolerations")}
    spec["volumes"] = spec.pop("volumes")  # last: another one may follow
    container = spec["containers"][0]
    container["image"] = said('printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion)')
    container["imagePullPolicy"] = said(".Values.image.pullPolicy")
    if name in ("worker", "api"):
        container["resources"] = block(f".Values.{name}.resources")
        document["spec"]["replicas"] = said(f".Values.{name}.replicas")
    if "env" in container:
        container["env"].append("EXTRA")
    for volume in spec["volumes"]:
        if volume["name"] == "config":
            volume["configMap"]["name"] = said('printf "%s-config" .Release.Name')
        if volume["name"] == "secrets":
            volume["secret"]["secretName"] = said(".Values.secret")
    if document["kind"] == "CronJob":
        document["spec"]["schedule"] = said(".Values.audit.schedule | quote")


def template(document: Document) -> str:
    """One document as a template."""
    labelled(document)
    valued(document)
    text = templated(dumped(renamed(document)))
    text = re.sub(r"^( *)- EXTRA$", _extra_env, text, flags=re.M)
    kind, name = document["kind"], document["metadata"]["name"]
    if kind == "StatefulSet":
        text = _with_storage(text)
    if kind == "Deployment" and name.endswith("api"):
        text = re.sub(
            r"^  replicas: .*\n", "{{- if not .Values.api.autoscaling.enabled }}\n\\g<0>{{- end }}\n", text, flags=re.M
        )
    if kind == "HorizontalPodAutoscaler":
        for key in ("minReplicas", "maxReplicas"):
            text = re.sub(rf"{key}: \d+", f"{key}: {{{{ .Values.api.autoscaling.{key} }}}}", text)
        text = re.sub(r"averageUtilization: \d+", "averageUtilization: {{ .Values.api.autoscaling.cpu }}", text)
    conditions = []
    if name.endswith("-api"):
        conditions.append(".Values.api.enabled")
    if kind == "HorizontalPodAutoscaler":
        conditions.append(".Values.api.autoscaling.enabled")
    conditions += {"NetworkPolicy": [".Values.networkPolicy.enabled"], "CronJob": [".Values.audit.enabled"]}.get(
        kind, []
    )
    if conditions:
        asked = conditions[0] if len(conditions) == 1 else f"and {' '.join(conditions)}"
        return f"{{{{- if {asked} }}}}\n{text}{{{{- end }}}}\n"
    return text


def _extra_env(found: re.Match[str]) -> str:
    indent = found[1]
    return f"{indent}{{{{- with .Values.extraEnv }}}}{{{{ toYaml . | nindent {len(indent)} }}}}{{{{ end }}}}"


def _with_storage(text: str) -> str:
    head, _, claims = text.partition("  volumeClaimTemplates:\n")
    claims = re.sub(r"storage: \S+", "storage: {{ .Values.worker.storage.size }}", claims)
    named = "{{- with .Values.worker.storage.className }}\n      storageClassName: {{ . }}\n      {{- end }}"
    claims = claims.replace("      accessModes:", f"      {named}\n      accessModes:")
    return (
        f"{head}      {{{{- if not .Values.worker.storage.enabled }}}}\n"
        "      - name: data\n        emptyDir: {}\n"
        f"      {{{{- else }}}}\n  volumeClaimTemplates:\n{claims}      {{{{- end }}}}\n"
    )


def chart() -> dict[str, str]:
    """Every file of the chart by its path."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    example = (HERE / "base/stream_ml.yaml").read_text("utf-8")
    helpers = (
        '{{- define "stream-ml.config" -}}\n'
        '{{- .Values.config | default (.Files.Get "stream_ml.yaml") -}}\n'
        "{{- toYaml .Values.files -}}\n{{- end -}}\n"
    )
    config = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-config\n"
        "  labels:\n    app.kubernetes.io/name: stream-ml\n    app.kubernetes.io/instance: {{ .Release.Name }}\n"
        "    app.kubernetes.io/managed-by: {{ .Release.Service }}\n"
        'data:\n  stream_ml.yaml: |\n{{ .Values.config | default (.Files.Get "stream_ml.yaml") | indent 4 }}\n'
        "{{- range $name, $text := .Values.files }}\n  {{ $name }}: |\n{{ $text | indent 4 }}\n{{- end }}\n"
    )
    found = {
        "Chart.yaml": MADE + CHART_YAML.format(version=version),
        "values.yaml": MADE + VALUES,
        "stream_ml.yaml": example,
        "templates/_helpers.tpl": helpers,
        "templates/NOTES.txt": NOTES,
        "templates/config.yaml": MADE + config,
    }
    for file in ("accounts", "worker", "api", "network", "audit"):
        found[f"templates/{file}.yaml"] = MADE + "---\n".join(map(template, documents(HERE / f"base/{file}.yaml")))
    monitors = "---\n".join(map(template, documents(HERE / "components/monitoring/monitors.yaml")))
    # What is in {{ }} of the rules is Prometheus' own.
    own = re.sub(r"\{\{.*?\}\}", lambda found: "{{ `" + found[0] + "` }}", rules().removeprefix(MADE))
    found["templates/monitoring.yaml"] = (
        f"{MADE}{{{{- if .Values.monitoring.enabled }}}}\n{monitors}---\n"
        f"{own.replace('name: stream-ml', 'name: {{ .Release.Name }}', 1)}{{{{- end }}}}\n"
    )
    return found


def made() -> dict[Path, str]:
    """Every file that is made, with its text."""
    files = {CHART / path: text for path, text in chart().items()}
    return {HERE / "components/monitoring/rules.yaml": rules(), **files}


if __name__ == "__main__":
    for path, text in made().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

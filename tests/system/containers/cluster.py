"""``make cluster``: workers and replicas of the API as pods of a real Kubernetes; flights are played and asked for.

A pod is deleted, one is killed, all are restarted one after the other, there are more and fewer, and the model
becomes another one with its image. The broker is on this machine. The last line is JSON; exit code 1 where anything was
lost, twice, or not answered.

It needs kubectl with a cluster (KUBECONFIG), Docker, a command that brings an image onto the nodes (``--load``, for
example ``kind load docker-image {}``), and the address under which pods reach this machine (``--host``). It plays the
part of kube-proxy itself: it asks the addresses that the Service's EndpointSlices have.
"""

import argparse
import base64
import contextlib
import json
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from stream_ml.config import load_config
from stream_ml.demo.upgrade import write_model
from stream_ml.embedded.broker import EmbeddedKafka
from stream_ml.kafka.topics import create_topics
from stream_ml.serve.access.keys import new_key, write_keys
from tests.support.paths import ROOT
from tests.system.containers.asking import Address, Asker

NAMESPACE, IMAGES = "stream-ml-tried", ("stream-ml:tried-1", "stream-ml:tried-2")
WORKERS, API = "statefulset/stream-ml-worker", "deployment/stream-ml-api"
READY_S = 240.0
VOLUMES = 4
PROPERTIES = """\
listeners=PLAINTEXT://0.0.0.0:{{port}},CONTROLLER://127.0.0.1:{{controller}}
advertised.listeners=PLAINTEXT://{host}:{{port}}
"""
DOCKERFILE = "FROM stream-ml:tried\nCOPY --chmod=0644 . /etc/stream-ml/\n"


def kubectl(*words: str, given: str = "", check: bool = True) -> str:
    """One command in the namespace; its standard output."""
    done = subprocess.run(
        ["kubectl", "-n", NAMESPACE, *words], input=given or None, capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        raise RuntimeError(f"kubectl {' '.join(words)}: {done.stderr}")
    return done.stdout


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def seconds(work: Callable[[], Any]) -> float:
    """How long something takes."""
    began_s = time.monotonic()
    work()
    return round(time.monotonic() - began_s, 1)


def until(fact: Callable[[], Any], words: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + READY_S
    while not fact():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {READY_S:.0f} s: {words}\n{kubectl('get', 'pods', '-o', 'wide')}")
        time.sleep(0.3)  # between two looks


# --- what is brought there ---


def images(folder: Path, load: str) -> None:
    """Two images of one app: the same configuration, another model."""
    legacy = {**os.environ, "DOCKER_BUILDKIT": "0"}
    build = ["docker", "build", "-q", "-f", "deploy/docker/Dockerfile", "--build-arg", "VARIANT=demo", "-t"]
    subprocess.run([*build, "stream-ml:tried", "."], cwd=ROOT, check=True, capture_output=True, env=legacy)
    for number, image in enumerate(IMAGES):
        app = folder / f"app-{number}"
        app.mkdir()
        (app / "Dockerfile").write_text(DOCKERFILE.replace("--chmod=0644 ", ""), "utf-8")
        settings = yaml.safe_load((ROOT / "deploy/kubernetes/base/stream_ml.yaml").read_text("utf-8"))
        settings["model"]["factory"] = "flight_model:build"
        (app / "stream_ml.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")
        write_model(app, after=bool(number))
        subprocess.run(["docker", "build", "-q", "-t", image, str(app)], check=True, capture_output=True, env=legacy)
        subprocess.run(shlex.split(load.replace("{}", image)), check=True, capture_output=True)


def secret() -> tuple[str, str, str]:
    """The Secret as a manifest, an API key, and the token of the workers' port."""
    with tempfile.TemporaryDirectory() as folder:
        key, kept = new_key("tried", ["predict"])
        write_keys(Path(folder) / "keys.json", [kept])
        files = {"api_keys.json": (Path(folder) / "keys.json").read_bytes()}
    files |= {name: secrets.token_hex(32).encode() for name in ("token", "log.key", "checkpoints.key", "models.key")}
    data = {name: base64.b64encode(value).decode() for name, value in files.items()}
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "stream-ml"}, "data": data}
    return json.dumps(manifest), key, files["token"].decode()


def volumes(folder: Path) -> str:
    """Volumes on the node: where nobody provides any, a claim takes one of these."""
    found = []
    for number in range(VOLUMES):
        (folder / f"volume-{number}").mkdir()
        (folder / f"volume-{number}").chmod(0o777)
        spec = {
            "capacity": {"storage": "5Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder / f"volume-{number}")},
        }
        metadata = {"name": f"{NAMESPACE}-{number}"}
        found.append({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec})
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": found})


def manifests(folder: Path, servers: str) -> str:
    """The base, with the app's image and where Kafka is."""
    env = [
        {"name": "STREAM_ML_CONFIG", "value": "/etc/stream-ml/stream_ml.yaml"},
        {"name": "STREAM_ML_KAFKA__BOOTSTRAP_SERVERS", "value": servers},
    ]
    patch = [
        {"op": "replace", "path": "/spec/template/spec/containers/0/env/0", "value": env[0]},
        {"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": env[1]},
        {"op": "add", "path": "/spec/template/spec/containers/0/imagePullPolicy", "value": "Never"},
        {"op": "replace", "path": "/spec/template/spec/containers/0/resources/requests/cpu", "value": "50m"},
    ]
    gone = {"$patch": "delete", "kind": "any", "metadata": {"name": "any"}}
    name, _, tag = IMAGES[0].partition(":")
    kustomization = {
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": [os.path.relpath(ROOT / "deploy/kubernetes/base", folder)],
        "images": [{"name": "stream-ml", "newName": name, "newTag": tag}],
        "replicas": [{"name": "stream-ml-api", "count": 2}],
        "patches": [
            {"target": {"kind": "StatefulSet|Deployment"}, "patch": yaml.safe_dump(patch)},
            {"target": {"kind": "HorizontalPodAutoscaler|CronJob"}, "patch": yaml.safe_dump(gone)},
        ],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), "utf-8")
    return kubectl("kustomize", str(folder))


# --- who asks ---


class Endpoints(threading.Thread):
    """The addresses of a Service that are ready, as its EndpointSlices say."""

    def __init__(self, service: str, port: int) -> None:
        super().__init__(daemon=True)
        self._service, self._port, self.ready, self._turns = service, port, list[Address](), 0

    def run(self) -> None:
        while True:
            with contextlib.suppress(RuntimeError, json.JSONDecodeError):
                slices = json.loads(
                    kubectl("get", "endpointslices", "-l", f"kubernetes.io/service-name={self._service}", "-o", "json")
                )
                self.ready = [
                    (address, self._port)
                    for one in slices["items"]
                    for endpoint in one.get("endpoints") or ()
                    if endpoint["conditions"].get("ready")
                    for address in endpoint["addresses"]
                ]
            time.sleep(0.2)  # between two looks

    def in_turn(self) -> list[Address]:
        """Those that are ready, each time another one first."""
        found, self._turns = self.ready, self._turns + 1
        first = self._turns % max(1, len(found))
        return [*found[first:], *found[:first]]


# --- what is done to them ---


def pods(component: str) -> list[dict[str, Any]]:
    """Pods of a part of the service that are not about to end."""
    found = json.loads(kubectl("get", "pods", "-l", f"app.kubernetes.io/component={component}", "-o", "json"))["items"]
    return [one for one in found if "deletionTimestamp" not in one["metadata"]]


def are_ready(component: str, count: int) -> bool:
    """Whether there are so many pods, all of them ready."""
    found = pods(component)
    conditions = [{c["type"]: c["status"] for c in one["status"].get("conditions", ())} for one in found]
    return len(found) == count and all(one.get("Ready") == "True" for one in conditions)


def replaced(pod: str, component: str, *flags: str) -> float:
    """Delete a pod; seconds until another one in its place is ready."""
    count, before = len(pods(component)), {one["metadata"]["uid"] for one in pods(component)}

    def work() -> None:
        kubectl("delete", "pod", pod, "--wait=false", *flags)
        until(
            lambda: {one["metadata"]["uid"] for one in pods(component)} != before and are_ready(component, count),
            f"another {component} in the place of {pod}",
        )

    return seconds(work)


def restarted(what: str) -> float:
    """Replace all of a kind, one after the other."""

    def work() -> None:
        kubectl("rollout", "restart", what)
        kubectl("rollout", "status", what, f"--timeout={READY_S:.0f}s")

    return seconds(work)


def scaled(what: str, component: str, count: int) -> float:
    """Have so many."""

    def work() -> None:
        kubectl("scale", what, f"--replicas={count}")
        until(lambda: are_ready(component, count), f"{count} of {component}")

    return seconds(work)


def upgraded(token: str) -> dict[str, Any]:
    """Have the image of another model; seconds until all pods are new, and until the new model serves."""
    before, began_s = serving(token), time.monotonic()
    for what, container in ((WORKERS, "worker"), (API, "api")):
        kubectl("set", "image", what, f"{container}={IMAGES[1]}")
    for what in (WORKERS, API):
        kubectl("rollout", "status", what, f"--timeout={READY_S:.0f}s")
    rolled_s = time.monotonic() - began_s
    until(lambda: serving(token) not in ("", before), "the new model serves")
    return {
        "from": before,
        "to": serving(token),
        "rolled_s": round(rolled_s, 1),
        "serves_s": round(time.monotonic() - began_s, 1),
    }


def serving(token: str) -> str:
    """The model that serves, as a worker says; empty where none says."""
    for pod in pods("worker"):
        asked = urllib.request.Request(f"http://{pod['status'].get('podIP')}:8080/v1/status")
        asked.add_header("Authorization", f"Bearer {token}")
        with contextlib.suppress(OSError, ValueError, LookupError), urllib.request.urlopen(asked, timeout=5) as answer:
            return str(json.load(answer)["model"]["lineage"])
    return ""


def tried(folder: Path, host: str, load: str, flights: int) -> dict[str, Any]:
    """All of it, once."""
    result: dict[str, Any] = {"images_s": seconds(lambda: images(folder, load))}
    say(f"images are there after {result['images_s']} s")
    with EmbeddedKafka(folder / "kafka", settings=PROPERTIES.format(host=host)) as kafka:
        servers = f"{host}:{kafka.port}"
        given, key, token = secret()
        config_file = folder / "app-0" / "stream_ml.yaml"
        here = {"kafka.bootstrap_servers": servers} | {
            f"{source}.schema": str(ROOT / f"schemas/{name}.avsc")
            for source, name in (("events", "flight"), ("feedback", "arrival"))
        }
        for name, file in (("training_log", "log"), ("models", "models"), ("checkpoints", "checkpoints")):
            path = folder / f"{file}.key"
            path.write_bytes(base64.b64decode(json.loads(given)["data"][path.name]))
            here[f"{name}.key_file"] = str(path)
        create_topics(load_config(config_file, [f"{key}={value}" for key, value in here.items()]), 4, dry_run=False)
        kubectl("apply", "-f", "-", given=volumes(folder))
        kubectl("apply", "-f", "-", given=given)
        up_s = time.monotonic()
        kubectl("apply", "-f", "-", given=manifests(folder, servers))
        until(lambda: are_ready("worker", 2) and are_ready("api", 2), "two workers and two replicas of the API")
        result["ready_s"] = round(time.monotonic() - up_s, 1)
        say(f"ready after {result['ready_s']} s")
        endpoints = Endpoints("stream-ml-api", 8000)
        endpoints.start()
        until(lambda: endpoints.ready, "an address of the API")
        asker = Asker(endpoints.in_turn, key)
        asker.start()
        command = [sys.executable, "-m", "stream_ml", "demo", "--config", str(config_file), "--limit", str(flights)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
        environment |= {f"STREAM_ML_{name.upper().replace('.', '__')}": value for name, value in here.items()}
        playing = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder)
        steps: dict[str, Callable[[], Any]] = {
            "worker_deleted_s": lambda: replaced("stream-ml-worker-0", "worker"),
            "worker_killed_s": lambda: replaced("stream-ml-worker-1", "worker", "--force", "--grace-period=0"),
            "api_deleted_s": lambda: replaced(pods("api")[0]["metadata"]["name"], "api"),
            "workers_restarted_s": lambda: restarted(WORKERS),
            "api_restarted_s": lambda: restarted(API),
            "workers_3_s": lambda: scaled(WORKERS, "worker", 3),
            "workers_2_s": lambda: scaled(WORKERS, "worker", 2),
            "api_3_s": lambda: scaled(API, "api", 3),
            "api_2_s": lambda: scaled(API, "api", 2),
            "upgrade": lambda: upgraded(token),
        }
        for name, step in steps.items():
            if playing.poll() is not None:
                raise RuntimeError(f"the flights ended with {playing.returncode} before {name}: play more")
            result[name] = step()
            say(f"{name}: {result[name]}")
        said, _ = playing.communicate(timeout=1_800)
        asker.end()
        told = json.loads(said.splitlines()[-1])
        result |= told | {"exit": playing.returncode}
        result["longest_pause_s"] = {"predictions": told["longest_pause_s"], "answers": round(asker.longest_s, 1)}
        result |= {**asker.result, "asked_again": asker.again, "answers_by": dict(asker.by_lineage)}
    return result


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--host", required=True, help="under which pods reach this machine")
    options.add_argument("--load", default="kind load docker-image {}", help="brings an image onto the nodes")
    options.add_argument("--flights", type=int, default=60_000)
    options.add_argument("--keep", action="store_true", help="leave the namespace there")
    given = options.parse_args()
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    began_s = time.monotonic()
    subprocess.run(
        ["kubectl", "apply", "-f", "-"], input=json.dumps(namespace), text=True, check=True, capture_output=True
    )
    with tempfile.TemporaryDirectory(prefix="stream-ml-cluster-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        try:
            result = tried(Path(name), given.host, given.load, given.flights)
        except BaseException:
            say(kubectl("get", "pods", "-o", "wide", check=False))
            for pod in kubectl("get", "pods", "-o", "name", check=False).split():
                say(f"{pod}\n{kubectl('logs', '--tail=8', pod, check=False)}")
            raise
        finally:
            if not given.keep:
                kubectl("delete", "namespace", NAMESPACE, "--wait=false", check=False)
                for number in range(VOLUMES):
                    kubectl("delete", "pv", f"{NAMESPACE}-{number}", "--wait=false", check=False)
    result["seconds"] = round(time.monotonic() - began_s, 1)
    print(json.dumps(result))
    sys.exit(0 if not (result["lost"] or result["duplicated"] or result["failed_requests"]) else 1)


if __name__ == "__main__":
    main()

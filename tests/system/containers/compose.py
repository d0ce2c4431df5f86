"""``make compose``: the composed service, brought up, asked, killed piece by piece while flights are played; counted.

The last line is JSON; exit code 1 where anything was lost, twice, not answered or not restarted.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from typing import Any

from stream_ml.embedded.broker import free_port
from tests.support.paths import ROOT
from tests.system.containers.asking import Asker
from tests.system.containers.stand_ins import had

PROJECT, TAG = "stream-ml-tried", "tried"
FILES = ("compose.yaml", "three-brokers.yaml")
KILLED = ("worker-1", "api-1", "kafka-1", "balancer", "worker-2", "api-2")
BACK_S = 90.0  # for what was killed to be healthy again


class Composed:
    """A project of Docker Compose on ports of its own."""

    def __init__(self, *, three: bool, flights: int) -> None:
        names = FILES if three else FILES[:1]
        files = [word for name in names for word in ("-f", str(ROOT / "deploy/compose" / name))]
        self._command = ["docker", "compose", "-p", PROJECT, *files]
        ports = ("API_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT", "GRAFANA_PORT")
        self.ports = {name: free_port() for name in ports}
        self._env = {
            **os.environ,
            **{name: str(port) for name, port in self.ports.items()},
            "STREAM_ML_TAG": TAG,
            "FLIGHTS": str(flights),
        }

    def do(self, *words: str, check: bool = True) -> str:
        """One command of Compose; its standard output."""
        done = subprocess.run([*self._command, *words], env=self._env, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"docker compose {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def begun(self, *words: str) -> "subprocess.Popen[str]":
        """One that goes on beside."""
        return subprocess.Popen([*self._command, *words], env=self._env, stdout=subprocess.PIPE, text=True)

    def inspect(self, service: str, template: str) -> str:
        """Of the container of a service."""
        name = self.do("ps", "-a", "-q", service).strip()
        done = subprocess.run(
            ["docker", "inspect", "--format", template, name], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def kill(self, service: str) -> float:
        """End its first process as a machine would, not as an operator; seconds until it is healthy again."""
        began_s, pid = time.monotonic(), int(self.inspect(service, "{{.State.Pid}}"))
        _killed(pid)
        while True:
            if time.monotonic() - began_s > BACK_S:
                raise RuntimeError(f"{service} is not back: {self.do('logs', '--tail', '20', service)}")
            with contextlib.suppress(subprocess.CalledProcessError):
                health = self.inspect(service, "{{if .State.Health}}{{.State.Health.Status}}{{else}}healthy{{end}}")
                if health == "healthy" and int(self.inspect(service, "{{.State.Pid}}")) not in (0, pid):
                    return time.monotonic() - began_s
            time.sleep(0.2)  # between two looks


def _killed(pid: int) -> None:
    """End a process, whose user may be another one."""
    try:
        os.kill(pid, signal.SIGKILL)
    except PermissionError:
        subprocess.run(["sudo", "-n", "kill", "-9", str(pid)], check=True)


def asked(url: str) -> Any:
    """JSON of an address of this machine."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def watched(composed: Composed) -> dict[str, Any]:
    """What Prometheus sees: targets that answer, rules that cannot be evaluated, alert managers that it reaches."""
    at = f"http://127.0.0.1:{composed.ports['PROMETHEUS_PORT']}/api/v1"
    deadline = time.monotonic() + 60
    while True:
        targets = asked(f"{at}/targets")["data"]["activeTargets"]
        up = sorted(one["labels"]["instance"] for one in targets if one["health"] == "up")
        if len(up) == len(targets) or time.monotonic() > deadline:
            break
        time.sleep(1.0)  # until each was scraped
    rules = [rule for group in asked(f"{at}/rules")["data"]["groups"] for rule in group["rules"]]
    managers = asked(f"{at}/alertmanagers")["data"]["activeAlertmanagers"]
    return {
        "scraped": f"{len(up)} of {len(targets)}",
        "rules_wrong": [rule["name"] for rule in rules if rule["health"] == "err"],
        "alert_managers": len(managers),
    }


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def tried(*, three: bool, flights: int) -> dict[str, Any]:
    """All of it, once."""
    composed, began_s = Composed(three=three, flights=flights), time.monotonic()
    images = sorted({line.strip() for line in composed.do("config", "--images").splitlines()} - {f"stream-ml:{TAG}"})
    made, missing = had(images)
    build = ["docker", "build", "-q", "-f", "deploy/docker/Dockerfile", "--build-arg", "VARIANT=demo"]
    subprocess.run([*build, "-t", f"stream-ml:{TAG}", "."], cwd=ROOT, check=True, capture_output=True)
    say(f"image built after {time.monotonic() - began_s:.0f} s; stand-ins: {made}; not to be had: {missing}")
    services = composed.do("config", "--services").split()
    left_out = {"flights", *(["grafana"] if any("grafana" in image for image in missing) else [])}
    result: dict[str, Any] = {"stand_ins": made, "missing": missing}
    try:
        up_s = time.monotonic()
        composed.do("up", "-d", "--no-build", *sorted(set(services) - left_out))
        composed.do("up", "-d", "--no-build", "--wait", "worker-1", "worker-2", "api-1", "api-2", "balancer")
        result["up_s"] = round(time.monotonic() - up_s, 1)
        say(f"up and ready after {result['up_s']} s")
        key = composed.do("exec", "-T", "api-1", "cat", "/run/stream-ml/api.key").strip()
        asker = Asker(lambda: [("127.0.0.1", composed.ports["API_PORT"])], key)
        asker.start()
        playing = composed.begun("run", "--rm", "--no-deps", "-T", "flights")
        result["back_s"] = {}
        for service in KILLED:
            if playing.poll() is not None:
                raise RuntimeError(f"all flights were played before {service} was killed: play more")
            # A balancer that is dead answers nobody: the question is how soon it is back, not what is lost meanwhile.
            asker.paused = service == "balancer"
            result["back_s"][service] = round(composed.kill(service), 1)
            asker.paused = False
            say(f"{service} was killed and is back after {result['back_s'][service]} s")
        for service in ("api-1", "api-2"):
            composed.do("kill", "-s", "HUP", service)
        said, _ = playing.communicate(timeout=1_200)
        asker.end()
        result |= json.loads(said.splitlines()[-1]) | {"exit": playing.returncode}
        result["longest_pause_s"] = {"predictions": result["longest_pause_s"], "answers": round(asker.longest_s, 1)}
        result |= asker.result
        result |= watched(composed)
        stop_s = time.monotonic()
        composed.do("stop", "worker-1", "worker-2", "api-1", "api-2")
        ended = {
            name: composed.inspect(name, "{{.State.ExitCode}}") for name in ("worker-1", "worker-2", "api-1", "api-2")
        }
        result |= {"stop_s": round(time.monotonic() - stop_s, 1), "exit_codes": ended}
    except BaseException:
        say(composed.do("logs", "--tail", "15", check=False)[-6_000:])
        raise
    finally:
        composed.do("down", "-v", "--remove-orphans", "-t", "5", check=False)
    return result | {"seconds": round(time.monotonic() - began_s, 1)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--three", action="store_true", help="three brokers")
    options.add_argument("--flights", type=int, default=60_000)
    given = options.parse_args()
    result = tried(three=given.three, flights=given.flights)
    print(json.dumps(result))
    right = not (result["lost"] or result["duplicated"] or result["failed_requests"] or result["rules_wrong"])
    sys.exit(0 if right and set(result["exit_codes"].values()) == {"0"} else 1)


if __name__ == "__main__":
    main()

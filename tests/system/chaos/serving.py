"""Two replicas of the scoring API in the storm: what is done to them, and what a supervisor of theirs does."""

import os
import random
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.api_process import ApiProcess, log_of
from tests.support.service import Service, until

KEY = "k" * 40
SETTINGS = {"provenance_key_file": "answers.key"}  # of workers and API
PROCESSES = {"api-1": 2, "api-2": 1}
BESIDE = {"api-1": "w1", "api-2": "w2"}  # whose checkpoints a replica starts from, damaged ones as well
WEIGHTS = {
    "api-child-dies": 4,  # -9
    "api-dies": 3,  # -9 of the supervisor: its children end by themselves
    "api-rolls": 2,  # SIGHUP
    "api-leaves": 1,  # SIGTERM
    "api-child-hangs": 1,  # its supervisor kills it
}
PORT_TAKEN = "cannot be listened on"  # by children that still answer, while their supervisor is dead
READY_S = 180.0  # on a machine that does much else
ENDED_S = 20.0  # for children without a supervisor


class Replicas:
    """Both of them, each on ports that stay its own."""

    def __init__(self, made: Service, chance: random.Random, say: Callable[[str], None]) -> None:
        self._made, self._chance, self._say = made, chance, say
        self.apis: dict[str, ApiProcess] = {}
        self.kills: Counter[str] = Counter()
        self.ended_by_themselves = 0
        self.too_soon = 0  # starts while the port was still taken
        self._pids: set[int] = set()

    def start(self, name: str) -> ApiProcess:
        """A replica, where it was before."""
        before = self.apis.get(name)
        ports = {} if before is None else {"port": before.port, "admin_port": before.admin_port}
        serve: dict[str, Any] = {"record": "ack", "processes": PROCESSES[name], **SETTINGS, **ports}
        others = {"checkpoints": {"directory": f"checkpoints-{BESIDE[name]}"}}
        self.apis[name] = ApiProcess(self._made, name=name, others=others, **serve)
        return self.apis[name]

    @property
    def ports(self) -> list[int]:
        """Where to ask."""
        return [api.port for api in self.apis.values()]

    def care(self) -> None:
        """Start those again that ended."""
        for name, api in list(self.apis.items()):
            code = api.process.poll()
            if code is None:
                continue
            taken = PORT_TAKEN in api.log
            self.too_soon += taken
            self.ended_by_themselves += not taken
            last = api.log.strip().rpartition("\n")[2]
            self._say(f"     {name} ended with {code}: {last[:300]}")
            assert taken or code in (1, 69), api.log[-3000:]
            self.start(name)

    def ready(self) -> bool:
        """Whether all processes of both answer."""
        self.care()
        return all(api.status().get("processes", {}).get("ready") == PROCESSES[n] for n, api in self.apis.items())

    # --- faults ---

    def harm(self, kind: str) -> str:
        """Do it to one of them, once that one answers; its name."""
        name = self._chance.choice(list(self.apis))
        self._made.wait_for(lambda: self._answers(name), f"an answer of {name}", READY_S)
        getattr(self, "_" + kind.replace("-", "_"))(name)
        return name

    def _answers(self, name: str) -> bool:
        self.care()
        return bool(self.apis[name].status().get("ready"))

    def _child(self, name: str) -> int:
        return self._chance.choice(sorted(self.apis[name].pids))

    def _api_child_dies(self, name: str) -> None:
        os.kill(self._child(name), signal.SIGKILL)
        self.kills["child"] += 1

    def _api_dies(self, name: str) -> None:
        self._pids |= {*self.apis[name].pids}
        self.apis[name].close()
        self.kills["supervisor"] += 1
        self.start(name)

    def _api_rolls(self, name: str) -> None:
        self.apis[name].process.send_signal(signal.SIGHUP)
        self.kills["rolled"] += 1

    def _api_leaves(self, name: str) -> None:
        code = self.apis[name].stop()
        assert code == 0, (code, self.apis[name].log[-3000:])
        self.kills["told to stop"] += 1
        self.start(name)

    def _api_child_hangs(self, name: str) -> None:
        os.kill(self._child(name), signal.SIGSTOP)
        self.kills["hung"] += 1

    # --- the end ---

    def stop(self) -> None:
        """End both in order; nothing of them may be left."""
        for api in self.apis.values():
            self._pids |= {*api.pids}
            code = api.stop()
            assert code == 0, (code, api.log[-3000:])
        left = [pid for pid in self._pids if not until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), ENDED_S)]  # type: ignore[misc]
        assert not left, f"children that outlived their supervisor: {left}"

    @property
    def tracebacks(self) -> list[str]:
        """The ends of those that any process of theirs has left in its log: each fault has words of its own."""
        text = log_of(self._made.folder)
        ends = re.findall(r'(?:\\n|^)([A-Za-z_][\w.]*(?:Error|Exception)\b[^"\n]{0,200})', text, re.M)
        return ends or ["Traceback"] * text.count("Traceback (most recent call last)")

    def close(self) -> None:
        """End them whatever they do."""
        for api in self.apis.values():
            api.close()

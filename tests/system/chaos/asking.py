"""Clients of the scoring API in the storm: each asks until it is answered, as the documents say, and keeps all answers.

A refusal that may pass and a connection that ends are met with the same request again, at the other replica: the same
ids. What became of a request whose answer did not come nobody here knows: it is noted as uncertain.
"""

import http.client
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

CLIENTS = 4
PAUSE_S = 0.02  # of a client between two requests: the load
TIMEOUT_S = 6.0  # for one answer
BOUND_S = 120.0  # for one request with all that it takes; longer is a failure for good
AGAIN_MAX_S = 1.0  # between two tries, whatever Retry-After says: the storm is short
PREFIX = "asked-"
LABELLED, REPEATED = 0.5, 0.04  # of the events


@dataclass(slots=True)
class AskedEvent:
    """One event, and all that its client was told of it."""

    event: dict[str, Any]
    answers: list[dict[str, Any]] = field(default_factory=list)  # each with the model's version
    asked: int = 0
    uncertain: int = 0  # requests that may have recorded it, and were not answered
    receipts: list[str] = field(default_factory=list)  # of its label


class Client(threading.Thread):
    """Asks for a few events at a time."""

    def __init__(self, number: int, ports: list[int], seed: int, stopped: threading.Event) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self._number, self._ports, self._stopped = number, ports, stopped
        self._chance = random.Random(f"{seed}-{number}")
        self._at = number  # which replica is asked
        self._connection: http.client.HTTPConnection | None = None
        self.events: dict[str, AskedEvent] = {}
        self.answered = 0
        self.refused: Counter[str] = Counter()
        self.failed_for_good: list[str] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._stopped.wait(PAUSE_S):
                self._turn()
        except BaseException as error:
            self.error = error
            raise

    def _turn(self) -> None:
        chance = self._chance
        asked = [self._new() for _ in range(chance.choice([1, 1, 1, 2, 5]))]
        if not self._predicted(asked):
            return
        if chance.random() < REPEATED:
            self._predicted(asked[:1])  # it has its answer, and asks again
        labelled = [one for one in asked if chance.random() < LABELLED]
        if labelled:
            self._labelled(labelled)
        if chance.random() < 0.01:
            self._hang_up()  # most connections are kept, so that they meet a process that ends
            self._at += 1

    def _new(self) -> AskedEvent:
        name = f"{PREFIX}{self._number}-{len(self.events)}"
        x = self._chance.uniform(0, 100)
        at = int(1000 * time.time())
        event = {"id": name, "at": at, "x": x, "kind": f"k{self._chance.randrange(3)}", "note": None}
        self.events[name] = AskedEvent(event)
        return self.events[name]

    # --- what is asked ---

    def _predicted(self, asked: list[AskedEvent]) -> bool:
        body = {"instances": [one.event for one in asked]}
        said = self._until_answered("/v1/predict", body, 200, asked)
        if said is None:
            return False
        for one, answer in zip(asked, said["predictions"], strict=True):
            assert answer["id"] == one.event["id"], (answer, one)
            one.answers.append(answer | said["model"])
        self.answered += len(asked)
        return True

    def _labelled(self, asked: list[AskedEvent]) -> None:
        labels = [{"id": one.event["id"], "at": one.event["at"] + 1, "y": one.event["x"] > 50} for one in asked]
        said = self._until_answered("/v1/feedback", {"labels": labels}, 202, [])
        for one, receipt in zip(asked, said["receipts"] if said is not None else [], strict=said is not None):
            one.receipts.append(receipt)

    def _until_answered(self, path: str, body: Any, wanted: int, asked: list[AskedEvent]) -> Any:
        """The answer; None where there was none within the bound."""
        until_s, last = time.monotonic() + BOUND_S, ""
        while time.monotonic() < until_s:
            for one in asked:
                one.asked += 1
            status, again_s, said = self._once(path, body)
            if status == wanted:
                return said
            last = "no answer" if not status else f"{status} {said.get('type', '').rpartition(':')[2]}"
            self.refused[last] += 1
            if status not in (0, 408, 412, 429, 503):
                break
            for one in asked:
                one.uncertain += last in ("no answer", "503 not-recorded")
            self._at += 1
            time.sleep(again_s)  # what Retry-After asks for
        self.failed_for_good.append(f"{path}: {last}")
        return None

    def _once(self, path: str, body: Any) -> tuple[int, float, Any]:
        """Status, seconds until the next try, and JSON; status 0 where the connection ended before an answer."""
        try:
            if self._connection is None:
                port = self._ports[self._at % len(self._ports)]
                self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
            self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            said = json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            self._hang_up()
            return 0, 0.1, {}
        if answer.getheader("connection") == "close" or answer.status >= 400:
            self._hang_up()
        return answer.status, min(AGAIN_MAX_S, float(answer.getheader("retry-after") or 0.1)), said

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class Asking:
    """All clients."""

    def __init__(self, ports: list[int], seed: int) -> None:
        self._stopped = threading.Event()
        self._clients = [Client(number, ports, seed, self._stopped) for number in range(CLIENTS)]

    def start(self) -> None:
        for client in self._clients:
            client.start()

    def stop(self) -> None:
        """Ask no more; what has been begun is answered first."""
        self._stopped.set()
        for client in self._clients:
            client.join(3 * BOUND_S)
            assert not client.is_alive(), f"{client.name} is stuck"
            if client.error is not None:
                raise client.error

    @property
    def answered(self) -> int:
        """Answers that have come so far."""
        return sum(client.answered for client in self._clients)

    @property
    def events(self) -> dict[str, AskedEvent]:
        """By id."""
        return {name: one for client in self._clients for name, one in client.events.items()}

    @property
    def refused(self) -> Counter[str]:
        """Requests that were tried again, by why."""
        return sum((client.refused for client in self._clients), Counter[str]())

    @property
    def failed_for_good(self) -> list[str]:
        return [text for client in self._clients for text in client.failed_for_good]

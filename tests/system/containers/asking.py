"""A client that asks the scoring API for one event again and again, and counts what it is answered."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

PAUSE_S = 0.02  # between two questions
FLIGHT = {
    "flight_id": "f",
    "scheduled_departure": 1_357_034_400_000,
    "carrier": "UA",
    "origin": "EWR",
    "destination": "IAH",
    "distance": 1400.0,
    "hour": 5,
    "month": 1,
    "weekday": 1,
}
Address = tuple[str, int]


class Said(NamedTuple):
    """What came of a question: what is wrong, whether nothing was received of it, and the model that answered."""

    problem: str
    is_unsent: bool = False
    lineage: str = ""


def ask(address: Address, key: str, instance: Mapping[str, object]) -> Said:
    """One question on a connection of its own."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        try:
            connection.connect()
        except OSError as error:
            return Said(f"no connection: {type(error).__name__}", is_unsent=True)
        headers = {"Content-Type": "application/json", "X-API-Key": key}
        connection.request("POST", "/v1/predict", json.dumps({"instances": [instance]}), headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            return Said(f"{answer.status} {said[:100]!r}")
        return Said("", lineage=str(json.loads(said)["model"]["lineage"]))
    except (OSError, http.client.HTTPException) as error:
        return Said(f"{type(error).__name__}: {error}")
    finally:
        connection.close()


class Asker(threading.Thread):
    """Asks until told to end.

    Parameters
    ----------
    addresses
        Where to ask now, the first one first; one that takes no connection is passed by once, as a balancer does.

    Attributes
    ----------
    paused
        Whether it asks nothing for now.
    longest_s
        Between two answers, pauses aside.
    """

    def __init__(
        self, addresses: Callable[[], list[Address]], key: str, instance: Mapping[str, object] = FLIGHT
    ) -> None:
        super().__init__(daemon=True)
        self._addresses, self._key, self._instance, self._ended = addresses, key, instance, threading.Event()
        self.answered, self.again, self.longest_s, self.paused = 0, 0, 0.0, False
        self.failed: Counter[str] = Counter()
        self.by_lineage: Counter[str] = Counter()

    def run(self) -> None:
        last_s = time.monotonic()
        while not self._ended.is_set():
            if self.paused:
                last_s = time.monotonic()
            elif self._asked():
                self.longest_s, last_s = max(self.longest_s, time.monotonic() - last_s), time.monotonic()
            time.sleep(PAUSE_S)  # the rate

    def _asked(self) -> bool:
        said = Said("no address is ready")
        for number, address in enumerate(self._addresses()[:2]):
            said = ask(address, self._key, self._instance)
            if not said.is_unsent:
                self.again += number
                break
        if said.problem:
            self.failed[said.problem] += 1
            return False
        self.answered += 1
        self.by_lineage[said.lineage] += 1
        return True

    def end(self) -> None:
        self._ended.set()
        self.join()

    @property
    def result(self) -> dict[str, object]:
        """Counts, for the last line."""
        failed = self.failed.total()
        return {"requests": self.answered + failed, "failed_requests": failed, "failures": dict(self.failed)}

"""Producers that never rest: labels late, early, out of order, twice, for nothing, and bytes that are no Avro."""

import random
import threading
import time

from tests.support.service import T0, Service

RATE = 150  # events a second
LABEL_LATEST = 300  # a label comes at most so many events after its own
EARLY_S = 20  # and a few are known so long before it
TAIL = 400  # events whose labels are all there: the last ones have none before the end


class Traffic:
    """Events and labels from a thread of its own; what is produced is a function of the seed, when it is is not."""

    def __init__(self, made: Service, seed: int, *, as_it_happens: bool = False) -> None:
        self._made, self._chance, self._as_it_happens = made, random.Random(seed), as_it_happens
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._due: list[tuple[int, int]] = []  # (at which event, label of which event)
        self.produced = 0
        self.error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Produce what is still due, and see that all of it has arrived."""
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the producers are stuck"
        if self.error is not None:
            raise self.error
        for _, number in sorted(self._due):
            self._truth(number)
        self._made.flush()

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.05):
                for _ in range(RATE // 20):
                    self._one(self.produced)
                    self.produced += 1
                self._made.producer.poll(0)
        except BaseException as error:
            self.error = error
            raise

    def _one(self, number: int) -> None:
        made, chance, dice = self._made, self._chance, self._chance.random()
        if self._as_it_happens:  # dated by the host's clock, each with one label soon after
            if dice < 0.9:
                self._due.append((number + chance.randint(1, LABEL_LATEST), number))
            made.visit(number, at=int(1000 * time.time()))
            self._label_those_due(number)
            return
        if dice < 0.01:  # known before the event is
            made.truth(number, delay_s=-EARLY_S)
        elif dice < 0.90:
            self._due.append((number + chance.randint(1, LABEL_LATEST), number))
        if 0.10 < dice < 0.13:
            self._due.append((number + chance.randint(1, LABEL_LATEST), number))
        made.visit(number)
        if 0.20 < dice < 0.21:
            made.visit(number)
        if 0.30 < dice < 0.31:
            made.raw_visit(b"\x07nonsense", partition=made.of(number, None))
        if 0.40 < dice < 0.41:
            made.raw_truth(b"\x07nonsense", partition=made.of(number, None))
        if 0.50 < dice < 0.51:
            made.truth(number, delay_s=-7_200)  # known two hours before: early_ttl does not allow it
        if 0.60 < dice < 0.605:
            made.visit(10**7 + number, at=T0 + 1000 * number)  # its label never comes
        self._label_those_due(number)

    def _label_those_due(self, number: int) -> None:
        now = [due for due in self._due if due[0] <= number]
        self._due = [due for due in self._due if due[0] > number]
        for _, labelled in now:
            self._truth(labelled)

    def _truth(self, number: int) -> None:
        if self._as_it_happens:
            self._made.truth(number, at=int(1000 * time.time()))
            return
        self._made.truth(number, delay_s=self._chance.randint(1, 3_000))

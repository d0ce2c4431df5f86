"""What scoring and learning one record costs by now, beside what it cost at first: a model that grows gets slower.

Records that come many at once are cheaper than single ones, so only like is compared with like: each size of a batch
of events, in steps of four; examples of runs, and single ones.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from stream_ml.observe.status import CostStatus

Of = Literal["score", "learn"]
WINDOW = 500  # records of which the mean is taken
WINDOW_S = 0.2  # of the processor: of a slow model fewer are enough
GROWN = 10.0  # times: from there on it is a problem in words
KEPT = 100  # of what it is compared with: by models that were here once
SIZE_MAX = 5  # classes of batches: 1 to 3 records, to 15, to 63, to 255, more

WORDS: dict[Of, str] = {"score": "scoring an event", "learn": "learning an example"}


class Cost:
    """Seconds of the processor per record: the last mean, and the least that was ever seen of batches of that size.

    Time of the thread's own, so that a machine that is busy with something else changes nothing.
    """

    def __init__(self) -> None:
        self._least_s: dict[str, float] = {}
        self._open: dict[str, tuple[int, float]] = {}
        self._now: dict[Of, tuple[float, float]] = {}  # seconds, and times as much as at least

    @contextmanager
    def of(self, of: Of, alike: str = "", by: str = "") -> Iterator[list[int]]:
        """Measure what is done inside; how many records it was goes into the list that is given. Else as `took`."""
        began_s, counts = time.thread_time(), list[int]()
        yield counts
        self.took(of, sum(counts), time.thread_time() - began_s, alike, by)

    def took(self, of: Of, count: int, seconds: float, alike: str = "", by: str = "") -> None:
        """Take a batch of so many records; a mean is made of enough of them.

        Parameters
        ----------
        alike
            What it is compared with; empty: batches of about as many records.
        by
            Which models did it: others take another time.
        """
        if count <= 0:
            return
        name = f"{of} {alike or min((count.bit_length() + 1) // 2, SIZE_MAX)} {by}".rstrip()
        before = self._open.get(name, (0, 0.0))
        count, seconds = before[0] + count, before[1] + seconds
        if count < WINDOW and seconds < WINDOW_S:
            self._open[name] = (count, seconds)
            return
        self._open[name] = (0, 0.0)
        mean_s = seconds / count
        least_s = self._least_s[name] = min(mean_s, self._least_s.get(name, mean_s))
        self._now[of] = (mean_s, mean_s / least_s if least_s > 0 else 1.0)

    def report(self) -> dict[str, CostStatus]:
        """Microseconds and growth by what is done; nothing of what was not measured yet."""
        return {
            of: CostStatus(us=round(1e6 * now_s, 2), growth=round(grown, 2)) for of, (now_s, grown) in self._now.items()
        }

    def words(self) -> list[str]:
        """What has grown too much."""
        return [
            f"{WORDS[of]} takes {1e6 * now_s:,.0f} us by now, {grown:.0f} times as long as at first: a model that "
            "grows with each new value -> stream-ml check CONFIG says what may be bounded"
            for of, (now_s, grown) in self._now.items()
            if grown >= GROWN
        ]

    def state(self) -> dict[str, float]:
        """What the header of a checkpoint keeps."""
        return dict(list(self._least_s.items())[-KEPT:])

    def restore(self, state: Any) -> None:
        """Take back what `state` gave; of an older checkpoint nothing is known."""
        for name, least_s in state.items() if isinstance(state, dict) else ():
            if isinstance(least_s, float) and least_s > 0:
                self._least_s[name] = min(least_s, self._least_s.get(name, least_s))

"""Pictures of the live page, out of a real run: ``python -m tests.system.browser.screenshots [DIRECTORY]``.

A worker on an embedded Kafka, some minutes of traffic: all is well, then a feature drifts, then learning is halted.
"""

import itertools
import random
import sys
import tempfile
import time
from pathlib import Path

from stream_ml.embedded.broker import EmbeddedKafka, free_port
from tests.support.browser import DESKTOP, PHONE, Page, browser, screenshot, view
from tests.support.paths import ROOT
from tests.support.service import Service, service

PICTURES = {
    "healthy": (("desktop", DESKTOP, "light"), ("phone", PHONE, "dark")),
    "drifting": (("desktop", DESKTOP, "light"), ("phone", PHONE, "dark")),
    "halted": (("desktop", DESKTOP, "dark"), ("phone", PHONE, "light")),
}
PER_TICK, TICK_S = 40, 0.1  # events
DELAY = 600  # events between an event and its label


class Traffic:
    """Visits at an even pace, each with its label some time later; a shift makes x another feature."""

    def __init__(self, made: Service) -> None:
        self._made, self._numbers, self._source = made, itertools.count(), random.Random(4)

    def play(self, seconds: float, shift: float = 0.0) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for number in itertools.islice(self._numbers, PER_TICK):
                known = number * 7919 % 100
                self._made.visit(number, x=known + self._source.gauss(0, 25) + shift)
                if number >= DELAY:
                    self._made.truth(number - DELAY, delay_s=DELAY - self._source.randrange(500))
            self._made.flush()
            time.sleep(TICK_S)  # the pace of the traffic, which is what is shown


def main(folder: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="stream-ml-pictures-") as scratch,
        EmbeddedKafka(Path(scratch) / "kafka") as kafka,
        browser() as driver,
    ):
        (Path(scratch) / "app").mkdir()
        settings = {
            "http": {"port": free_port()},
            "drift": {"inputs": {"reference": 3000, "window": 1000}},
            "checkpoints": {"interval": "10s"},
        }
        with service(Path(scratch) / "app", kafka.bootstrap_servers, "payments", partitions=2, **settings) as made:
            made.start()
            page, traffic = Page(made, driver), Traffic(made)
            made.wait_for(page.load, "the page")
            traffic.play(75)
            take(page, folder, "healthy")
            traffic.play(40, shift=120.0)
            page.wait_for("problems", "feature x")
            take(page, folder, "drifting")
            made.forge(5)
            traffic.play(5, shift=120.0)
            page.wait_for("problems", "halted")
            take(page, folder, "halted")


def take(page: Page, folder: Path, state: str) -> None:
    for name, size, scheme in PICTURES[state]:
        view(page.driver, size, scheme)
        page.driver.refresh()
        page.wait(lambda: page.run("return document.querySelectorAll('.uplot').length") == 4, "four charts")
        page.wait(lambda: page.text("rate") != "-", "numbers")
        screenshot(page.driver, folder / f"page-{state}-{name}-{scheme}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")

"""A headless Chromium for tests of the live page: Debian's own, with its driver; nothing is downloaded."""

import base64
import contextlib
import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.service import Service, until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PHONE = (390, 844)
DESKTOP = (1280, 900)
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = [name for name, there in (("chromium", CHROMIUM), ("chromedriver", DRIVER)) if there is None]
if importlib.util.find_spec("selenium") is None:
    MISSING.append("the Python package selenium")

needs_browser = pytest.mark.skipif(
    bool(MISSING),
    reason=f"no {', no '.join(MISSING)}: apt-get install chromium chromium-driver, and `make test` installs selenium",
)

# Every text that is seen, against what lies behind it, while the page says that all is good, warning or critical.
CONTRASTS = """
function parts(text) {
  const numbers = text.match(/[\\d.]+/g).map(Number);
  return numbers.length === 3 ? [...numbers, 1] : numbers;
}
function over(top, below) {
  return [0, 1, 2].map((n) => top[n] * top[3] + below[n] * (1 - top[3])).concat(1);
}
function behind(element) {
  if (!element) return [255, 255, 255, 1];
  const color = parts(getComputedStyle(element).backgroundColor);
  return color[3] === 1 ? color : over(color, behind(element.parentElement));
}
function light(color) {
  const [r, g, b] = color.map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
const found = [], words = byId("words"), state = byId("state"), before = [words.className, state.className];
[words.className, state.className] = [arguments[0], `pill ${arguments[0]}`];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("script, style")) continue;
  const back = behind(element);
  const [dark, bright] = [light(over(parts(getComputedStyle(element).color), back)), light(back)].sort((a, b) => a - b);
  const ratio = (bright + 0.05) / (dark + 0.05);
  const name = `${element.tagName.toLowerCase()}.${element.className} "${walker.currentNode.data.trim().slice(0, 30)}"`;
  found.push([name, Math.round(100 * ratio) / 100]);
}
[words.className, state.className] = before;
return found;
"""
INTERACTIVE = """
const all = document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]");
return [...all].map((one) => one.getAttribute("href") || one.className || one.tagName);
"""
FOCUSED = """
const one = document.activeElement, style = getComputedStyle(one);
const ring = style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth);
const box = one.getBoundingClientRect();
const seen = box.width > 0 && box.bottom > 0 && box.top < innerHeight;
return one === document.body ? null : [one.getAttribute("href") || one.className || one.tagName, ring, seen];
"""
POINTED = """
const all = [...document.querySelectorAll("body *")].filter((one) => getComputedStyle(one).cursor === "pointer");
return all.filter((one) => !one.closest("a, button, input, select, textarea, summary, [tabindex]"))
  .map((one) => one.textContent);
"""


class Page(NamedTuple):
    """A worker and a browser that shows its page."""

    made: Service
    driver: "Chrome"

    def load(self) -> bool:
        """Open it; whether anybody answers."""
        from selenium.common.exceptions import WebDriverException

        try:
            self.driver.get(url(self.made))
        except WebDriverException:
            return False
        return True

    def text(self, id: str) -> str:
        return str(self.run("return document.getElementById(arguments[0]).innerText", id))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, fact: Callable[[], bool], what: str, most_s: float = 30) -> None:
        """Wait until the page is so; fails with what stands on it."""
        if not until(fact, most_s):
            raise AssertionError(f"{what}: not in {most_s} s\n{self.run('return document.body.innerText')}")

    def wait_for(self, id: str, words: str) -> None:
        self.wait(lambda: words in self.text(id), f"{words!r} in #{id}")

    def predicted(self) -> int:
        """How many predictions the page counts."""
        lines = self.text("worker").splitlines()
        return int(lines[lines.index("predicted") + 1].replace(",", ""))


def url(made: Service) -> str:
    return f"http://127.0.0.1:{made.settings['http']['port']}/"


@contextlib.contextmanager
def browser() -> Iterator["Chrome"]:
    """A browser of its own, whose console is kept; it ends with the block."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def view(driver: "Chrome", size: tuple[int, int], scheme: str) -> None:
    """Be a phone or a desktop whose owner wants it `dark` or `light`."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def screenshot(driver: "Chrome", file: Path) -> None:
    """The whole page, however long it is."""
    size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    width = driver.execute_script("return innerWidth")
    clip = {"x": 0, "y": 0, "width": width, "height": size["height"], "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(base64.b64decode(shot["data"]))


def complaints(driver: "Chrome") -> list[dict[str, Any]]:
    """Errors in the console since it was asked last."""
    return [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]  # type: ignore[no-untyped-call]

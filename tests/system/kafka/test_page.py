"""The live page in a real browser: while a worker works, while something is wrong, and while none answers."""

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from stream_ml.cli.app import app
from stream_ml.embedded.broker import free_port
from tests.support.browser import (
    CONTRASTS,
    DESKTOP,
    FOCUSED,
    INTERACTIVE,
    PHONE,
    POINTED,
    Page,
    browser,
    complaints,
    needs_browser,
    screenshot,
    url,
    view,
)
from tests.support.service import Service, service

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = [pytest.mark.kafka, needs_browser]

SHOTS = os.environ.get("SCREENSHOTS", "")
HOSTILE = "<img src=x onerror=alert(1)>"
VIEWS = {
    "phone-light": (PHONE, "light"),
    "phone-dark": (PHONE, "dark"),
    "desktop-light": (DESKTOP, "light"),
    "desktop-dark": (DESKTOP, "dark"),
}
LEVELS = ("good", "warning", "critical")


def opened(made: Service, driver: "Chrome") -> Page:
    """The page of a worker that is ready."""
    page = Page(made, driver)
    made.start()
    driver.get("about:blank")
    complaints(driver)

    made.wait_for(page.load, "the page")
    page.wait(lambda: page.text("state") == "ready", "ready", 60)
    return page


def shift(number: int) -> dict[str, Any]:
    """From event 2,000 on x is another feature."""
    return {"x": float(number * 7919 % 100) + (500.0 if number >= 2_000 else 0.0)}


@pytest.fixture(scope="module")
def driver() -> Iterator["Chrome"]:
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def drifted(kafka: str, tmp_path_factory: pytest.TempPathFactory, driver: "Chrome") -> Iterator[Page]:
    """The page of a worker that has seen events, labels, and a feature that drifts; the last event's id is hostile."""
    changes: dict[str, Any] = {
        "http": {"port": free_port()},
        "drift": {"inputs": {"reference": 1000, "window": 500}},
        "checkpoints": {"interval": "2s"},
    }
    name = f"t{uuid.uuid4().hex[:8]}"
    with service(tmp_path_factory.mktemp("page"), kafka, name, partitions=2, **changes) as made:
        page = opened(made, driver)
        for number in range(4_000):
            made.visit(number, **shift(number))
            made.truth(number)
            if number % 500 == 499:
                made.wait_until_done()
        made.visit(4_000, id=HOSTILE, **shift(4_000))
        made.flush()
        page.wait(lambda: page.predicted() == 4_001, "every prediction")
        page.wait_for("problems", "feature x has moved away")
        page.wait(lambda: "ROC AUC" in page.text("quality"), "the quality")
        yield page


def show(page: Page, size: tuple[int, int], scheme: str) -> None:
    """Look at it so, drawn anew."""
    view(page.driver, size, scheme)
    wanted = {"light": "rgb(246, 247, 249)", "dark": "rgb(15, 18, 22)"}[scheme]
    look = "return [innerWidth, getComputedStyle(document.body).backgroundColor]"
    page.wait(lambda: page.run(look) == [size[0], wanted], f"{size} in {scheme}")
    page.wait(lambda: len(page.run("return document.querySelectorAll('.uplot')")) == 4, "four charts")


# --- while all goes well ---


def test_the_page_names_the_app_and_its_numbers_follow(
    kafka: str, app_id: str, tmp_path: Path, driver: "Chrome"
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        page = opened(made, driver)
        assert page.text("app") == app_id and page.text("instance") == "w1"
        assert driver.title == f"{app_id} - stream_ml"
        assert page.text("words-title") == "Nothing is wrong"
        made.pairs(range(300))
        made.flush()
        page.wait(lambda: page.predicted() == 300, "300 predictions")
        page.wait_for("model", "300 examples")
        made.pairs(range(300, 500))
        made.flush()
        page.wait(lambda: page.predicted() == 500, "500 predictions, without a reload")
        page.wait_for("model", "500 examples")
        assert page.run("return byId('last').tBodies[0].rows[0].cells[0].innerText") == "v499"
        assert complaints(driver) == []


def test_labels_of_one_class_alone_leave_the_page_running(
    kafka: str, app_id: str, tmp_path: Path, driver: "Chrome"
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        page = opened(made, driver)
        page.wait_for("problems", "Note: the model is cold")
        made.truth(0, y=False)
        made.visit(0)
        made.flush()
        page.wait_for("model", "1 examples")  # what a cold model says is left out of quality
        for number in range(1, 101):
            made.visit(number)
            made.truth(number, y=False)
        made.flush()
        page.wait(lambda: page.predicted() == 101, "101 predictions")
        page.wait_for("quality", "over the last 100 labels")
        assert complaints(driver) == []


def test_nothing_comes_from_elsewhere_and_the_console_stays_empty(drifted: Page) -> None:
    names = drifted.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert f"{url(drifted.made)}v1/stream" in names or f"{url(drifted.made)}v1/history" in names
    assert [name for name in names if not name.startswith((url(drifted.made), "data:"))] == []
    assert complaints(drifted.driver) == []


def test_an_id_that_is_markup_is_shown_as_text(drifted: Page) -> None:
    assert HOSTILE in drifted.text("last")
    assert drifted.run("return document.querySelectorAll('img').length") == 0


# --- to the eye, and to the keyboard ---


@pytest.mark.parametrize("name", VIEWS)
def test_it_can_be_read_and_nothing_hangs_over_the_side(drifted: Page, tmp_path: Path, name: str) -> None:
    show(drifted, *VIEWS[name])
    screenshot(drifted.driver, Path(SHOTS or tmp_path) / f"{name}.png")
    assert drifted.run("return document.documentElement.scrollWidth - innerWidth") <= 0
    for level in LEVELS:
        seen = drifted.run(CONTRASTS, level)
        assert len(seen) > 100
        assert [text for text in seen if text[1] < 4.5] == []


def test_tab_reaches_all_that_can_be_used_and_shows_where_it_is(drifted: Page) -> None:
    from selenium.webdriver import ActionChains, Keys

    show(drifted, DESKTOP, "light")
    wanted = drifted.run(INTERACTIVE)
    reached: dict[str, tuple[float, bool]] = {}
    drifted.run("document.activeElement.blur(); scrollTo(0, 0)")
    for _ in range(len(wanted) + 5):
        ActionChains(drifted.driver).send_keys(Keys.TAB).perform()
        focused = drifted.run(FOCUSED)
        if focused is not None:
            reached[focused[0]] = (focused[1], focused[2])
    assert {"/metrics", "/v1/status", "/readyz"} <= set(wanted) <= set(reached)
    assert [name for name, (ring, seen) in reached.items() if ring < 2 or not seen] == []


def test_nothing_answers_to_a_click_that_tab_does_not_reach(drifted: Page) -> None:
    assert drifted.run(POINTED) == []


def test_words_that_stay_the_same_are_left_alone_and_can_be_copied(drifted: Page) -> None:
    drifted.run("getSelection().selectAllChildren(document.querySelector('#problems code'))")
    drifted.run("byId('rate').textContent = 'before the next status'")
    drifted.wait(lambda: drifted.text("rate") != "before the next status", "the next status")
    assert drifted.run("return getSelection().toString()").startswith("stream-ml ")


# --- while something is wrong ---


def test_what_is_wrong_is_said_in_words_until_it_is_mended(
    kafka: str, app_id: str, tmp_path: Path, driver: "Chrome"
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        page = opened(made, driver)
        CliRunner().invoke(app, ["freeze", str(tmp_path / "w1.yaml")])
        page.wait_for("problems", "Warning: learning is frozen")
        assert page.text("words-title") == "What is wrong"
        CliRunner().invoke(app, ["resume", str(tmp_path / "w1.yaml")])
        page.wait_for("words-title", "Nothing is wrong")
        made.forge(5)
        page.wait_for("problems", "Critical: learning is halted at")
        assert "Type stream-ml skip CONFIG " in page.text("problems")
        assert page.text("state") == "ready" and "halted at" in page.text("model")
        assert driver.title == f"(1) {app_id} - stream_ml"


def test_the_page_outlives_its_worker_and_follows_the_next_one(
    kafka: str, app_id: str, tmp_path: Path, driver: "Chrome"
) -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        page = opened(made, driver)
        page.run("window.neverReloaded = true")
        made.pairs(range(50))
        made.wait_until_done()
        assert made.workers[0].stop() == 0
        page.wait_for("problems", "The worker does not answer")
        assert page.text("state") == "no answer"
        made.start()
        page.wait(lambda: page.text("state") == "ready", "ready again", 60)
        assert page.text("words-title") == "Nothing is wrong"
        made.pairs(range(50, 80))
        made.flush()
        page.wait(lambda: page.predicted() == 30, "the predictions of the second process")
        assert page.run("return window.neverReloaded") is True
        refused = [entry["message"] for entry in complaints(driver)]
        assert refused and all("ERR_" in message and url(made) in message for message in refused)


def test_a_worker_that_hangs_is_not_said_to_be_ready(kafka: str, app_id: str, tmp_path: Path, driver: "Chrome") -> None:
    with service(tmp_path, kafka, app_id, http={"port": free_port()}) as made:
        page = opened(made, driver)
        made.workers[0].process.send_signal(signal.SIGSTOP)
        page.wait(lambda: page.text("state") != "ready", "no news", 10)
        made.workers[0].process.send_signal(signal.SIGCONT)
        page.wait(lambda: page.text("state") == "ready", "ready again")

"""The page in a real browser: clicked, dragged, driven by keys, and its numbers read; no error in its console."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")
pytest.importorskip("sklearn")
pytest.importorskip("websockets")
from playwright.sync_api import expect, sync_playwright

from caveat._estimators import load_model
from caveat.cli._cli import main
from caveat.cli._tabular_tested import TABLES

from ..test_tabular_commands import write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (on Debian: apt-get install chromium)"),
]
PATIENT = 90_000  # ms: a busy machine trains slowly, and no test depends on how slowly
COMMAND = [sys.executable, "-c", "import sys; from caveat.cli._cli import main; sys.exit(main())"]
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 400, "height": 800}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and tables."""
    folder = tmp_path_factory.mktemp("browser")
    write(folder / "train.csv", 300)
    write(folder / "test.csv", 150, seed=1)
    (folder / "other.csv").write_text("size,color\n1,red\n2,blue\n")
    quick = ["--drop", "id", "--drop", "price", "--members", "2", "--epochs", "12", "--draws", "12", "--json"]
    out = str(folder / "model")
    assert main(["fit", str(folder / "train.csv"), "--target", "sold", "--out", out, *quick]) == 0
    return folder


@pytest.fixture(scope="module")
def address(place: Path) -> Generator[str]:
    """Where `caveat playground --no-browser --port 0` says that it is."""
    arguments = [*COMMAND, "playground", "--no-browser", "--port", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=place) as process:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found is not None
        yield found.group()
        process.terminate()


@pytest.fixture(scope="module")
def browser() -> Generator[Any]:
    with sync_playwright() as library:
        found = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def show(browser: Any, address: str) -> Generator[Callable[..., Any]]:
    """Opens one of the pages; what it then says in the console must be nothing."""
    said: list[str] = []
    contexts: list[Any] = []

    def open_page(name: str, size: dict[str, int] = WIDE, **options: Any) -> Any:
        context = browser.new_context(viewport=size, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENT)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{address}/{name}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def at(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where the point (x, y) of the plot is on the screen: between the ends of its grid lines."""
    box = page.locator("#plot").bounding_box()
    left, right = box["x"] + 46, box["x"] + box["width"] - 20
    top, bottom = box["y"] + 10, box["y"] + box["height"] - 40
    return left + (x + 5) / 10 * (right - left), bottom - (y + 3) / 6 * (bottom - top)


def read(page: Any) -> dict[str, float]:
    """The numbers of the picture where the mouse or cursor is."""
    words = page.locator("#here").inner_text()
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", words)]
    return dict(zip(("x", "mean", "epistemic", "aleatoric"), numbers, strict=True))


def until(page: Any, holds: str, argument: Any = None) -> None:
    """Waits until an expression of the page holds; Playwright's own way needs eval, which the page forbids."""
    for _ in range(PATIENT // 50):
        if page.evaluate(holds, argument):
            return
        page.wait_for_timeout(50)
    raise AssertionError(holds)


def count(page: Any, wanted: int) -> None:
    expect(page.locator("#count")).to_have_text(str(wanted), timeout=PATIENT)
    expect(page.locator(".points circle")).to_have_count(wanted)


def test_points_are_clicked_dragged_and_deleted(show: Callable[..., Any]) -> None:
    page = show("regression")
    page.click("#clear")
    count(page, 0)
    page.mouse.click(*at(page, 1.0, 2.0))
    count(page, 1)
    page.select_option("#method", "gaussian_process")
    until(page, "document.getElementById('state').textContent === 'exact'")
    page.mouse.move(*at(page, 1.0, -2.0))
    near = read(page)
    assert near["mean"] == pytest.approx(2.0, abs=0.35)
    page.mouse.move(*at(page, -4.5, -2.0))
    far = read(page)
    assert far["mean"] == pytest.approx(0.0, abs=0.05)
    assert far["epistemic"] > 2 * near["epistemic"]
    page.mouse.move(*at(page, 1.0, 2.0))
    page.mouse.down()
    page.mouse.move(*at(page, -3.0, -1.0), steps=8)
    page.mouse.up()
    page.mouse.move(*at(page, -3.0, 1.0))
    until(page, "/mean -0\\.[6-9]|mean -1\\.[0-3]/.test(document.getElementById('here').textContent)")
    count(page, 1)
    page.wait_for_timeout(700)  # a double click is two clicks on a point that has been there a while
    page.mouse.dblclick(*at(page, -3.0, -1.0))
    count(page, 0)


def test_the_network_trains_while_one_watches(show: Callable[..., Any]) -> None:
    page = show("regression")
    until(page, "Number(document.getElementById('step').textContent.replace(',', '')) > 60")
    before = page.locator("path.mean").get_attribute("d")
    until(page, "path => document.querySelector('path.mean').getAttribute('d') !== path", before)
    expect(page.locator(".draws path")).to_have_count(24)
    page.locator("#dropout").fill("0")
    until(page, "document.getElementById('speed').textContent.endsWith('for 1 draw')")
    page.select_option("#method", "ensemble")
    until(page, "document.getElementById('speed').textContent.endsWith('for 5 draws')")
    page.click("#restart")
    until(page, "Number(document.getElementById('step').textContent.replace(',', '')) < 40")
    page.uncheck("#show-epistemic")
    assert page.locator(".band.epistemic").get_attribute("d") == ""


def test_points_are_driven_by_keys(show: Callable[..., Any]) -> None:
    page = show("regression")
    page.click("#clear")
    page.focus("#plot")
    for key in ["ArrowRight"] * 5 + ["ArrowUp"] * 2 + ["Enter"]:
        page.keyboard.press(key)
    count(page, 1)
    expect(page.locator("#said")).to_have_text("Added. Point 1 of 1 at x 1.00, y 0.40.")
    page.keyboard.press("PageDown")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    expect(page.locator("#said")).to_have_text("Point 1 of 1 at x 0.80, y 0.38")
    page.keyboard.press("Delete")
    count(page, 0)


def test_what_cannot_be_added_is_said(show: Callable[..., Any]) -> None:
    page = show("regression")
    page.evaluate("performance.now = () => 1")  # no time passes, and so the words stand
    page.click("#clear")
    page.focus("#plot")
    for _ in range(201):
        page.keyboard.press("Enter")
    expect(page.locator("#error")).to_contain_text("There may be 200 points")
    count(page, 200)
    shown = page.locator("#step").inner_text()
    until(page, "shown => document.getElementById('step').textContent !== shown", shown)  # the next picture is here
    assert page.locator("#error").is_visible()


def verdict(page: Any, words: str) -> None:
    expect(page.locator("#verdict")).to_have_text(re.compile(words), timeout=PATIENT)


def test_a_digit_is_turned_blended_and_doubted(show: Callable[..., Any]) -> None:
    page = show("image")
    verdict(page, r"It is a \d\.")
    total = page.locator("#total").inner_text()
    page.locator("#angle").fill("90")
    until(page, "total => document.getElementById('total').textContent !== total", total)
    turned = page.locator("#total").inner_text()
    page.locator("#blend").fill("50")
    until(page, "total => document.getElementById('total').textContent !== total", turned)
    page.locator("#threshold").fill("0")
    verdict(page, "I am not sure")
    page.locator("#threshold").fill("2.3")
    verdict(page, r"It is a \d\.")
    shown = [float(page.locator(f"#{name}").inner_text()) for name in ("total", "epistemic", "aleatoric")]
    assert shown[0] == pytest.approx(shown[1] + shown[2], abs=0.002)
    page.locator("#draws").fill("250")
    until(page, "document.getElementById('speed').textContent.endsWith('for 250 draws')")


def test_a_digit_of_ones_own_is_drawn_by_mouse_and_keys(show: Callable[..., Any]) -> None:
    page = show("image")
    verdict(page, r"It is a \d\.")
    page.click("#draw")
    box = page.locator("#paper").bounding_box()
    page.mouse.move(box["x"] + 140, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 140, box["y"] + 230, steps=6)
    page.mouse.up()
    data = "document.getElementById('picture').getContext('2d').getImageData(0, 0, 28, 28).data"
    inked = f"[...{data}].filter((value, k) => k % 4 === 0 && value < 128).length"
    until(page, f"{inked} > 25 && {inked} < 80")
    page.click("#wipe")
    until(page, f"{inked} === 0")
    page.focus("#paper")
    for key in [" "] + ["ArrowDown"] * 14:
        page.keyboard.press(key)
    until(page, f"{inked} > 8")


def test_a_threshold_is_moved_and_saved(show: Callable[..., Any], place: Path) -> None:
    page = show("model")
    page.select_option("#data", "test.csv")
    page.click("#open")
    expect(page.locator("#rows tbody tr")).to_have_count(25, timeout=PATIENT)
    page.locator("#budget").fill("0")
    everything = page.locator("#quality").inner_text()
    assert page.locator("#answered").inner_text() == "100.0 %"
    page.locator("#budget").fill("80")
    expect(page.locator("#answered")).to_have_text("60.0 %")
    assert percent(page.locator("#quality").inner_text()) > percent(everything)
    threshold = float(page.locator("#threshold").inner_text())
    page.click("#save")
    expect(page.locator("#policy")).to_have_text(re.compile("^Saved"), timeout=PATIENT)
    policy = load_model(TABLES, place / "model").policy
    assert policy is not None
    assert policy["threshold"] == pytest.approx(threshold, abs=0.01)
    assert policy["coverage"] == pytest.approx(0.6)


def percent(words: str) -> float:
    return float(words.removesuffix(" %"))


def test_what_cannot_be_opened_is_said_on_the_page(browser: Any, address: str) -> None:
    page = browser.new_page()  # the browser itself notes a refused request in the console
    page.goto(f"{address}/model")
    page.select_option("#data", "other.csv")
    page.click("#open")
    expect(page.locator("#error")).to_contain_text("The model's target must be in the file", timeout=PATIENT)
    page.select_option("#data", "test.csv")
    page.click("#open")
    expect(page.locator("#rows tbody tr")).to_have_count(25, timeout=PATIENT)
    expect(page.locator("#error")).to_be_hidden()
    page.close()


@pytest.mark.parametrize("name", ["regression", "image", "model"])
def test_a_page_fits_a_phone_and_each_control_has_a_name(name: str, show: Callable[..., Any]) -> None:
    page = show(name, NARROW, color_scheme="dark")
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    controls = """[...document.querySelectorAll('input, select, button, a, canvas[tabindex], [tabindex="0"]')]"""
    named = "one.labels?.length || one.getAttribute('aria-label') || one.textContent.trim()"
    nameless = f"{controls}.filter(one => !({named})).map(one => one.outerHTML)"
    assert page.evaluate(nameless) == []


def test_the_switch_of_light_and_dark_is_kept(show: Callable[..., Any]) -> None:
    page = show("regression", color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    page.click("#theme")
    assert page.evaluate(paper) == "rgb(21, 23, 27)"
    expect(page.locator("#theme")).to_have_attribute("aria-pressed", "true")
    page.reload()
    assert page.evaluate(paper) == "rgb(21, 23, 27)"


def test_focus_is_seen(show: Callable[..., Any]) -> None:
    page = show("regression")
    for _ in range(6):
        page.keyboard.press("Tab")
        assert page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2

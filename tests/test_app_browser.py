"""`mhnet app` as a person uses it: in Chromium, without a screen."""

import shutil
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import LIMITS, Page, by_command, photo, served, until
from small import PHOTOS
from tools import needs_program, require

from mhnet.app import examples, restoring
from mhnet.images.listing import find_images
from mhnet.images.read import read_rgb
from mhnet.images.write import write_rgb

require("gradio", "app")
require("playwright", "test-all")
from playwright import sync_api as playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync"]  # fmt: skip
SECONDS = 60
pytestmark = [pytest.mark.ci, needs_program("chromium", "chromium-browser", "google-chrome")]


@pytest.fixture(scope="module")
def page():
    with served() as page:
        yield page


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


class Tab:
    """A tab of a browser of its own, with the page open."""

    def __init__(self, browser: Any, page: Page, **settings: Any):
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **settings})
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(SECONDS * 1000)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.on(
            "console",
            lambda message: message.type == "error" and self.complaints.append(f"{message.text} {message.location}"),
        )
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.goto(page.address)
        self.tab.wait_for_selector("#restore")

    def drop(self, *paths: Path) -> None:
        self.tab.set_input_files("#photos input[type=file]", [str(path) for path in paths])
        self.tab.wait_for_selector("#viewer .stage:not([hidden]), #viewer .problems li")

    def restore(self) -> None:
        self.tab.click("#restore")
        self.tab.wait_for_selector("#viewer .stage.restored")

    def problems(self) -> list[str]:
        return self.tab.locator("#viewer .problems li").all_inner_texts()

    def line(self) -> str:
        """Where the line between before and after is."""
        return self.tab.evaluate("getComputedStyle(document.querySelector('#viewer .line')).left")

    def download(self, folder: Path) -> Path:
        with self.tab.expect_download() as coming:
            self.tab.click("#viewer .download")
        path = folder / coming.value.suggested_filename
        coming.value.save_as(path)
        return path


@pytest.fixture
def opened(browser, page):
    tabs: list[Tab] = []

    def opened(**settings: Any) -> Tab:
        tabs.append(Tab(browser, page, **settings))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.context.close()
    assert until(lambda: not page.files())  # closing the tab leaves nothing


class Held:
    """Networks that wait in their middle until they may go on, or are cancelled."""

    def __init__(self) -> None:
        self.waiting, self.go_on = threading.Event(), threading.Event()


@pytest.fixture
def held(monkeypatch):
    held, tell = Held(), restoring.NetworkProgress._report

    def holding(self):
        tell(self)
        held.waiting.set()
        while not held.go_on.is_set() and not self._cancelled.is_set():
            held.go_on.wait(0.02)

    monkeypatch.setattr(restoring.NetworkProgress, "_report", holding)
    yield held
    held.go_on.set()


def test_upload_restore_compare_and_download(opened, tmp_path):
    source = photo(tmp_path / "rainy day.jpg")
    tab = opened()
    tab.drop(source)
    assert tab.tab.locator("#viewer .line").is_hidden()  # nothing to compare yet
    tab.restore()
    assert tab.download(tmp_path / "got").read_bytes() == by_command(source, tmp_path)
    assert (tmp_path / "got" / "rainy day_restored.jpg").is_file()
    sizes = tab.tab.evaluate(
        "[...document.querySelectorAll('#viewer .layer img')].map(i => [i.naturalWidth, i.naturalHeight])"
    )
    assert sizes == [[64, 48], [64, 48]]  # both at full resolution
    box = tab.tab.locator("#viewer .stage").bounding_box()
    middle = tab.line()
    tab.tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    tab.tab.mouse.down()
    tab.tab.mouse.move(box["x"] + box["width"] / 4, box["y"] + 60)
    tab.tab.mouse.up()
    assert float(tab.line()[:-2]) == pytest.approx(float(middle[:-2]) / 2, abs=3)
    clipped = tab.tab.evaluate("getComputedStyle(document.querySelector('#viewer .before')).clipPath")
    assert clipped.startswith("inset(0") and "75" in clipped
    tab.tab.keyboard.press("End")
    assert float(tab.line()[:-2]) == pytest.approx(box["width"], abs=1)
    own = tab.asked[0].split("/", 3)[2]
    assert all(url.split("/", 3)[2] == own for url in tab.asked if url.startswith(("http", "ws")))
    assert not tab.complaints


def test_zoom_by_buttons_keys_wheel_and_double_click(opened, tmp_path):
    tab = opened()
    tab.drop(photo(tmp_path / "a.png"))
    tab.restore()
    shown = tab.tab.locator("#viewer output")
    whole = shown.inner_text()
    tab.tab.click("[data-zoom=one]")
    assert shown.inner_text() == "100 %"
    tab.tab.locator("#viewer .stage input").focus()
    tab.tab.keyboard.press("0")
    assert shown.inner_text() == whole
    tab.tab.keyboard.press("+")
    grown = shown.inner_text()
    assert int(grown.split()[0]) > int(whole.split()[0])
    tab.tab.locator("#viewer .stage").hover(position={"x": 40, "y": 40})
    tab.tab.mouse.wheel(0, -200)
    assert until(lambda: int(shown.inner_text().split()[0]) > int(grown.split()[0]))
    before = tab.tab.evaluate("document.querySelector('#viewer .layer img').style.transform")
    box = tab.tab.locator("#viewer .stage").bounding_box()
    tab.tab.mouse.down()
    tab.tab.mouse.move(box["x"] + 90, box["y"] + 90)
    tab.tab.mouse.up()
    assert tab.tab.evaluate("document.querySelector('#viewer .layer img').style.transform") != before  # it was moved
    tab.tab.locator("#viewer .stage").dblclick(position={"x": 40, "y": 40})
    assert shown.inner_text() == whole


def test_several_photos_and_hostile_ones_among_them(opened, page, tmp_path):
    (tmp_path / "text.png").write_text("no pixels")
    (tmp_path / "<b>cut.png").write_bytes(photo(tmp_path / "a.png").read_bytes()[:2000])
    tab = opened()
    tab.drop(tmp_path / "text.png", tmp_path / "a.png", tmp_path / "<b>cut.png", photo(tmp_path / "b.tif"))
    assert "text.png" in tab.problems()[0] and str(page.folder) not in "".join(tab.problems())
    tab.restore()
    problems = "".join(tab.problems())
    assert "cut.png" in problems and str(page.folder) not in problems
    tab.tab.locator("#viewer .strip button").nth(1).click()
    assert "b.tif" in tab.tab.locator("#viewer .about").inner_text()
    assert tab.tab.evaluate("document.querySelector('#viewer .after img').decode().then(() => true)")  # a TIFF is shown
    assert tab.download(tmp_path / "got").read_bytes() == by_command(tmp_path / "b.tif", tmp_path)


@pytest.mark.skipif(not examples.examples(), reason="the photographs of demo/ are not here")
def test_an_example_by_keyboard_alone_in_dark_mode(opened, monkeypatch, tmp_path):
    photo(tmp_path / examples.examples()[0]["name"])
    monkeypatch.setitem(examples._DEGRADED, "derain", tmp_path)  # a smaller one of that name
    monkeypatch.setattr(examples, "_CLEAN", tmp_path)
    tab = opened(color_scheme="dark")
    ground = tab.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(int(part) for part in ground[4:-1].split(",")[:3]) < 150
    for _ in range(20):
        tab.tab.keyboard.press("Tab")
        if tab.tab.evaluate("document.activeElement.closest('#samples') !== null"):
            break
    tab.tab.keyboard.press("Enter")
    tab.tab.wait_for_selector("#viewer .stage.restored")
    scores = tab.tab.locator("#viewer table").inner_text()
    assert "rain_y_matlab" in scores and "dB" in scores


@pytest.mark.skipif(not examples.examples(), reason="the photographs of demo/ are not here")
def test_an_example_with_nothing_to_remove_is_told(opened, monkeypatch, tmp_path):
    write_rgb(tmp_path / "calm.png", read_rgb(examples._UNTOUCHED)[:96, :96])
    monkeypatch.setattr(examples, "_UNTOUCHED", tmp_path / "calm.png")
    tab = opened()
    assert "nothing to remove" in tab.tab.locator("#samples button").last.get_attribute("title")
    tab.tab.locator("#samples button").last.evaluate("e => (e.dataset.name = 'calm.png')")
    tab.tab.locator("#samples button").last.click()
    tab.tab.wait_for_selector("#viewer .stage.restored")
    assert "rain found" in tab.tab.locator("#viewer .about").inner_text()


def test_by_keyboard_one_radio_group_and_the_result_has_the_focus(opened, tmp_path):
    tab = opened()
    tab.drop(photo(tmp_path / "a.png"))
    chosen = tab.tab.locator("#task input:checked")
    chosen.focus()
    tab.tab.keyboard.press("ArrowRight")
    assert chosen.get_attribute("value") == "deblur" and chosen.evaluate("e => e.matches(':focus-visible')")
    outline = chosen.evaluate("e => getComputedStyle(e.closest('label')).outlineStyle")
    assert outline == "solid" and "deblur-small" in tab.tab.locator("#task .about").inner_text()
    tab.tab.locator("#restore").press("Enter")
    tab.tab.wait_for_selector("#viewer .stage.restored")
    assert tab.tab.evaluate("document.activeElement.closest('#viewer .stage') !== null")
    assert "Blur removed by deblur-small" in tab.tab.locator("#viewer .about").inner_text()
    for at in ("100", "0", "100"):  # all before, all after
        tab.tab.keyboard.press("b")
        assert tab.tab.locator("#viewer .stage input").input_value() == at


def test_the_keyboard_stays_where_it_works(opened, tmp_path, held):
    tab = opened()
    tab.drop(photo(tmp_path / "a.png"))
    tab.tab.locator("#restore").press("Enter")
    for shown in ("cancel", "restore"):
        tab.tab.wait_for_function("name => document.activeElement.id === name", arg=shown)
        assert held.waiting.wait(SECONDS)
        tab.tab.keyboard.press("Enter" if shown == "cancel" else "Tab")
    tab.tab.wait_for_function("document.activeElement.id !== 'restore'")
    assert not [complaint for complaint in tab.complaints if "reset" in complaint]


def test_several_results_come_as_one_zip_with_the_strength_that_was_chosen(opened, tmp_path):
    (tmp_path / "more").mkdir()
    pixels = read_rgb(photo(tmp_path / "same.png"))
    write_rgb(tmp_path / "more" / "same.png", np.ascontiguousarray(pixels[:, ::-1]))
    tab = opened()
    tab.drop(tmp_path / "same.png", tmp_path / "more" / "same.png")
    tab.tab.locator("#strength input[type=number]").fill("0")
    tab.tab.keyboard.press("Tab")
    tab.restore()
    with tab.tab.expect_download() as coming:
        tab.tab.click("#viewer .all")
    coming.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.namelist() == ["same_restored.png", "same_restored_2.png"]
        archive.extractall(tmp_path / "all")
    assert np.array_equal(read_rgb(tmp_path / "all" / "same_restored.png"), pixels)  # nothing of the change is kept
    assert np.array_equal(read_rgb(tmp_path / "all" / "same_restored_2.png"), pixels[:, ::-1])
    assert "strength 0%" in tab.tab.locator("#viewer .about").inner_text()


def test_a_refused_file_stays_listed_with_its_reason_until_it_is_removed(opened, tmp_path):
    (tmp_path / "text.png").write_text("no pixels")
    (tmp_path / "large.png").write_bytes(bytes(LIMITS.bytes + 1))
    tab = opened()
    tab.drop(tmp_path / "text.png", photo(tmp_path / "a.png"), tmp_path / "large.png")
    tab.restore()
    rows = tab.tab.locator("#photos li")
    texts = sorted(rows.all_inner_texts())
    assert len(texts) == 3 and "up to 2.0 MB" in texts[1] and "not an image" in texts[2]
    tab.tab.get_by_role("button", name="Remove large.png").click()
    tab.tab.get_by_role("button", name="Remove text.png").click()
    assert until(lambda: len(rows.all()) == 1 and not tab.problems())
    words = tab.tab.locator("#controls :is(input, button)").evaluate_all(
        "all => all.map(e => e.ariaLabel || e.innerText || e.closest('label')?.innerText || e.title || '')"
    )
    assert not [word for word in words if "common." in word]


def test_a_clean_photo_under_advanced_gives_scores(opened, tmp_path):
    tab = opened()
    tab.drop(photo(tmp_path / "a.png"))
    write_rgb(tmp_path / "clean.png", read_rgb(find_images(PHOTOS)[0])[:48, :64])
    tab.tab.click("#advanced button")
    tab.tab.set_input_files("#clean input[type=file]", str(tmp_path / "clean.png"))
    tab.tab.wait_for_selector("#clean li")
    tab.tab.click("#local input[value=on]")
    tab.restore()
    assert "rain_y_matlab" in tab.tab.locator("#viewer table").inner_text()
    assert tab.download(tmp_path / "got").read_bytes() == by_command(tmp_path / "a.png", tmp_path, "--tlc")


def test_two_users_at_once_wait_for_each_other_and_see_their_own(opened, held, tmp_path):
    pixels = read_rgb(photo(tmp_path / "same.png"))
    write_rgb(tmp_path / "other" / "same.png", np.ascontiguousarray(pixels[:, ::-1]))
    users = [(opened(), tmp_path / "same.png"), (opened(), tmp_path / "other" / "same.png")]
    for tab, source in users:
        tab.drop(source)
        tab.tab.click("#restore")
    users[1][0].tab.wait_for_function("document.querySelector('#status')?.innerText.includes('queue')")
    held.go_on.set()
    for number, (tab, source) in enumerate(users):
        tab.tab.wait_for_selector("#viewer .stage.restored")
        got = tab.download(tmp_path / f"got{number}").read_bytes()
        assert got == by_command(source, source.parent)


def test_cancel_stops_all_photos_and_shows_those_that_are_done(opened, monkeypatch, capfd, tmp_path):
    second, restore = threading.Event(), restoring.PhotoRestorer.restore

    def restore_first(self, path, folder, settings, tell, stop):
        if path.name == "a.png":
            return restore(self, path, folder, settings, tell, stop)
        second.set()
        assert stop.wait(SECONDS)
        raise restoring.Cancelled

    monkeypatch.setattr(restoring.PhotoRestorer, "restore", restore_first)
    tab = opened()
    tab.drop(photo(tmp_path / "a.png"), photo(tmp_path / "b.png"), photo(tmp_path / "c.png"))
    tab.tab.click("#restore")
    assert second.wait(SECONDS)
    tab.tab.click("#cancel")
    tab.tab.wait_for_selector("#viewer .stage.restored")
    assert "a.png" in tab.tab.locator("#viewer .about").inner_text()
    tab.tab.wait_for_selector("#restore")
    assert "output values" not in capfd.readouterr().err


def test_cancel_stops_and_the_next_run_works(opened, held, tmp_path):
    tab = opened()
    tab.drop(photo(tmp_path / "a.png"))
    tab.tab.click("#restore")
    assert held.waiting.wait(SECONDS)
    tab.tab.wait_for_function("document.querySelector('#status')?.innerText.includes('a.png')")  # progress
    tab.tab.click("#cancel")
    tab.tab.wait_for_selector("#restore")
    assert tab.tab.locator("#viewer .stage.restored").count() == 0
    held.go_on.set()
    tab.restore()


def test_closing_the_tab_stops_the_work_and_removes_the_files(opened, page, held, monkeypatch, tmp_path):
    ended = threading.Event()
    restore = restoring.PhotoRestorer.restore

    def watched(*arguments):
        try:
            return restore(*arguments)
        except restoring.Cancelled:
            ended.set()
            raise

    monkeypatch.setattr(restoring.PhotoRestorer, "restore", watched)
    tab = opened()
    tab.drop(photo(tmp_path / "a.png"))
    tab.tab.click("#restore")
    assert held.waiting.wait(SECONDS) and page.files()
    tab.tab.close()
    assert ended.wait(SECONDS)
    assert until(lambda: not page.files())


def test_a_phone_shows_everything_without_scrolling_sideways(opened, tmp_path):
    tab = opened(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, device_scale_factor=3)
    tab.drop(photo(tmp_path / "a.png"))
    tab.restore()
    assert tab.tab.evaluate("document.documentElement.scrollWidth") <= 360
    box = tab.tab.locator("#viewer .stage").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 360
    assert until(lambda: tab.tab.locator("#viewer .stage").evaluate(
        "e => e.getBoundingClientRect().top < innerHeight && e.getBoundingClientRect().bottom > 0"))  # fmt: skip
    tab.tab.touchscreen.tap(box["x"] + 30, tab.tab.locator("#viewer .stage").bounding_box()["y"] + 20)
    assert float(tab.line()[:-2]) == pytest.approx(30, abs=3)

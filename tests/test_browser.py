"""The page in a real browser: no request leaves it, tables sort, the download downloads, nothing overflows."""

import csv
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from embprobe.making import make
from embprobe.stages.report import Report
from embprobe.store import Store
from tests import fake_study
from tests.fake_study import HOSTILE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@dataclass
class Watched:
    """A page, and all that it said and asked for."""

    page: "playwright.Page"
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def at(self, width: int, scheme: str = "light") -> "playwright.Page":
        self.page.emulate_media(color_scheme=scheme)
        self.page.set_viewport_size({"width": width, "height": 900})
        return self.page

    def fresh(self) -> "playwright.Page":
        self.page.reload()
        return self.page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the study written by hand."""
    store = Store(tmp_path_factory.mktemp("browser") / "store")
    return make(Report(artefacts=fake_study.artefacts(store), title=HOSTILE), store).path


@pytest.fixture(scope="module")
def watched(report: Path) -> Iterator[Watched]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        found = Watched(browser.new_page(accept_downloads=True))
        found.page.on("console", lambda message: found.console.append(message.text))
        found.page.on("pageerror", lambda error: found.console.append(str(error)))
        found.page.on("dialog", lambda dialog: (found.console.append(dialog.message), dialog.dismiss()))
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.goto((report / "report.html").as_uri())
        yield found
        browser.close()


def column(page: "playwright.Page", place: int) -> list[str]:
    """The cells of a column of the first table, floors left out."""
    cells = page.locator("table").first.locator("tbody").first.locator("tr")
    return [row.locator("td, th").nth(place).inner_text() for row in cells.all()]


def test_it_asks_for_nothing_but_itself_and_no_error_is_logged(watched: Watched) -> None:
    watched.page.wait_for_load_state("networkidle")
    asked = [url for url in watched.requests if not url.startswith("data:")]
    assert len(set(asked)) == 1 and asked[0].endswith("report.html")
    assert watched.console == []


def test_a_script_that_asks_the_network_is_refused(watched: Watched) -> None:
    page = watched.fresh()
    refused = page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', error => String(error))")
    assert "Failed to fetch" in refused
    watched.console.clear()
    watched.requests.clear()


def test_every_picture_is_there(watched: Watched) -> None:
    widths = watched.page.eval_on_selector_all("img", "all => all.map(image => image.naturalWidth)")
    assert len(widths) > 10 and min(widths) > 0


def test_a_click_sorts_one_way_and_then_the_other(watched: Watched) -> None:
    page = watched.fresh()
    header = page.locator("table").first.locator("thead th").nth(2)
    assert column(page, 2) == ["12.00 ±2.0", "20.00 ±2.0", "9.000 ±2.0"]
    header.locator("button").click()
    assert (
        column(page, 2) == ["9.000 ±2.0", "12.00 ±2.0", "20.00 ±2.0"]
        and header.get_attribute("aria-sort") == "ascending"
    )
    header.locator("button").click()
    assert (
        column(page, 2) == ["20.00 ±2.0", "12.00 ±2.0", "9.000 ±2.0"]
        and header.get_attribute("aria-sort") == "descending"
    )
    floor = page.locator("table").first.locator("tbody.floor tr")
    assert floor.count() == 4 and "real held-out" in floor.last.inner_text()


def test_the_keyboard_sorts_and_scrolls(watched: Watched) -> None:
    page = watched.fresh()
    page.locator("table").first.locator("thead button").first.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert [name.split(",")[0] for name in column(page, 0)] == ["pixels", "mae", "ijepa"]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    sorted_by = page.locator("table").first.locator("thead th[aria-sort]")
    assert sorted_by.count() == 1 and sorted_by.inner_text().startswith("n")
    boxes = page.locator(".wide")
    assert all(box.get_attribute("tabindex") == "0" and box.get_attribute("aria-label") for box in boxes.all())


def test_the_download_is_the_csv(watched: Watched, report: Path) -> None:
    with watched.fresh().expect_download() as started:
        watched.page.locator("a[download]").click()
    assert started.value.suggested_filename == "table.csv"
    found = Path(started.value.path()).read_text()
    assert found == (report / "table.csv").read_text()
    assert next(csv.DictReader(io.StringIO(found)))["encoder"] == "ijepa, by class"


@pytest.mark.parametrize("width", [390, 1000, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows(watched: Watched, width: int, scheme: str) -> None:
    page = watched.at(width, scheme)
    for details in page.locator("details").all():
        details.evaluate("element => element.open = true")
    widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert widths[0] <= widths[1] <= width
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 22, 26)"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read(watched: Watched, scheme: str) -> None:
    page = watched.at(1400, scheme)
    shown = [
        page.evaluate(f"getComputedStyle(document.querySelector('{where}')).color")
        for where in ("p", "a", ".soft", ".floor td")
    ]
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert min(contrast(colour, back) for colour in shown) >= 4.5


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of two colours."""

    def light(colour: str) -> float:
        parts = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_hostile_class_name_stays_text(watched: Watched) -> None:
    page = watched.fresh()
    assert page.locator("img[src=x]").count() == 0 and page.title() == HOSTILE
    assert page.locator("h1").inner_text() == HOSTILE
    assert page.get_by_role("rowheader", name=HOSTILE, exact=True).count() >= 3
    assert watched.console == []


def test_print_opens_what_is_folded_and_cuts_no_table(watched: Watched) -> None:
    page = watched.fresh()
    page.set_viewport_size({"width": 1032, "height": 720})  # A4 on its side, less its margins
    page.emulate_media(media="print")
    assert page.locator("details table").first.is_visible() and not page.locator("nav").is_visible()
    cut = page.eval_on_selector_all(
        ".wide", "all => all.filter(box => box.scrollWidth > document.documentElement.clientWidth).length"
    )
    assert cut == 0 and page.locator("details:not([open]) .wide").count() > 0
    page.emulate_media(media="screen")


# ---- the first screen


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of four encoders and three seeds of 128 px images that no code can make smaller."""
    store = Store(tmp_path_factory.mktemp("seeds") / "store")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fake_study, "SIZE", 128)
        patched.setattr(fake_study, "ENCODERS", fake_study.ENCODERS | {"dinov2": (15.0, 0.7)})
        given = fake_study.artefacts(store, seeds=(0, 1, 2), curve=False)
        return make(Report(artefacts=given, title="Four encoders"), store).path


@pytest.fixture
def opened(watched: Watched, seeds: Path, report: Path) -> Iterator[Watched]:
    """The page of several seeds; the other one again afterwards."""
    watched.page.goto((seeds / "report.html").as_uri())
    yield watched
    watched.page.goto((report / "report.html").as_uri())
    watched.console.clear()
    watched.requests.clear()


def test_four_encoders_and_three_seeds_fit_into_8_mb(seeds: Path) -> None:
    assert (seeds / "report.html").stat().st_size <= 8e6


@pytest.mark.parametrize("width", [390, 1000, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_screen_holds_a_sentence_and_a_picture_that_fits(watched: Watched, width: int, scheme: str) -> None:
    page = watched.at(width, scheme)
    page.evaluate("scrollTo(0, 0)")
    sentence, plots = page.locator(".headline"), page.locator(".forest svg:visible")
    assert len(sentence.inner_text().split()) <= 40 and plots.count() == 1
    box, told = plots.bounding_box(), sentence.bounding_box()
    assert told["y"] + told["height"] < box["y"] and box["x"] >= 0 and box["x"] + box["width"] <= width
    assert box["y"] + box["height"] <= 900 if width > 400 else box["y"] < 450
    size = plots.evaluate("svg => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width") * 12
    assert size >= 11  # pixels of its letters
    cut = plots.evaluate(
        "svg => [...svg.querySelectorAll('text')].filter(t => { const b = t.getBBox(); "
        "return b.x < 0 || b.x + b.width > svg.viewBox.baseVal.width; }).map(t => t.textContent)"
    )
    assert cut == []
    after = page.locator(".pair .strips .strip")
    seen = [strip.bounding_box() for strip in after.all()]
    assert width < 900 or max(b["y"] + b["height"] for b in seen) <= 900, "samples stand on the first screen"
    assert [s.locator(".named").inner_text() for s in after.all()] == ["real, held out", "ijepa", "mae", "pixels"]


@pytest.mark.parametrize("width", [390, 1000, 1400])
def test_words_in_the_picture_of_four_encoders_do_not_run_into_each_other(opened: Watched, width: int) -> None:
    plot = opened.at(width).locator(".forest svg:visible")
    clashes = plot.evaluate(
        """svg => { const all = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBBox()]), found = [];
        for (const [i, [a, p]] of all.entries()) for (const [b, q] of all.slice(i + 1))
          if (p.x < q.x + q.width - 1 && q.x < p.x + p.width - 1 && p.y + 4 < q.y + q.height - 4 && q.y + 4 < p.y + p.height - 4)
            found.push(a + " | " + b);
        return found; }"""
    )
    assert clashes == []


def test_the_keyboard_opens_each_seed_and_sorting_keeps_them_together(opened: Watched) -> None:
    page = opened.at(1400)
    table = page.locator("table").first
    rows = table.locator("tbody").first.locator("tr:visible")
    button = table.locator("button.fold").first
    assert rows.count() == 4 and button.get_attribute("aria-expanded") == "false"
    button.focus()
    page.keyboard.press("Enter")
    assert rows.count() == 7 and button.get_attribute("aria-expanded") == "true"
    table.locator("thead th").nth(2).locator("button").click()
    names = [row.locator("th").inner_text().split(",")[0] for row in rows.all()]
    assert names == ["pixels", *["ijepa"] * 4, "dinov2", "mae"]
    assert "mean of 3 seeds" in rows.nth(1).inner_text() and "seed 0" in rows.nth(2).inner_text()
    button = table.locator("button.fold[aria-expanded=true]")
    button.focus()
    page.keyboard.press("Space")
    assert rows.count() == 4


def test_a_cut_table_says_so_until_it_is_scrolled_to_its_end(watched: Watched) -> None:
    page = watched.at(390)
    box = page.locator(".scroller").first
    page.wait_for_timeout(300)
    assert "more" in box.get_attribute("class")
    assert box.evaluate("box => getComputedStyle(box, '::after').opacity") == "1"
    first = page.locator("table tbody th").first
    before = first.bounding_box()["x"]
    page.locator(".wide").first.evaluate("box => box.scrollLeft = 1e6")
    page.wait_for_timeout(300)
    assert "more" not in box.get_attribute("class") and first.bounding_box()["x"] == before


@pytest.mark.parametrize("width", [390, 1000, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(watched: Watched, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = watched.at(width, scheme)
    for details in page.locator("details").all():
        details.evaluate("element => element.open = true")
    found = axe.Axe().run(page).response["violations"]
    grave = {
        v["id"]: [n["html"][:120] for n in v["nodes"]][:3] for v in found if v["impact"] in ("serious", "critical")
    }
    assert grave == {}

"""The page in a real headless Chromium: no error, no request, sorting, filters, colours, widths."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.browser import Browser, chromium
from fssplat.report.sections.all import document
from fssplat.report.writing.files import write_report
from tests.fakes.report_stores import HOSTILE, evidence
from tests.fakes.shown_episodes import shown_trials, store_with_masks

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no Chromium: apt-get install chromium"),
]

LOWEST_CONTRAST = 4.5  # WCAG 2.2, level AA
CONTRASTS = """
(() => {
  const numbers = text => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const part = value => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  };
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const behind = node => {
    for (let one = node; one; one = one.parentElement) {
      const colour = numbers(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const colour = numbers(node instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(colour), light(behind(node))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), text.data.trim().slice(0, 40)]);
  }
  return found.sort((x, y) => x[0] - y[0]);
})()
"""


@pytest.fixture(scope="module")
def shown_page(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a gallery."""
    folder = tmp_path_factory.mktemp("shown")
    store = store_with_masks(folder, synthetic)
    write_report(document(evidence(store, shown_trials(synthetic))), folder / "out")
    return folder / "out" / "index.html"


@pytest.fixture(scope="module")
def hostile_page(report_folder: Path) -> Path:
    return report_folder / "index.html"


@pytest.fixture
def browser() -> Iterator[Browser]:
    with Browser(1100, 800) as one:
        one.record("Runtime", "Log", "Network")
        yield one


def opened(browser: Browser, page: Path, scheme: str = "light") -> None:
    browser.media([("prefers-color-scheme", scheme)])
    browser.open(page.as_uri(), "Verdict", timeout_s=60)


def complaints(browser: Browser) -> list[dict[str, Any]]:
    kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    return [one for one in browser.events if one["method"] in kinds]


def requests(browser: Browser) -> list[str]:
    return [
        str(one["params"]["request"]["url"])
        for one in browser.events
        if one["method"] == "Network.requestWillBeSent"
    ]


@pytest.mark.parametrize("name", ["hostile_page", "shown_page"])
def test_the_page_has_no_error_and_asks_no_network(
    browser: Browser, request: pytest.FixtureRequest, name: str
) -> None:
    page = request.getfixturevalue(name)
    opened(browser, page)
    browser.run("window.scrollTo(0, document.body.scrollHeight)")
    browser.wait("How it was made")
    assert complaints(browser) == []
    assert [one for one in requests(browser) if not one.startswith("data:")] == [page.as_uri()]
    broken = "[...document.images].filter(one => one.complete && !one.naturalWidth).length"
    assert browser.run(broken) == 0


def test_names_are_text_and_start_no_script(browser: Browser, hostile_page: Path) -> None:
    opened(browser, hostile_page)
    text = str(browser.run("document.body.textContent"))
    assert HOSTILE[0] in text
    assert HOSTILE[1] in text
    assert browser.run("document.scripts.length") == 1
    assert browser.run("document.querySelectorAll('main b:not(figcaption b)').length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["hostile_page", "shown_page"])
def test_every_text_has_enough_contrast(
    browser: Browser, request: pytest.FixtureRequest, name: str, scheme: str
) -> None:
    opened(browser, request.getfixturevalue(name), scheme)
    found = browser.run(CONTRASTS)
    assert len(found) > 100
    assert [one for one in found if one[0] < LOWEST_CONTRAST] == []
    light = browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light == (scheme == "light")


def cells(browser: Browser, column: int) -> list[str]:
    table = "document.querySelector('#table-results table, table.sortable')"
    rows = f"[...{table}.tBodies[0].rows].map(row => row.cells[{column}].dataset.key)"
    found = browser.run(rows)
    assert isinstance(found, list)
    return found


def test_a_click_on_a_heading_sorts_the_table(browser: Browser, hostile_page: Path) -> None:
    opened(browser, hostile_page)
    click = (
        "document.querySelectorAll('table.sortable thead')[0].rows[0].cells[2].firstChild.click()"
    )
    before = cells(browser, 2)
    for sign in (1, -1):
        browser.run(click)
        found = [float(one) for one in cells(browser, 2)]
        assert found == sorted(map(float, before), key=lambda value, s=sign: s * value)
    mark = "document.querySelector('[aria-sort]').getAttribute('aria-sort')"
    assert browser.run(mark) == "descending"


def choose(browser: Browser, label: str, text: str) -> None:
    """Choose an option of the select with this label."""
    done = browser.run(
        f"""(() => {{
          const label = [...document.querySelectorAll(".choices label")]
            .find(one => one.firstChild.data.trim() === {json.dumps(label)});
          const select = label.querySelector("select");
          const option = [...select.options].find(one => one.text === {json.dumps(text)});
          select.value = option.value;
          select.dispatchEvent(new Event("change"));
          return true;
        }})()"""
    )
    assert done is True


def facts(browser: Browser, name: str) -> list[str]:
    """The fact of each visible picture, in order."""
    found = browser.run(
        f"""[...document.querySelectorAll(".pictures figure:not([hidden])")].map(one =>
          one.querySelector('[data-name={json.dumps(name)}]').dataset.key)"""
    )
    assert isinstance(found, list)
    return found


def test_pictures_are_sorted_and_filtered(browser: Browser, shown_page: Path) -> None:
    opened(browser, shown_page)
    every = facts(browser, "difference")
    assert len(every) >= 6
    choose(browser, "order", "difference, lowest first")
    assert facts(browser, "difference") == sorted(every, key=float)
    choose(browser, "order", "object, % of the image, highest first")
    sizes = facts(browser, "object, % of the image")
    assert sizes == sorted(sizes, key=lambda text: -float(text))
    wanted = facts(browser, "class")[0]
    choose(browser, "class", wanted)
    found = facts(browser, "class")
    assert set(found) == {wanted}
    assert 0 < len(found) < len(every)
    shown = str(browser.run("document.querySelector('.shown').textContent"))
    assert shown == f"{len(found)} of {len(every)} shown"
    choose(browser, "class", "all")
    choose(browser, "order", "as chosen")
    assert facts(browser, "difference") == every


@pytest.mark.parametrize("name", ["hostile_page", "shown_page"])
def test_a_narrow_page_does_not_scroll_sideways(request: pytest.FixtureRequest, name: str) -> None:
    with Browser(400, 800) as browser:
        opened(browser, request.getfixturevalue(name))
        assert browser.run("document.documentElement.scrollWidth") <= 400
        size = "Math.min(...[...document.querySelectorAll('main p, main li')].map(one =>"
        assert browser.run(f"{size} parseFloat(getComputedStyle(one).fontSize)))") >= 13


def test_the_page_prints_to_pdf(browser: Browser, shown_page: Path) -> None:
    opened(browser, shown_page)
    data = base64.b64decode(browser.pdf())
    assert data.startswith(b"%PDF-")
    assert data.count(b"/Type /Page\n") + data.count(b"/Type /Page ") >= 2
    assert len(data) > 20_000

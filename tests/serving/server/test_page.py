"""The page in a real browser: paint a mask, search pictures, download what was found."""

import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from docs.browser import Browser, chromium
from fssplat.results.store import Store
from fssplat.serving.finder import Finder
from tests.serving.server.conftest import settings_of
from tests.serving.server.running import served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no browser: install the package `chromium`"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser(1360, 1000) as opened:
        yield opened


def place_in_canvas(browser: Browser, x: float, y: float) -> tuple[float, float]:
    """Shares of the width and height of the canvas -> pixels of the page."""
    box = browser.run(
        "(() => { const b = document.getElementById('canvas').getBoundingClientRect();"
        " return [b.x, b.y, b.width, b.height]; })()"
    )
    return box[0] + x * box[2], box[1] + y * box[3]


def test_a_mask_is_painted_and_a_result_is_downloaded(
    browser: Browser, store: Store, marked: Path, tmp_path: Path
) -> None:
    refs, photos = (sorted((marked / name).glob("*.jpg")) for name in ("refs", "photos"))
    with served(settings_of(store, tmp_path / "supports")) as client:
        browser.downloads(tmp_path / "downloads")
        browser.open(client.address + "/", "Model: prior-fold0")
        browser.choose_files("#support-files", refs[:1])
        browser.wait("Paint over the object")
        browser.drag(place_in_canvas(browser, 0.3, 0.4), place_in_canvas(browser, 0.6, 0.6))
        browser.choose_files("#query-files", photos[:2])
        browser.wait(photos[1].name, 30)
        browser.click("Find it")
        browser.wait("Searched 2 images.", 60)
        browser.wait("its only support, by itself,", 60)
        browser.click("Download all masks")
        archive = tmp_path / "downloads" / "masks.zip"
        end = time.monotonic() + 30
        while not archive.is_file() and time.monotonic() < end:
            time.sleep(0.1)
    registered = tmp_path / "supports" / "my-object.zip"
    with zipfile.ZipFile(registered) as found:
        (entry,) = json.loads(found.read("supports.json"))["images"]
        painted = np.array(Image.open(io.BytesIO(found.read(entry["masks"]["object"]))))
        pixels = np.array(Image.open(io.BytesIO(found.read(entry["image"]))))
    assert (pixels == np.array(Image.open(refs[0]))).all()
    height, width = painted.shape
    assert painted[int(0.5 * height), int(0.45 * width)] == 1  # in the middle of the stroke
    assert painted[0, 0] == painted[-1, -1] == 0
    folder = tmp_path / "refs"
    folder.mkdir()
    Image.fromarray(pixels).save(folder / "a.png")
    Image.fromarray(painted).save(folder / "a_mask.png")
    find = Finder("prior-fold0", folder, store=store.address)
    with zipfile.ZipFile(archive) as files:
        assert files.testzip() is None
        assert sorted(files.namelist()) == [f"{path.stem}.png" for path in photos[:2]]
        for path in photos[:2]:
            mask = np.array(Image.open(io.BytesIO(files.read(f"{path.stem}.png"))))
            assert (mask == 255 * find(path).labels).all()


def test_an_object_is_outlined_with_the_keyboard_alone(
    browser: Browser, store: Store, marked: Path, tmp_path: Path
) -> None:
    refs = sorted((marked / "refs").glob("*.jpg"))
    with served(settings_of(store, tmp_path / "supports", token="0123456789abcdef")) as client:
        browser.open(client.address + "/", "Token of this server")
        browser.run("document.getElementById('token').focus()")
        browser.type("0123456789abcdef")
        browser.key("Enter", 13)
        browser.wait("Model: prior-fold0")
        browser.choose_files("#support-files", refs[:1])
        browser.wait("Paint over the object")
        browser.click("Polygon")
        browser.run("document.getElementById('canvas').focus()")
        for key, code, times in (("ArrowLeft", 37, 8), ("ArrowUp", 38, 15), ("ArrowRight", 39, 5)):
            for _ in range(times):
                browser.key(key, code)
            browser.key("Enter", 13)
        browser.key("Escape", 27)
        browser.choose_files("#query-files", refs[1:2])
        browser.wait(refs[1].name, 30)
        browser.click("Find it")
        browser.wait("Searched 1 image.", 60)
        _, answer = client.ask("GET", "/v1/supports/my-object", Token="0123456789abcdef")
        assert answer["classes"] == {"object": 1}

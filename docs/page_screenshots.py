"""Makes the pictures of docs/predict.md: python docs/page_screenshots.py

Needs the quickstart's results and synthetic data set, and the system's package `chromium`.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from docs.browser import Browser
from docs.screenshots import free_port, served
from fssplat.data.readers.layouts import read_layout
from fssplat.data.readers.record import load

IMAGES = Path(__file__).parent / "images"
COLOURS = 90  # of a picture, so that it has less than 150 kB
DONE = "Searched 6 images."


def marked_pictures(source: Path, name: str) -> list[tuple[Path, np.ndarray]]:
    """Validation pictures of the class, with where it is: bool [H, W]."""
    found = []
    for one in read_layout(source, "voc"):
        if one.image.name.startswith("val_") and name in one.annotation.classes():
            found.append((one.image, load(one).masks[name] == 1))
    return found


def paint(browser: Browser, inside: np.ndarray) -> None:
    """Paint rows of a mask with the brush, as a person would."""
    x, y, width, height = browser.run(
        "(() => { const b = document.getElementById('canvas').getBoundingClientRect();"
        " return [b.x, b.y, b.width, b.height]; })()"
    )
    rows = np.flatnonzero(inside.any(axis=1))
    pen = 0.0375 * inside.shape[1]  # half of its width
    for row in np.linspace(rows[0] + pen, rows[-1] - pen, 7).astype(int):
        columns = np.flatnonzero(inside[row])
        ends = [
            (x + width * (column / inside.shape[1]), y + height * (row / inside.shape[0]))
            for column in (columns[0] + pen, columns[-1] - pen)
        ]
        browser.drag(*ends)


def shoot(address: str, pictures: list[tuple[Path, np.ndarray]]) -> None:
    """Mark, search, and save three pictures of the page."""
    with Browser(1200, 960) as browser:
        browser.open(f"{address}/", "Model:", 60)
        browser.run("document.getElementById('size').value = 60")
        browser.run("document.getElementById('size').oninput()")
        for path, inside in pictures[:2]:
            browser.choose_files("#support-files", [path])
            browser.wait("Paint over", 20)
            browser.run("document.getElementById('canvas').scrollIntoView({block: 'center'})")
            paint(browser, inside)
        browser.run("window.scrollTo(0, 0)")
        browser.picture(IMAGES / "page-mark.png")
        browser.choose_files("#query-files", [path for path, _ in pictures[2:8]])
        browser.wait(pictures[7][0].name, 20)
        browser.run("document.getElementById('find').click()")
        browser.wait(DONE, 120)
        browser.wait("IoU", 60)
        browser.run("window.scrollTo(0, 0)")
        browser.picture(IMAGES / "page-find.png")
        browser.dark(on=True)
        browser.size(430, 932)
        browser.run("document.getElementById('find-title').scrollIntoView()")
        browser.picture(IMAGES / "page-dark.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="results")
    parser.add_argument("--source", type=Path, default=Path("data/synthetic/source"))
    parser.add_argument("--model", default="pfenet-fold1")
    parser.add_argument("--class", dest="name", default="wavy heart")
    given = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as supports:
        command = [sys.executable, "-m", "fssplat", "serve", "--model", given.model]
        command += ["--store", given.store, "--supports", supports, "--port", str(port)]
        with served(command, port, "/health") as address:
            shoot(address, marked_pictures(given.source, given.name))
    for name in ("page-mark", "page-find", "page-dark"):
        path = IMAGES / f"{name}.png"
        with Image.open(path) as picture:
            picture.convert("RGB").quantize(COLOURS).save(path, optimize=True)
            print(f"{path.name}: {picture.size}, {os.path.getsize(path) // 1000} kB")


if __name__ == "__main__":
    main()

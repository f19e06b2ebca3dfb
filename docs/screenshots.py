"""Makes the pictures of docs/compare.md: python docs/screenshots.py X.yaml --search S.yaml

Serves a finished launch (and a search in the same store) as a user would, and makes the clicks that
the page describes in a headless Chromium. Needs the system's package `chromium`.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from docs.browser import Browser
from fssplat.launching.launch import Request
from fssplat.results.store import Store
from fssplat.tracking.runs import open_tracking
from fssplat.tracking.server.connection import tracking_uri
from fssplat.tracking.views import SEARCH
from fssplat.tracking.views import address as page_of

IMAGES = Path(__file__).parent / "images"
SIZE = (1400, 640)
MOST_BYTES = 200_000
HIDE_PATHS = """
[...document.querySelectorAll("div, span")]
  .filter(node => node.innerText.trim().startsWith("Path: file:"))
  .forEach(node => node.style.visibility = "hidden")
"""  # paths of this machine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(command: list[str], port: int, page: str = "/") -> Iterator[str]:
    """Run a server on this machine for the length of the block; gives its address."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        await_answer(process, address + page)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def await_answer(process: subprocess.Popen[bytes], page: str, timeout_s: float = 120) -> None:
    """Wait until the page answers. Raises TimeoutError, or AssertionError if the server ended."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        assert process.poll() is None, f"the server ended with {process.returncode}"
        try:
            urllib.request.urlopen(page, timeout=5).close()
        except OSError:
            time.sleep(0.3)
        else:
            return
    raise TimeoutError(page)


def mlflow_pages(request: Request, port: int) -> list[str]:
    module = "from fssplat.cli import main; main()"
    changes = [part for change in request.changes for part in ("--set", change)]
    path = str(request.path)
    return [sys.executable, "-c", module, "ui", path, *changes, "--port", str(port)]


def tracked(request: Request) -> tuple[Any, Any]:
    """Open the experiment's MLflow; return it with the settings."""
    spec = request.load()
    return open_tracking(tracking_uri(spec.tracking, Store(spec.store)), spec.name), spec


def of_launch(request: Request, folder: Path) -> None:
    """Save pictures of the table, its charts, and the page of a trial."""
    tracking, _ = tracked(request)
    table = page_of(tracking.experiment_id)
    runs = tracking.client.search_runs(
        [tracking.experiment_id], "tags.`fssplat.kind` = 'trial' and tags.method != 'prior'"
    )
    panel = tracking.client.list_artifacts(runs[0].info.run_id, "panels")[0].path
    one = f"/#/experiments/{tracking.experiment_id}/runs/{runs[0].info.run_id}/artifacts/{panel}"
    port = free_port()
    with served(mlflow_pages(request, port), port, "/health") as address, Browser(*SIZE) as browser:
        browser.open(address, "Recent Experiments")
        browser.run('localStorage.setItem("mlflow.assistant.panelOpen_v1", "false")')
        browser.click("Model training")
        for name, page, text in (
            ("table", table, "miou_points"),
            ("charts", f"{table}&compareRunsMode=CHART", "Comparison"),
            ("trial", one, "panels"),
        ):
            browser.open("about:blank", "")
            browser.open(address + page, text)
            time.sleep(4)
            browser.run(HIDE_PATHS)
            browser.picture(folder / f"{name}.png")


def of_search(request: Request, folder: Path) -> None:
    """Save a picture of the points of a search in MLflow."""
    tracking, _ = tracked(request)
    port = free_port()
    points = page_of(tracking.experiment_id, SEARCH)
    with served(mlflow_pages(request, port), port, "/health") as address, Browser(*SIZE) as browser:
        browser.open(address, "Recent Experiments")
        browser.run('localStorage.setItem("mlflow.assistant.panelOpen_v1", "false")')
        browser.click("Model training")
        browser.open("about:blank", "")
        browser.open(address + points, "Comparison")
        browser.picture(folder / "search.png", settle_s=4)


def of_study(storage: str, folder: Path) -> None:
    """Save a picture of Optuna's dashboard for a study's storage."""
    port = free_port()
    program = Path(sys.executable).with_name("optuna-dashboard")
    command = [str(program), storage, "--host", "127.0.0.1", "--port", str(port)]
    with served(command, port) as address, Browser(1400, 700) as browser:
        browser.open(f"{address}/dashboard/studies/1", "History")
        browser.picture(folder / "dashboard.png", settle_s=5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path, help="a finished experiment with a local store")
    parser.add_argument("--search", type=Path, help="a finished search")
    parser.add_argument("--storage", help="address of the search's study")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--to", type=Path, default=IMAGES)
    given = parser.parse_args()
    of_launch(Request(given.experiment, tuple(given.changes)), given.to)
    if given.search:
        of_search(Request(given.search), given.to)
    if given.storage:
        of_study(given.storage, given.to)
    for picture in sorted(given.to.glob("*.png")):
        size = picture.stat().st_size
        assert size < MOST_BYTES, f"{picture}: {size} bytes"
        print(picture, size)


if __name__ == "__main__":
    main()

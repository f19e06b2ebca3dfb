"""Controls a headless Chromium through its debugging pipe: no port, no package but the browser."""

import base64
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from PIL import Image

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome")
FIND = """
(function find(text, exact) {
  const textOf = node => (node.innerText || node.getAttribute("aria-label") || "").trim();
  const all = [...document.querySelectorAll("button, a, input, label, [role], li, span, div, p")];
  const hits = all.filter(node => node.offsetParent !== null || node.getClientRects().length)
    .filter(node => exact ? textOf(node) === text : textOf(node).includes(text));
  hits.sort((a, b) => textOf(a).length - textOf(b).length || b.compareDocumentPosition(a) - 4);
  if (!hits.length) return null;
  const box = hits[0].getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
})
"""


def chromium() -> str | None:
    """The browser's program, if this machine has one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of a fixed size."""

    def __init__(self, width: int = 1360, height: int = 800) -> None:
        program = chromium()
        assert program is not None, "no browser: install the system's package `chromium`"
        self._profile = tempfile.mkdtemp(prefix="fssplat-chromium-")
        browser_in, self._write = os.pipe()
        self._read, browser_out = os.pipe()
        flags = [*FLAGS, f"--user-data-dir={self._profile}", f"--window-size={width},{height}"]
        ends = f'exec "$0" "$@" 3<&{browser_in} 4>&{browser_out}'  # the pipe has fixed numbers
        self._process = subprocess.Popen(
            ["bash", "-c", ends, program, *flags, "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(browser_in, browser_out),
            start_new_session=True,
        )
        os.close(browser_in)
        os.close(browser_out)
        self._numbers, self._unread = itertools.count(1), b""
        self.events: list[dict[str, Any]] = []  # since `record`, in their order
        self._session = ""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        self.size(width, height)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)  # the browser's own processes with it
        self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, address: str, wait_for: str, timeout_s: float = 180) -> None:
        """Go to a page and wait until it shows a text."""
        self._call("Page.navigate", url=address)
        self.wait(wait_for, timeout_s)

    def wait(self, text: str, timeout_s: float = 180) -> None:
        """Wait until the page shows a text. Raises TimeoutError with what it shows instead."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if text in str(self.run("document.body.innerText")):
                return
            time.sleep(0.2)
        raise TimeoutError(f"no {text!r} on the page, but: {self.run('document.body.innerText')}")

    def click(self, text: str, exact: bool = True, timeout_s: float = 90) -> None:
        """Wait for the smallest element with this text, then click it. Raises TimeoutError."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            place = self.run(f"{FIND}({json.dumps(text)}, {json.dumps(exact)})")
            if place:
                self.press(*place)
                return
            time.sleep(0.2)
        raise TimeoutError(f"no element of the page has the text {text!r}")

    def press(self, x: float, y: float) -> None:
        """Click with the left button at a place of the page, in pixels."""
        button = {"x": x, "y": y, "button": "left", "clickCount": 1}
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self._call("Input.dispatchMouseEvent", type="mousePressed", **button)
        self._call("Input.dispatchMouseEvent", type="mouseReleased", **button)
        time.sleep(0.3)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag with the left button from one place of the page to another."""
        for kind, (x, y), held in (
            ("mouseMoved", start, 0), ("mousePressed", start, 1), ("mouseMoved", end, 1),
            ("mouseReleased", end, 0),
        ):  # fmt: skip
            self._call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=held,
                clickCount=1,
            )  # fmt: skip
            time.sleep(0.1)

    def type(self, text: str) -> None:
        """Type into the element that has the focus."""
        self._call("Input.insertText", text=text)

    def key(self, name: str, code: int) -> None:
        """Press a key such as Enter (13) or Escape (27)."""
        for kind in ("keyDown", "keyUp"):
            self._call(
                "Input.dispatchKeyEvent", type=kind, key=name, code=name,
                windowsVirtualKeyCode=code, text="\r" if code == 13 and kind == "keyDown" else "",
            )  # fmt: skip
        time.sleep(0.3)

    def choose_files(self, selector: str, files: Sequence[Path]) -> None:
        """Give files to an input element, as a person who chooses or drops them."""
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        node = self._call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        names = [str(path.absolute()) for path in files]
        self._call("DOM.setFileInputFiles", nodeId=node, files=names)

    def downloads(self, folder: Path) -> None:
        """Save downloads in a folder without asking."""
        folder.mkdir(parents=True, exist_ok=True)
        where = {"behavior": "allow", "downloadPath": str(folder.absolute())}
        self._call("Page.setDownloadBehavior", **where)

    def size(self, width: int, height: int) -> None:
        """Give the page another size, pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)

    def dark(self, on: bool) -> None:
        """Show pages as for a person who prefers dark colours."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self._call("Emulation.setEmulatedMedia", features=[feature])

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        return found["result"].get("value")

    def picture(self, path: Path, settle_s: float = 1.5) -> None:
        """Save the page as a PNG with 256 colours, after `settle_s` seconds."""
        time.sleep(settle_s)
        found = self._call("Page.captureScreenshot", format="png")
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(io.BytesIO(base64.b64decode(found["data"]))) as shown:
            shown.convert("RGB").quantize(256).save(path, optimize=True)

    def record(self, *domains: str) -> None:
        """Keep the events of these domains of the protocol, e.g. Network, in `events`."""
        for domain in domains:
            self._call(f"{domain}.enable")

    def media(self, features: list[tuple[str, str]]) -> None:
        """Set what a page can ask of its medium, e.g. prefers-color-scheme: dark."""
        named = [{"name": name, "value": value} for name, value in features]
        self._call("Emulation.setEmulatedMedia", features=named)

    def pdf(self) -> str:
        """The page as a printed PDF, in base 64."""
        return str(self._call("Page.printToPDF", printBackground=True)["data"])

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result
            if "method" in answer:
                self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        """One message; messages end with a zero byte."""
        while b"\0" not in self._unread:
            part = os.read(self._read, 65536)
            assert part, "the browser has ended"
            self._unread += part
        one, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(one)
        return message

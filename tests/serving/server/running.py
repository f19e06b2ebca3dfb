"""A server in a thread, and a client with nothing but the standard library."""

import base64
import io
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fssplat.serving.server.app import make_server
from fssplat.serving.server.services import Services
from fssplat.serving.server.settings import ServerSettings


class Client:
    """Asks one server."""

    def __init__(self, address: str, **headers: str) -> None:
        self.address, self.headers = address, headers

    def raw(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and headers of an answer."""
        named = {
            name.replace("_", "-"): value for name, value in {**self.headers, **headers}.items()
        }
        request = urllib.request.Request(
            self.address + path, data=body or None, headers=named, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read(), dict(error.headers)

    def ask(self, method: str, path: str, value: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        body = b"" if value is None else json.dumps(value).encode()
        if value is not None:
            headers.setdefault("Content_Type", "application/json")
        status, content, _ = self.raw(method, path, body, **headers)
        return status, json.loads(content)


@contextmanager
def served(settings: ServerSettings) -> Iterator[Client]:
    """Run a server on a free port for the length of the block."""
    services = Services(settings)
    with socket.socket() as bound:
        bound.bind((settings.host, 0))
        server = make_server(services)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Client(f"http://{settings.host}:{bound.getsockname()[1]}")
        finally:
            server.should_exit = True
            thread.join()
            services.network.close()


def base64_of(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def png_text(pixels: Any) -> str:
    """An array as a PNG in base64."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def given_supports(marked: Path, name: str = "object") -> dict[str, Any]:
    """The pairs of refs/ as a request has them."""
    return {
        "images": [
            {
                "name": p.name,
                "image": base64_of(p),
                "masks": {name: base64_of(p.with_suffix(".png"))},
            }
            for p in sorted((marked / "refs").glob("*.jpg"))
        ]
    }


def mask_in(result: Mapping[str, Any]) -> Any:
    """uint8 [H, W], as the file has it."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(result["mask"]))))

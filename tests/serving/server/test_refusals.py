"""Hostile and wrong requests are refused in one line, and the next request is answered."""

import base64
import contextlib
import io
import json
import socket
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fssplat.common.errors import InputError
from fssplat.results.store import Store
from fssplat.serving.server.settings import ServerSettings
from tests.serving.server.conftest import SMALL, settings_of
from tests.serving.server.running import Client, given_supports, png_text, served

TOKEN = "0123456789abcdef"
SMALL_PICTURE = png_text(np.zeros((9, 9, 3), dtype=np.uint8))


@pytest.fixture(autouse=True)
def unharmed(client: Client) -> Iterator[None]:
    """After each request the server answers, and its supports are those from before."""
    before = client.ask("GET", "/v1/supports/refs")
    yield
    assert client.ask("GET", "/health")[0] == 200
    assert client.ask("GET", "/v1/supports") == (200, {"success": True, "supports": ["refs"]})
    assert client.ask("GET", "/v1/supports/refs") == before


def bomb(side: int) -> str:
    """A PNG of a few bytes that says it has side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 100_000, 9)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return base64.b64encode(data).decode()


def predict(**changes: Any) -> dict[str, Any]:
    return {"supports": "refs", "images": [SMALL_PICTURE], **changes}


WRONG = {
    "a picture that is a bomb": (
        predict(images=[bomb(60_000)]),
        422,
        "image has far over 200,000",
    ),
    "no base64": (predict(images=["%%%"]), 422, "images[0]: it is not base64"),
    "no picture": (predict(images=["aGFsbG8="]), 422, "images[0]: the image cannot be read"),
    "no pictures": (predict(images=[]), 422, "0 images; a request has 1 to 5"),
    "too many pictures": (predict(images=[SMALL_PICTURE] * 6), 422, "6 images; a request has 1"),
    "a number for a picture": (predict(images=[7]), 422, "images.0: Input should be a valid str"),
    "a list": ([1, 2], 422, "Input should be"),
    "unknown supports": (predict(supports="nothing"), 404, "supports nothing: no set"),
    "a path as supports": (predict(supports="../../etc/passwd"), 422, "a name has 1 to 64"),
    "a path as model": (predict(model="/etc/passwd"), 404, "model /etc/passwd: not in"),
    "an address as model": (predict(model="models:/m-1"), 404, "model models:/m-1: not in"),
    "an unknown field": (predict(shots=3), 422, "shots: Extra inputs are not permitted"),
    "an unknown format": (predict(formats=["exe"]), 422, "formats.0: Input should be"),
    "a threshold of 7": (predict(threshold=7), 422, "threshold: Input should be less than"),
    "nothing": ({}, 422, "supports: missing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_one_line(name: str, client: Client) -> None:
    value, expected, text = WRONG[name]
    status, answer = client.ask("POST", "/v1/predict", value)
    line = answer["error"]["message"]
    assert status == expected, answer
    assert text in line
    assert "\n" not in line
    assert len(line) < 400


def test_a_body_that_is_too_large_or_nested_too_deeply(client: Client) -> None:
    given = predict(images=["A" * (SMALL.body_bytes + 1)])
    status, answer = client.ask("POST", "/v1/predict", given)
    assert (status, answer["error"]["code"]) == (413, "TOO_LARGE")
    json_type = {"Content_Type": "application/json"}
    deep = b'{"images":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    assert client.raw("POST", "/v1/predict", deep, **json_type)[0] == 400
    assert client.raw("POST", "/v1/predict", b'{"images": [', **json_type)[0] == 422
    assert client.raw("PUT", "/v1/supports/refs", b"\xff\xfe", **json_type)[0] == 422
    assert client.raw("PUT", "/v1/supports/refs", b"x", Content_Type="text/plain")[0] == 422


def zipped(*files: tuple[str, bytes], level: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", level) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return buffer.getvalue()


def test_hostile_archives(client: Client, folder: Path) -> None:
    many = zipped(*((f"{number}.txt", b"") for number in range(100)))
    for data, text in (
        (zipped(("a.png", b"\0" * 40_000_000)), "the archive is too large"),
        (many, "the archive is too large"),
        (zipped(("../../outside.png", b"x")), "no plain path"),
        (zipped(("/outside.png", b"x")), "no plain path"),
        (zipped(("a.png", b"x" * 99))[:-40], "cannot be unpacked"),
        (b"PK\x03\x04 nothing", "cannot be unpacked"),
        (zipped(), "no annotations that are known"),
    ):
        status, body, _ = client.raw(
            "PUT", "/v1/supports/bad", data, Content_Type="application/zip"
        )
        assert status == 422
        assert text in json.loads(body)["error"]["message"]
    assert not list(folder.parent.parent.rglob("outside.png"))


@pytest.mark.parametrize("name", ["%2e%2e", "..%2f..%2fx", ".hidden", "a%00b", "a" * 65, "x%2Fy"])
def test_names_that_are_paths(name: str, client: Client, marked: Path) -> None:
    status, _ = client.ask("PUT", f"/v1/supports/{name}", given_supports(marked))
    assert status in (404, 405, 422)


def test_wrong_supports_leave_the_old_ones(client: Client, marked: Path) -> None:
    empty = png_text(np.zeros((9, 9), dtype=np.uint8))
    other = png_text(np.eye(8, dtype=np.uint8))
    half = png_text(np.arange(81, dtype=np.uint8).reshape(9, 9))
    for mask, text in (
        (empty, "the mask has the value 0"),
        (other, "the mask has 8 x 8 (height x width), its picture 9 x 9"),
        (half, "several objects, or soft edges"),
        ("aGFsbG8=", "cannot be read"),
        (bomb(60_000), "image has far over 200,000"),
    ):
        given = {"images": [{"image": SMALL_PICTURE, "masks": {"cat": mask}}]}
        status, answer = client.ask("PUT", "/v1/supports/refs", given)
        assert status == 422
        assert text in answer["error"]["message"]
    given = {"images": given_supports(marked)["images"] * 3}
    assert client.ask("PUT", "/v1/supports/refs", given)[0] == 422


def test_other_sites_may_not_use_a_server_without_a_token(client: Client) -> None:
    assert client.ask("GET", "/v1/models", Host="evil.example")[0] == 403
    assert client.ask("GET", "/v1/models", Origin="http://evil.example")[0] == 403
    assert client.ask("GET", "/v1/models", Origin=client.address)[0] == 200


def test_a_head_or_a_body_that_does_not_arrive_is_given_up(client: Client) -> None:
    host, port = client.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nX-")
        for _ in range(30):
            time.sleep(0.1)
            try:
                slow.sendall(b"a")
            except OSError:
                break
        slow.settimeout(5)
        with contextlib.suppress(ConnectionError):
            assert slow.recv(100) == b""
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900\r\n\r\n{"
        )
        slow.settimeout(10)
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_a_token_is_needed_if_there_is_one(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--host 0\.0\.0\.0: other machines can reach it"):
        ServerSettings("prior", host="0.0.0.0")
    with pytest.raises(InputError, match="8 or more ASCII"):
        ServerSettings("prior", token="short")
    with served(settings_of(store, tmp_path, token=TOKEN)) as client:
        for headers in ({}, {"Token": "wrong"}, {"Authorization": "Basic %%%"}):
            status, answer = client.ask("GET", "/v1/models", **headers)
            assert (status, answer["error"]["code"]) == (401, "UNAUTHORIZED")
        basic = "Basic OjAxMjM0NTY3ODlhYmNkZWY="  # an empty name, and TOKEN as the password
        for value in ({"Token": TOKEN}, {"Authorization": f"Bearer {TOKEN}"},
                      {"Authorization": basic}):  # fmt: skip
            assert client.ask("GET", "/v1/models", **value)[0] == 200
        assert client.raw("GET", "/metrics")[0] == 401
        assert client.raw("GET", "/openapi.json")[0] == 200
        for path in ("/health", "/", "/page/app.js"):
            assert client.raw("GET", path)[0] == 200

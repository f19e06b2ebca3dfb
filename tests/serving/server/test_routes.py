"""Register supports, predict, and list, as programs and X-AnyLabeling do."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fssplat.data.readers.shapes.coco_shapes import draw_shape
from fssplat.results.store import Store
from fssplat.serving.finder import Finder
from fssplat.serving.server.registered import RegisteredSupports
from tests.data.readers.layouts import WRITERS, annotation_of, picture_of, save_picture, written
from tests.serving.server.conftest import SMALL
from tests.serving.server.running import Client, base64_of, given_supports, mask_in


@pytest.fixture(scope="module")
def expected(store: Store, marked: Path) -> dict[str, Any]:
    """What Python finds in each photo: name -> uint8 [H, W]."""
    find = Finder("prior-fold0", marked / "refs", store=store.address)
    return {path.name: find(path).labels for path in photos(marked)}


def photos(marked: Path) -> list[Path]:
    return sorted((marked / "photos").glob("*.jpg"))


def archive_of(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def test_a_request_finds_what_python_finds(
    client: Client, marked: Path, expected: dict[str, Any]
) -> None:
    images = [base64_of(path) for path in photos(marked)]
    given = {"supports": "refs", "images": images, "formats": ["png", "rle"]}
    status, answer = client.ask("POST", "/v1/predict", given)
    assert status == 200
    assert answer["classes"] == ["object"]
    for result, labels in zip(answer["results"], expected.values(), strict=True):
        assert (mask_in(result) == 255 * labels).all()
        assert result["found"]["object"]["pixels"] == labels.sum()
        drawn = draw_shape(result["rle"]["object"], *labels.shape) if labels.any() else labels
        assert (drawn == labels).all()
    assert any(labels.any() for labels in expected.values())


def test_x_anylabeling_gets_polygons_that_cover_the_mask(
    client: Client, marked: Path, expected: dict[str, Any]
) -> None:
    _, models = client.ask("GET", "/v1/models")
    assert models["data"]["refs"]["display_name"] == "refs (object)"
    _, info = client.ask("GET", "/v1/models/refs/info")
    assert info["data"]["model_id"] == "refs"
    params = {"conf_threshold": 0.0, "iou_threshold": 0.5, "epsilon_factor": 0.001}
    for path in photos(marked):
        image = f"data:image/jpeg;base64,{base64_of(path)}"
        given = {"model": "refs", "image": image, "params": params}
        status, answer = client.ask("POST", "/v1/predict", given)
        assert status == 200
        assert answer["success"] is True
        labels = expected[path.name]
        drawn = np.zeros(labels.shape, dtype=bool)
        for shape in answer["data"]["shapes"]:
            assert (shape["label"], shape["shape_type"]) == ("object", "polygon")
            drawn |= draw_shape([[v for xy in shape["points"] for v in xy]], *labels.shape)
        assert (drawn == labels).mean() > 0.999
    given = {"model": "nothing", "image": base64_of(photos(marked)[0]), "params": {}}
    status, answer = client.ask("POST", "/v1/predict", given)
    assert status == 404
    assert answer["success"] is False
    assert answer["error"]["code"] == "NOT_FOUND"


def test_supports_are_listed_read_again_and_deleted(
    client: Client, marked: Path, folder: Path
) -> None:
    given = given_supports(marked, "cat")
    status, answer = client.ask("PUT", "/v1/supports/other", given)
    assert (status, answer["classes"]) == (200, {"cat": 3})
    again = RegisteredSupports(folder, SMALL).get("other")
    assert again.key == answer["key"]
    assert again.classes["cat"][0].mask.any()
    assert client.ask("GET", "/v1/supports")[1]["supports"] == ["other", "refs"]
    assert client.ask("GET", "/v1/supports/other")[1] == answer
    status, answer = client.ask("GET", "/v1/supports/other/score")
    assert 0 <= answer["scores"]["cat"]["iou"] <= 1
    assert client.ask("DELETE", "/v1/supports/other")[0] == 200
    assert client.ask("GET", "/v1/supports/other")[0] == 404
    assert RegisteredSupports(folder, SMALL).names() == ["refs"]


@pytest.mark.parametrize("layout", WRITERS)
def test_an_archive_of_any_layout_is_registered(
    layout: str, client: Client, tmp_path: Path
) -> None:
    written(layout, tmp_path)
    name = "archive-" + layout.replace(" ", "-")
    path = f"/v1/supports/{name}?class=cat"
    status, body, _ = client.raw("PUT", path, archive_of(tmp_path), Content_Type="application/zip")
    assert status == 200, body
    assert json.loads(body)["classes"] == {"cat": 1}
    assert client.ask("DELETE", f"/v1/supports/{name}")[0] == 200


@pytest.mark.parametrize("layout", ["pairs", "coco polygon", "label studio brush"])
@pytest.mark.parametrize("fault", ["picture", "annotation", "empty"])
def test_a_wrong_archive_is_one_line_with_its_own_paths(
    layout: str, fault: str, client: Client, tmp_path: Path
) -> None:
    mask = np.zeros((40, 60), dtype=np.uint8) if fault == "empty" else None
    written(layout, tmp_path, mask=mask)
    if fault != "empty":
        file = picture_of(tmp_path) if fault == "picture" else annotation_of(tmp_path)
        file.write_bytes(file.read_bytes()[:40])
    status, body, _ = client.raw(
        "PUT", "/v1/supports/wrong", archive_of(tmp_path), Content_Type="application/zip"
    )
    line = json.loads(body)["error"]["message"]
    assert status == 422
    assert "\n" not in line
    assert "/tmp" not in line
    assert client.ask("GET", "/v1/supports/wrong")[0] == 404


@pytest.mark.parametrize("there", [True, False])
def test_an_archive_cannot_name_a_picture_of_the_server(
    there: bool, client: Client, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.jpg"
    if there:
        save_picture(outside)
    path = written("coco polygon", tmp_path / "refs")
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "../" * 20 + str(outside).lstrip("/")
    path.write_text(json.dumps(content))
    body = archive_of(tmp_path / "refs")
    status, answer, _ = client.raw("PUT", "/v1/supports/s", body, Content_Type="application/zip")
    assert status == 422
    line = json.loads(answer)["error"]["message"]
    assert "it names outside.jpg, which is outside of the archive" in line
    assert client.ask("GET", "/v1/supports/s")[0] == 404


def test_health_metrics_and_pages(client: Client) -> None:
    assert client.ask("GET", "/health")[1]["status"] == "UP"
    _, text, headers = client.raw("GET", "/metrics")
    assert b'fssplat_requests_total{route="/v1/predict",status="200"}' in text
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    for path in ("/", "/docs", "/page/app.js", "/page/canvas.js", "/page/zip.js", "/page/docs.js"):
        status, content, headers = client.raw("GET", path)
        assert status == 200
        assert b"http://" not in content.replace(b"http://www.w3.org", b"")
        assert "default-src 'self'" in headers["content-security-policy"]
    _, api = client.ask("GET", "/openapi.json")
    assert {"/v1/supports/{name}", "/v1/predict", "/v1/models", "/health", "/metrics", "/setup",
            "/predict", "/webhook"} <= set(api["paths"])  # fmt: skip

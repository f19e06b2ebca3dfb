"""The real Label Studio: a project by its API, a task annotated, the other one predicted."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from docs.screenshots import free_port
from fssplat.data.readers.shapes import brush_runs
from fssplat.results.store import Store
from fssplat.serving.finder import Finder
from tests.serving.server.conftest import settings_of
from tests.serving.server.running import Client, base64_of, served

CACHE = Path.home() / ".cache" / "fssplat-tests"  # outside of the checkout: it has 1 GB
VERSION = "1.23.2"
KEY = "0123456789abcdef0123456789abcdef01234567"
CONFIG = (
    '<View><Image name="image" value="$image"/>'
    '<BrushLabels name="tag" toName="image"><Label value="cat"/></BrushLabels></View>'
)


@pytest.fixture(scope="module")
def program() -> Path:
    """Label Studio in its own virtual environment."""
    folder = CACHE / f"label-studio-{VERSION}"
    found = folder / "bin" / "label-studio"
    if not found.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "-q", f"label-studio=={VERSION}"]
        done = subprocess.run(pip, capture_output=True, text=True, timeout=250)
        if done.returncode:
            pytest.skip(f"label-studio {VERSION} cannot be installed: {done.stderr[-200:]}")
    return found


@contextmanager
def label_studio(program: Path, folder: Path) -> Iterator[Client]:
    """Label Studio with one user, on a free port."""
    port = free_port()
    environment = {
        **os.environ,
        "SSRF_PROTECTION_ENABLED": "false",
        "USE_DEFAULT_BANNED_SUBNETS": "false",  # this machine is one
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    environment.pop("PYTHONPATH", None)
    command = [
        str(program),
        "start",
        "--no-browser",
        "--port",
        str(port),
        "--data-dir",
        str(folder),
    ]
    command += ["--username", "a@example.com", "--password", "long-password", "--user-token", KEY]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True, cwd=folder
        )
    client = Client(f"http://127.0.0.1:{port}", Authorization=f"Token {KEY}")
    try:
        until(lambda: answers(client), 500, folder / "log")
        yield client
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def answers(client: Client) -> bool:
    try:
        return client.raw("GET", "/health")[0] == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def until(check: Any, timeout_s: float, log: Path) -> Any:
    """Wait until a check is true; give its value."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(0.3)
    raise TimeoutError(log.read_text()[-3000:])


def upload(client: Client, project: int, path: Path) -> None:
    """Import one picture as a task."""
    edge = "fssplatedge"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n'
    body = head.encode() + b"Content-Type: image/jpeg\r\n\r\n" + path.read_bytes()
    body += f"\r\n--{edge}--\r\n".encode()
    status, answer, _ = client.raw(
        "POST", f"/api/projects/{project}/import", body,
        Content_Type=f"multipart/form-data; boundary={edge}",
    )  # fmt: skip
    assert status == 201, answer


def annotation(mask: Any) -> dict[str, Any]:
    height, width = mask.shape
    value = {"format": "rle", "rle": brush_runs.encode(mask > 0), "brushlabels": ["cat"]}
    region = {"id": "a1", "from_name": "tag", "to_name": "image", "type": "brushlabels"}
    size = {"original_width": width, "original_height": height, "image_rotation": 0}
    return {"result": [{**region, "value": value, **size}]}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_task_is_annotated_and_the_other_one_is_predicted(
    program: Path, store: Store, marked: Path, tmp_path: Path
) -> None:
    refs, photos = (sorted((marked / name).glob("*.jpg")) for name in ("refs", "photos"))
    (tmp_path / "studio").mkdir()
    log = tmp_path / "studio" / "log"
    with label_studio(program, tmp_path / "studio") as studio:
        settings = settings_of(store, tmp_path / "supports", label_studio=studio.address)
        with served(settings) as client:
            project = create_project(studio, client)
            for path in (refs[0], photos[0]):
                upload(studio, project, path)
            tasks = until(lambda: tasks_of(studio, project, 2), 60, log)
            mask = np.array(Image.open(refs[0].with_suffix(".png")))
            made = {**annotation(mask), "task": tasks[0]["id"]}
            status, answer = studio.ask("POST", f"/api/tasks/{tasks[0]['id']}/annotations/", made)
            assert status == 201, answer
            name = f"label-studio-{project}"
            until(lambda: client.ask("GET", f"/v1/supports/{name}")[0] == 200, 60, log)
            shown = until(lambda: predictions_of(studio, tasks[1]["id"]), 120, log)
            deleted = studio.raw("DELETE", f"/api/annotations/{answer['id']}/")[0]
            assert deleted == 204
            until(lambda: client.ask("GET", f"/v1/supports/{name}")[0] == 404, 60, log)
    (region,) = shown[0]["result"]
    assert region["value"]["brushlabels"] == ["cat"]
    find = Finder("prior-fold0", pair(refs[0], tmp_path / "pair"), store=store.address)
    found = find(photos[0])
    height, width = found.labels.shape
    assert (region["original_width"], region["original_height"]) == (width, height)
    inside = brush_runs.decode(region["value"]["rle"], height, width)
    assert found.labels.any()
    assert (inside == (found.labels == 1)).all()


def create_project(studio: Client, client: Client) -> int:
    """A project that is connected to the server, in both directions."""
    given = {"title": "cats", "label_config": CONFIG}
    status, project = studio.ask("POST", "/api/projects/", given)
    assert status == 201, project
    number = int(project["id"])
    backend = {"url": client.address, "project": number, "title": "fssplat"}
    status, answer = studio.ask("POST", "/api/ml/", backend)
    assert status == 201, answer
    hook = {"url": f"{client.address}/webhook", "project": number, "send_for_all_actions": True}
    status, answer = studio.ask("POST", "/api/webhooks/", {**hook, "send_payload": True})
    assert status == 201, answer
    return number


def tasks_of(studio: Client, project: int, count: int) -> list[Any]:
    _, answer = studio.ask("GET", f"/api/tasks?project={project}&fields=all")
    tasks = sorted(answer["tasks"], key=lambda one: one["id"])
    return tasks if len(tasks) == count else []


def predictions_of(studio: Client, task: int) -> list[Any]:
    """What Label Studio shows for a task: it asks the server when the task is opened."""
    _, content, _ = studio.raw("GET", f"/api/tasks/{task}/")
    predictions: list[Any] = json.loads(content)["predictions"]
    return [one for one in predictions if one["result"]]


def pair(picture: Path, folder: Path) -> Path:
    """One picture and its mask as supports; the class is called object."""
    folder.mkdir()
    for path in (picture, picture.with_suffix(".png")):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_project_without_annotations_and_wrong_requests(client: Client, marked: Path) -> None:
    status, answer = client.ask("POST", "/setup", {"project": "9.17000", "schema": CONFIG})
    assert (status, answer) == (200, {"model_version": "prior-fold0 no supports"})
    image = f"data:image/jpeg;base64,{base64_of(next((marked / 'photos').glob('*.jpg')))}"
    given = {
        "tasks": [{"id": 1, "data": {"image": image}}],
        "project": "9.17",
        "label_config": CONFIG,
    }
    status, answer = client.ask("POST", "/predict", given)
    assert status == 200
    assert [one["result"] for one in answer["results"]] == [[]]
    assert client.ask("POST", "/predict", {**given, "project": "../x"})[0] == 422
    assert client.ask("POST", "/predict", {"tasks": [1]})[0] == 422
    assert client.ask("POST", "/webhook", [])[0] == 422


def test_annotations_become_supports_and_are_removed(client: Client, marked: Path) -> None:
    picture = sorted((marked / "refs").glob("*.jpg"))[0]
    mask = np.array(Image.open(picture.with_suffix(".png")))
    image = f"data:image/jpeg;base64,{base64_of(picture)}"
    task = {"id": 5, "data": {"image": image}}
    made = {**annotation(mask), "id": 3}
    event = {"annotation": made, "task": task, "project": {"id": 4}}

    def sets() -> list[str]:
        return list(client.ask("GET", "/v1/supports")[1]["supports"])

    assert client.ask("POST", "/webhook", {**event, "action": "ANNOTATION_CREATED"})[0] == 201
    until(lambda: "label-studio-4" in sets(), 30, picture)
    config = CONFIG.replace("BrushLabels", "PolygonLabels")
    for labelling, kind in ((CONFIG, "brushlabels"), (config, "polygonlabels")):
        asked = {"tasks": [task], "project": "4.1", "label_config": labelling}
        status, answer = client.ask("POST", "/predict", asked)
        assert status == 200, answer
        assert {one["type"] for one in answer["results"][0]["result"]} == {kind}
    other = {"tasks": [{"id": 6, "data": {"image": "/data/upload/a.jpg"}}], "label_config": CONFIG}
    status, answer = client.ask("POST", "/predict", {**other, "project": "4.1"})
    assert status == 422
    assert "Start the server with --label-studio" in answer["error"]["message"]
    gone = {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 3}], "project": {"id": 4}}
    assert client.ask("POST", "/webhook", gone)[0] == 201
    until(lambda: "label-studio-4" not in sets(), 30, picture)

"""Commands on an S3 bucket that refuses the credentials."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.errors import InputError, StoreAwayError
from tests.fakes.experiment_files import experiment_without_images

REFUSAL = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class RefusingServer(BaseHTTPRequestHandler):
    """An S3 server that refuses every request."""

    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(REFUSAL)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(REFUSAL)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - as the server calls them

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    s3fs = pytest.importorskip("s3fs")
    server = ThreadingHTTPServer(("127.0.0.1", 0), RefusingServer)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("command", ["plan", "status", "stop", "gc", "retry", "sync", "launch"])
def test_a_store_that_refuses_the_credentials_is_reported_in_one_line(
    refused: None, tmp_path: Path, command: str
) -> None:
    path = experiment_without_images(tmp_path, store="s3://bucket/results")
    error = CliRunner().invoke(app, [command, str(path)]).exception
    assert isinstance(error, StoreAwayError)
    assert "s3://bucket/results: not reached (PermissionError: Access Denied)" in str(error)
    assert "\n" not in str(error)


def test_a_data_set_that_refuses_the_credentials_is_reported_in_one_line(
    refused: None, tmp_path: Path
) -> None:
    root = "datasets.synthetic.root=s3://bucket/data"
    path = str(experiment_without_images(tmp_path))
    error = CliRunner().invoke(app, ["plan", path, "--set", root]).exception
    assert isinstance(error, InputError)
    assert str(error).endswith("Check the address and this node's credentials.")


def test_missing_credentials_for_a_data_set_are_reported_in_one_line(
    refused: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    root = "datasets.synthetic.root=s3://bucket/data"
    error = (
        CliRunner()
        .invoke(app, ["plan", str(experiment_without_images(tmp_path)), "--set", root])
        .exception
    )
    assert isinstance(error, InputError)
    assert "Unable to locate credentials" in str(error)

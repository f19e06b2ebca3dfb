"""A server that never answers is reported in time; address credentials are used and hidden."""

import socket
import time
from collections.abc import Iterator

import pytest

from fssplat.common.errors import InputError, StoreAwayError
from fssplat.common.remote_files import filesystem
from fssplat.data.cache import Bucket
from fssplat.results.store import Store


@pytest.fixture(params=["accepts and never answers", "nobody listens"])
def dead_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        port = server.getsockname()[1]
        if request.param == "nobody listens":
            server.close()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        yield port


@pytest.mark.slow
def test_a_dead_bucket_is_one_line_within_30_seconds_and_hides_its_secret(
    dead_server: int,
) -> None:
    pytest.importorskip("s3fs")
    started = time.monotonic()
    with pytest.raises(StoreAwayError, match="not reached") as caught:
        Store("s3://key:secret@results/x").states(["t1"])
    assert time.monotonic() - started < 30
    assert "secret" not in str(caught.value)
    started = time.monotonic()
    with pytest.raises(InputError) as refused:
        Bucket(f"http://me:secret@127.0.0.1:{dead_server}/data").read("dataset.json")
    assert time.monotonic() - started < 30
    assert "secret" not in str(refused.value)


def test_key_and_secret_of_an_s3_address_are_credentials_and_no_bucket() -> None:
    pytest.importorskip("s3fs")
    found, path = filesystem("s3://key:s%2Fcret@bucket/folder")
    assert (found.key, found.secret, path) == ("key", "s/cret", "bucket/folder")
    found, path = filesystem("s3://bucket/me@work/x:y")
    assert (found.key, path) == (None, "bucket/me@work/x:y")
    assert "secret" not in Store("s3://key:secret@bucket/folder").shown_address

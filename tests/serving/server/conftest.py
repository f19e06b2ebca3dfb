"""One server for all tests of this folder, which has the supports `refs`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fssplat.results.store import Store
from fssplat.serving.server.settings import Limits, ServerSettings
from tests.serving.server.running import Client, given_supports, served

SMALL = Limits(
    body_bytes=2**20, bodies_bytes=4 * 2**20, pixels=200_000, pictures=5, supports=6, body_s=1.0,
    header_s=1.0,
)  # fmt: skip


def settings_of(store: Store, folder: Path, **changes: object) -> ServerSettings:
    values = {"model": "prior-fold0", "store": store.address, "folder": folder, "limits": SMALL}
    return ServerSettings(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps supports."""
    return tmp_path_factory.mktemp("server") / "supports"


@pytest.fixture(scope="session")
def client(store: Store, marked: Path, folder: Path) -> Iterator[Client]:
    with served(settings_of(store, folder)) as found:
        status, answer = found.ask("PUT", "/v1/supports/refs", given_supports(marked))
        assert status == 200, answer
        yield found

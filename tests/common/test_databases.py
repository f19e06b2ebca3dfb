from pathlib import Path

import pytest

from fssplat.common.databases import sqlite_file


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///studies.db", Path("studies.db")),
        ("sqlite:////data/studies.db", Path("/data/studies.db")),
        ("sqlite+pysqlite:///a/b.db?timeout=5", Path("a/b.db")),
        ("sqlite:///~/b.db", Path.home() / "b.db"),
        ("sqlite://", Path()),
        ("postgresql://user@host/db", None),
        ("http://host:5000", None),
    ],
)
def test_the_file_of_a_sqlite_address_is_found(url: str, path: Path | None) -> None:
    assert sqlite_file(url) == path

"""A file is whole or absent, in a folder and behind an address."""

import errno
import os
from pathlib import Path

import pytest

from fssplat.common.errors import InputError
from fssplat.results.files import Files, LocalFiles, open_files


@pytest.fixture(params=["folder", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return open_files(str(tmp_path) if request.param == "folder" else f"memory://{tmp_path.name}")


def test_written_bytes_are_read_back(files: Files) -> None:
    files.write("a/b.json", b"one")
    files.write("a/b.json", b"two")
    assert files.read("a/b.json") == b"two"
    assert files.read("a/none.json") is None
    assert files.read_many(["a/b.json", "a/none.json"]) == {"a/b.json": b"two"}
    assert files.sizes("a") == {"b.json": 3}
    assert files.folders() == ["a"]


def test_a_local_file_is_copied_in_and_out(files: Files, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"weights")
    files.put("job/weights", tmp_path / "source")
    assert files.get("job/weights", tmp_path / "back" / "weights")
    assert (tmp_path / "back" / "weights").read_bytes() == b"weights"
    assert not files.get("job/none", tmp_path / "none")


def test_a_file_or_a_folder_is_deleted_if_it_is_there(files: Files) -> None:
    files.write_many({"a/1": b"x", "a/2": b"y"})
    files.delete("a/1")
    assert files.sizes("a") == {"2": 1}
    files.delete("a")
    files.delete("a")
    assert files.read("a/2") is None


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/hostname", "a\nb", "a//b", "jobs/"])
def test_a_name_that_would_leave_the_store_is_refused(
    files: Files, tmp_path: Path, name: str
) -> None:
    (tmp_path / "source").write_bytes(b"kept")
    for use in (
        lambda: files.read(name),
        lambda: files.read_many([name]),
        lambda: files.write(name, b"x"),
        lambda: files.put(name, tmp_path / "source"),
        lambda: files.get(name, tmp_path / "target" / "x"),
        lambda: files.sizes(name),
        lambda: files.folders(name),
        lambda: files.delete(name),
    ):
        with pytest.raises(InputError, match="cannot be used as a path"):
            use()
    assert [path.name for path in tmp_path.rglob("*")] == ["source"]


def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    files = LocalFiles(tmp_path)
    with pytest.raises(InputError, match=r"no space left\. Free some, then launch again"):
        files.write("a/b.json", b"half")
    assert list((tmp_path / "a").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot be written"):
        LocalFiles(tmp_path / "file" / "store").write("a", b"")


def test_an_address_without_a_driver_says_what_to_install() -> None:
    with pytest.raises(InputError, match="nosuch://"):
        open_files("nosuch://bucket/results")

"""Archives from a file server on loopback: fetched, checked, unpacked, or refused."""

import functools
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fssplat.common.errors import InputError
from fssplat.data.build import download as downloads
from fssplat.data.build.download import ARCHIVES, Archive, download, download_set


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        self.server.asked.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


@pytest.fixture
def server(served: Path) -> Iterator[http.server.ThreadingHTTPServer]:
    handler = functools.partial(Quiet, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def mirror(server: http.server.ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def tar_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def offered(served: Path, name: str, content: bytes, unpacked: str = "inner/file.txt") -> Archive:
    """The archive as the server has it, at an official address that does not exist."""
    (served / name).write_bytes(content)
    md5 = hashlib.md5(content).hexdigest()
    return Archive(f"http://official.invalid/some/where/{name}", md5, unpacked)


@pytest.mark.parametrize(
    ("name", "pack"), [("a.tgz", tar_of), ("a.tar", tar_of), ("a.zip", zip_of)]
)
def test_an_archive_is_fetched_checked_and_unpacked(
    served: Path, mirror: str, tmp_path: Path, name: str, pack: "type[bytes]"
) -> None:
    archive = offered(served, name, pack("inner/file.txt", b"hello"))
    said: list[str] = []
    download(archive, tmp_path / "out", mirror=mirror, say=said.append)
    assert (tmp_path / "out/inner/file.txt").read_bytes() == b"hello"
    assert said == [f"{name}: checked, unpacking"]
    assert not (tmp_path / "out" / name).exists()


def test_what_is_unpacked_is_not_fetched_again(
    served: Path, mirror: str, server: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    archive = offered(served, "a.zip", zip_of("inner/file.txt", b"hello"))
    download(archive, tmp_path, mirror=mirror)
    asked = len(server.asked)  # type: ignore[attr-defined]
    said: list[str] = []
    download(archive, tmp_path, mirror=mirror, say=said.append)
    assert said == ["a.zip: unpacked already"]
    assert len(server.asked) == asked  # type: ignore[attr-defined]


def test_an_archive_that_is_there_already_is_used(served: Path, tmp_path: Path) -> None:
    archive = offered(served, "a.zip", zip_of("inner/file.txt", b"hello"))
    (tmp_path / "a.zip").write_bytes((served / "a.zip").read_bytes())
    download(archive, tmp_path, mirror="http://127.0.0.1:9", keep_archive=True)
    assert (tmp_path / "inner/file.txt").is_file()
    assert (tmp_path / "a.zip").is_file()


def test_a_wrong_checksum_is_refused_and_nothing_stays(
    served: Path, mirror: str, tmp_path: Path
) -> None:
    archive = offered(served, "a.zip", zip_of("inner/file.txt", b"hello"))
    (served / "a.zip").write_bytes(b"cut short")
    with pytest.raises(InputError, match=r"a\.zip: MD5 mismatch, expected [0-9a-f]{32}"):
        download(archive, tmp_path / "out", mirror=mirror)
    assert not (tmp_path / "out").exists()


def test_a_file_that_the_mirror_lacks_is_named(served: Path, mirror: str, tmp_path: Path) -> None:
    archive = offered(served, "a.zip", b"")
    (served / "a.zip").unlink()
    with pytest.raises(InputError, match=r"/a\.zip: cannot be fetched \(.*404.*--mirror"):
        download(archive, tmp_path / "out", mirror=mirror)


def test_a_file_is_no_place_to_unpack(served: Path, mirror: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("the only copy")
    with pytest.raises(InputError, match=r"file: this folder cannot be created \(File exists\)"):
        download(offered(served, "a.zip", b""), tmp_path / "file", mirror=mirror)


def test_an_archive_without_its_content_is_refused(
    served: Path, mirror: str, tmp_path: Path
) -> None:
    archive = offered(served, "a.zip", zip_of("other.txt", b"hello"))
    with pytest.raises(InputError, match=r"inner/file\.txt is not in it"):
        download(archive, tmp_path / "out", mirror=mirror)


@pytest.mark.parametrize(("name", "content"), [("a.tgz", b"no tar"), ("a.zip", b"no zip")])
def test_a_broken_archive_is_refused(
    served: Path, mirror: str, tmp_path: Path, name: str, content: bytes
) -> None:
    with pytest.raises(InputError, match="cannot be unpacked"):
        download(offered(served, name, content), tmp_path / "out", mirror=mirror)


def test_a_tar_cannot_write_outside_its_folder(served: Path, mirror: str, tmp_path: Path) -> None:
    archive = offered(served, "a.tgz", tar_of("../escaped.txt", b"hello"))
    with pytest.raises(InputError, match="cannot be unpacked"):
        download(archive, tmp_path / "out", mirror=mirror)
    assert not (tmp_path / "escaped.txt").exists()


def test_a_whole_set_comes_from_one_mirror(
    served: Path, mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = (
        offered(served, "one.zip", zip_of("one/x.txt", b"1"), "one"),
        offered(served, "two.zip", zip_of("two/x.txt", b"2"), "two"),
    )
    monkeypatch.setitem(downloads.ARCHIVES, ("coco", "2017"), parts)
    monkeypatch.setenv("FSSPLAT_DATA", str(tmp_path / "data"))
    folder = download_set("coco", mirror=mirror)
    assert folder == tmp_path / "data/raw/coco"
    assert (folder / "one/x.txt").is_file()
    assert (folder / "two/x.txt").is_file()


def test_unknown_sets_and_years_are_input_errors() -> None:
    with pytest.raises(InputError, match=r"'fss' is unknown. Known: pascal, coco\. FSS-1000 has"):
        download_set("fss")
    with pytest.raises(InputError, match="--year 2015"):
        download_set("coco", year="2015")


def test_every_official_archive_has_an_md5() -> None:
    for archives in ARCHIVES.values():
        for archive in archives:
            assert len(archive.md5) == 32
            assert archive.file.endswith((".tar", ".tgz", ".zip"))

"""Download the official archives, check their MD5 and unpack them.

A mirror has the same files under the same names, for example in a folder of a web server.
"""

import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from fssplat.common.errors import InputError
from fssplat.data.sources import default_source


@dataclass(frozen=True)
class Archive:
    """One file to fetch."""

    url: str
    md5: str
    unpacked: str  # a file or folder inside it, to check that it is unpacked

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[-1]


COCO = "http://images.cocodataset.org"

ARCHIVES: dict[tuple[str, str], tuple[Archive, ...]] = {
    ("pascal", "2012"): (
        Archive(
            "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
            "6cd6e144f989b92b3379bac3b3de84fd",
            "VOCdevkit/VOC2012/ImageSets/Segmentation",
        ),
        Archive(
            "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/"
            "semantic_contours/benchmark.tgz",
            "82b4d87ceb2ed10f6038a1cba92111cb",
            "benchmark_RELEASE/dataset/cls",
        ),
    ),
    ("coco", "2014"): (
        Archive(
            f"{COCO}/annotations/annotations_trainval2014.zip",
            "0a379cfc70b0e71301e0f377548639bd",
            "annotations/instances_val2014.json",
        ),
        Archive(f"{COCO}/zips/train2014.zip", "0da8cfa0e090c266b78f30e2d2874f1a", "train2014"),
        Archive(f"{COCO}/zips/val2014.zip", "a3d79f5ed8d289b7a7554ce06a5782b3", "val2014"),
    ),
    ("coco", "2017"): (
        Archive(
            f"{COCO}/annotations/annotations_trainval2017.zip",
            "f4bbac642086de4f52a3fdda2de5fa2c",
            "annotations/instances_val2017.json",
        ),
        Archive(f"{COCO}/zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", "train2017"),
        Archive(f"{COCO}/zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", "val2017"),
    ),
}
BUILDS = {"pascal": "pascal-5i", "coco": "coco-20i"}


def download_set(
    name: str,
    folder: Path | None = None,
    *,
    year: str = "2017",
    mirror: str = "",
    keep_archives: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Fetch, check and unpack a data set's archives; return the folder for `data build`.

    `say` receives one line per step. Raises InputError if anything fails.
    """
    if name not in BUILDS:
        raise InputError(
            f"download of {name!r} is unknown. Known: {', '.join(BUILDS)}. FSS-1000 has no stable "
            "public address: unpack its archive yourself into a folder, then run "
            "`fssplat data build fss-1000 --source FOLDER`."
        )
    key = (name, "2012" if name == "pascal" else year)
    if key not in ARCHIVES:
        raise InputError(f"--year {year}: COCO has the releases 2014 and 2017. Name one.")
    target = default_source(BUILDS[name]) if folder is None else folder
    for archive in ARCHIVES[key]:
        download(archive, target, mirror=mirror, keep_archive=keep_archives, say=say)
    return target


def download(
    archive: Archive,
    folder: Path,
    *,
    mirror: str = "",
    keep_archive: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Fetch, check and unpack one archive, unless an earlier call has done so."""
    done = folder / f".{archive.file}.unpacked"
    if done.is_file() and (folder / archive.unpacked).exists():
        say(f"{archive.file}: unpacked already")
        return
    path = fetch(archive, folder, mirror)
    say(f"{archive.file}: checked, unpacking")
    unpack(path, folder)
    if not (folder / archive.unpacked).exists():
        raise InputError(f"{path}: {archive.unpacked} is not in it. Is the mirror complete?")
    done.touch()
    if not keep_archive:
        path.unlink()


def fetch(archive: Archive, folder: Path, mirror: str = "") -> Path:
    """The path of the archive, which is fetched unless a file with its MD5 is there.

    Raises InputError if it cannot be fetched or has another MD5.
    """
    from torchvision.datasets.utils import check_integrity, download_url

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: this folder cannot be created ({error.strerror}). Choose another --out."
        ) from error
    path = folder / archive.file
    url = f"{mirror.rstrip('/')}/{archive.file}" if mirror else archive.url
    if check_integrity(str(path), archive.md5):
        return path
    path.unlink(missing_ok=True)
    partial = f"{archive.file}.partial"
    try:
        download_url(url, str(folder), filename=partial, md5=archive.md5)
        (folder / partial).replace(path)
    except RuntimeError as error:  # torchvision: wrong checksum
        raise InputError(
            f"{url}: MD5 mismatch, expected {archive.md5}: the download is cut short or another "
            f"file. Run the same command again, or give a --mirror."
        ) from error
    except (URLError, OSError, ValueError) as error:
        raise InputError(
            f"{url}: cannot be fetched ({error}). Download it into {folder} by other means and run "
            f"the same command again, or give a --mirror."
        ) from error
    finally:
        (folder / partial).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()  # if nothing is in it
    return path


def unpack(path: Path, folder: Path) -> None:
    """Unpack a tar or zip. Raises InputError for tar members outside the folder."""
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as content:
                content.extractall(folder)  # drops drive letters and `..`
        else:
            with tarfile.open(path) as content_tar:
                content_tar.extractall(folder, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise InputError(f"{path}: cannot be unpacked ({error}).") from error

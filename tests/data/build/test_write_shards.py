"""Writing shards: full disks, worker processes that die."""

import errno
import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from fssplat.common.errors import InputError
from fssplat.common.whole_files import SUFFIX
from fssplat.data import shards
from fssplat.data.build import build_folder, shard_plan, write_shards
from fssplat.data.build.convert import build
from fssplat.data.index import Dataset
from fssplat.data.shards import Sample, write_shard
from fssplat.data.sources import record
from tests.fakes.official_layouts import KillingLabel, noise_jpeg


def full(path: Path) -> Iterator[Sample]:
    yield Sample("a", b"1", b"2", b"3")
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_a_full_disk_leaves_neither_a_shard_nor_a_part_of_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train-000000\.tar: the disk is full"):
        write_shard(tmp_path / "train-000000.tar", full(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "train-000000.tar").mkdir()
    with pytest.raises(InputError, match=r"000000\.tar: cannot be written \(Is a directory\)"):
        write_shard(tmp_path / "train-000000.tar", [Sample("a", b"1", b"2", b"3")])
    assert [path.name for path in tmp_path.iterdir()] == ["train-000000.tar"]


def test_a_disk_that_fills_up_during_the_build_ends_it_cleanly(
    source: Path, tmp_path: Path
) -> None:
    """A limit on the size of files makes real writes fail, in a process of its own."""
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from fssplat.data.build.convert import BuildSettings, build\n"
        "from fssplat.common.errors import InputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))\n"
        "try:\n"
        "    build('pascal-5i', Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    out = tmp_path / "built"
    done = subprocess.run(
        [sys.executable, "-c", script, source, out], capture_output=True, text=True, check=True
    )
    assert "train-000000.tar: the disk is full" in done.stdout
    assert not list(out.glob("*.tar"))
    assert not list(out.glob(f".*{SUFFIX}"))
    assert not (out / "dataset.json").exists()
    build("pascal-5i", source, out)  # with room again
    assert len(Dataset.open(out)) == 9


def test_a_disk_without_room_is_refused_before_the_first_shard(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(100))
    with pytest.raises(InputError, match=r"the shards need more than .* are free"):
        build("pascal-5i", source, tmp_path / "built")


def test_a_file_that_cannot_be_written_whole_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(InputError, match="disk is full"):
        build_folder.write_file(tmp_path / "dataset.json", b"{}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_build_with_advice(tmp_path: Path) -> None:
    image = tmp_path / "image.jpg"
    image.write_bytes(noise_jpeg(0))
    deadly = record.Record("a", "train", image, KillingLabel(image), "test")
    plan = [
        shard_plan.PlannedShard(
            tmp_path, f"train-00000{number}.tar", (deadly,), 20, False, False, ""
        )
        for number in range(2)
    ]
    with pytest.raises(InputError, match="a worker of the build died"):
        list(write_shards.run_parallel(plan, workers=2))
    assert not list(tmp_path.glob("*.tar"))


def test_reading_a_shard_runs_no_shell() -> None:
    assert shards  # its import sets the switch before webdataset is imported
    assert os.environ["WDS_SECURE"] == "1"

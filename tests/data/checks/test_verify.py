"""`fssplat data verify` finds what opening a data set cannot, and data info counts."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fssplat.common.errors import InputError
from fssplat.data.build.convert import build
from fssplat.data.checks.summary import class_summaries
from fssplat.data.checks.verify import verify
from fssplat.data.index import Dataset, DatasetInfo, fingerprint_of
from tests.fakes.official_layouts import built_voc, fss_layout


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return built_voc(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def root(whole: Dataset, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(whole.root, tmp_path / "copy"))


def believed(root: Path) -> None:
    """Make dataset.json agree with the shards' lengths, so that opening finds nothing."""
    path = root / "dataset.json"
    values = json.loads(path.read_text())
    for shard in values["shards"]:
        shard["bytes"] = (root / shard["file"]).stat().st_size
    path.write_text(json.dumps(values))


def test_a_whole_data_set_is_verified(whole: Dataset) -> None:
    seen: list[tuple[int, int]] = []
    found = verify(
        whole.root, workers=2, on_progress=lambda done, total: seen.append((done, total))
    )
    assert (found.images, found.shards) == (9, 2)
    assert found.bytes == sum(shard.bytes for shard in whole.info.shards)
    assert seen[-1] == (9, 9)


def test_a_binary_data_set_is_verified(tmp_path: Path) -> None:
    source = fss_layout(tmp_path / "fss", {"trn": ["bus"], "val": ["cat"], "test": ["dog"]})
    build("fss-1000", source, tmp_path / "built")
    assert verify(str(tmp_path / "built")).images == 6


@pytest.mark.parametrize("kind", ["jpg", "png", "json"])
def test_one_changed_byte_is_found(root: Path, kind: str) -> None:
    dataset = Dataset.open(root)
    place = dataset.members(0)[f"t3.{kind}"]
    with (root / "train-000000.tar").open("r+b") as shard:
        shard.seek(place.offset + place.size // 2)
        byte = shard.read(1)
        shard.seek(-1, io.SEEK_CUR)
        shard.write(bytes([byte[0] ^ 0x10]))
    with pytest.raises(InputError, match=r"t3: .*fssplat data build pascal-5i"):
        verify(str(root))


@pytest.mark.parametrize("content", [b"[1]", b"null", b"3"])
def test_a_json_that_holds_no_details_is_found(root: Path, content: bytes) -> None:
    place = Dataset.open(root).members(0)["t3.json"]
    with (root / "train-000000.tar").open("r+b") as shard:
        shard.seek(place.offset)
        shard.write(content.ljust(place.size))
    with pytest.raises(InputError, match=r"t3: cannot be decoded \(its JSON is not an object"):
        verify(str(root))


def test_an_image_that_the_index_holds_twice_is_found(root: Path) -> None:
    """As earlier versions built it from a source that listed the image twice."""
    table = pq.read_table(root / "index.parquet")
    twice = pa.concat_tables([table.slice(0, 1), table])
    pq.write_table(twice, root / "index.parquet")
    values = json.loads((root / "dataset.json").read_text())
    values["shards"][0]["samples"] += 1
    values["fingerprint"] = fingerprint_of(values["name"], tuple(values["classes"]), twice)
    (root / "dataset.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="'t0' is in the index twice"):
        verify(str(root))


def test_a_tar_cut_short_is_found_even_if_its_length_is_believed(root: Path) -> None:
    shard = root / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:9_000])
    believed(root)
    with pytest.raises(InputError, match=r"jpg_at and jpg_size are not inside the shard"):
        verify(str(root))


def test_a_shard_that_is_no_tar_is_found(root: Path) -> None:
    shard = root / "val-000000.tar"
    shard.write_bytes(b"x" * shard.stat().st_size)
    with pytest.raises(InputError, match=r"val-000000\.tar: cut short or not a tar file"):
        verify(str(root))


def test_members_that_the_index_does_not_know_are_found(root: Path) -> None:
    with tarfile.open(root / "val-000000.tar", "a") as tar:
        extra = tarfile.TarInfo("zz.txt")
        tar.addfile(extra, io.BytesIO())
    believed(root)
    with pytest.raises(InputError, match=r"zz\.txt is in the shard, not in the index"):
        verify(str(root))


def test_a_shard_that_cannot_be_read_is_found(root: Path) -> None:
    shard = root / "val-000000.tar"
    shard.unlink()
    shard.mkdir()
    believed(root)
    with pytest.raises(
        InputError, match=r"val-000000\.tar: this shard cannot be read \(Is a directory\)"
    ):
        verify(str(root))


def test_swapped_shards_are_found(root: Path) -> None:
    train, val = root / "train-000000.tar", root / "val-000000.tar"
    train.rename(root / "other.tar")
    val.rename(train)
    (root / "other.tar").rename(val)
    believed(root)
    with pytest.raises(InputError, match=r"jpg_at and jpg_size are not inside the shard"):
        verify(str(root))


def test_dataset_json_keeps_every_field(whole: Dataset) -> None:
    assert DatasetInfo.from_json(whole.info.to_json(), "dataset.json") == whole.info


# ---------------------------------------------------------------- data info


def test_info_counts_images_of_a_class_by_fold_and_split(tmp_path: Path) -> None:
    lines = class_summaries(built_voc(tmp_path))
    assert [line.class_id for line in lines] == list(range(1, 21))
    assert [line.fold for line in lines] == [str(fold) for fold in range(4) for _ in range(5)]
    assert lines[0].images == {"train": (1, 0), "val": (1, 0)}  # 64 pixels: none is large enough
    assert lines[6].images == {"train": (1, 0), "val": (0, 0)}  # SBD's x0


def test_info_of_split_classes_goes_by_split(tmp_path: Path) -> None:
    source = fss_layout(tmp_path / "fss", {"trn": ["bus", "ant"], "val": ["cat"], "test": ["dog"]})
    build("fss-1000", source, tmp_path / "built")
    lines = class_summaries(Dataset.open(tmp_path / "built"))
    assert [(line.name, line.fold) for line in lines] == [
        ("bus", "train"),
        ("ant", "train"),
        ("cat", "val"),
        ("dog", "test"),
    ]
    assert lines[3].images == {"train": (0, 0), "val": (0, 0), "test": (2, 0)}

"""Indexes, lists of shards and names that cannot be right are refused when a data set is opened."""

import json
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fssplat.common.errors import InputError
from fssplat.data import cache
from fssplat.data.build.convert import build
from fssplat.data.index import SCHEMA, Dataset, fingerprint_of
from tests.fakes.official_layouts import built_voc, fss_layout


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(built_voc(tmp_path_factory.mktemp("tiny")).root)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("binary")
    source = fss_layout(folder / "fss", {"trn": ["bus"], "val": ["cat"], "test": ["dog"]})
    return build("fss-1000", source, folder / "built").root


def with_cells(root: Path, folder: Path, row: int, **cells: Any) -> Path:
    """A copy of a data set whose index has other cells in one row, and a fitting fingerprint."""
    shutil.copytree(root, folder)
    rows = pq.read_table(folder / "index.parquet").to_pylist()
    rows[row] |= cells
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(table, folder / "index.parquet")
    info = json.loads((folder / "dataset.json").read_text())
    info["fingerprint"] = fingerprint_of(info["name"], tuple(info["classes"]), table)
    (folder / "dataset.json").write_text(json.dumps(info))
    return folder


CELLS = {
    "a class id is not one of 1 to 20": [
        {"classes": [21]}, {"classes": [0]}, {"classes": [-1]}, {"classes": [2**31 - 1]},
    ],
    "its classes and its pixels are not of the same number": [
        {"classes": [1, 2]}, {"classes": []}, {"pixels": [1, 2]},
    ],
    "its class ids do not ascend": [
        {"classes": [2, 1], "pixels": [1, 1]}, {"classes": [2, 2], "pixels": [1, 1]},
    ],
    "a class has less than one pixel, or more than the image": [
        {"pixels": [0]}, {"pixels": [-5]}, {"pixels": [24 * 32 + 1]},
    ],
    "its height and width are not those of an image": [
        {"height": 0}, {"width": -1}, {"height": 70_000},
    ],
    "its object_class is not 0": [{"object_class": 1}, {"object_class": -1}],
    "its jpg_at and jpg_size are not inside the shard": [
        {"jpg_at": -512}, {"jpg_at": 0}, {"jpg_at": 511}, {"jpg_at": 2**62},
        {"jpg_size": 2**63 - 1}, {"jpg_size": -1}, {"jpg_size": 0},
    ],
    "its png_at and png_size are not inside the shard": [{"png_at": 2**63 - 1}],
    "its json_at and json_size are not inside the shard": [{"json_size": 2**40}],
    "its key has other characters": [
        {"key": "../../x"}, {"key": ""}, {"key": "a\nb"}, {"key": "é"},
    ],
    "its split is not one of train, val, test": [{"split": "trainval"}, {"split": ""}],
    "column classes has an empty cell": [{"classes": None}, {"classes": [None]}],
    "column key has an empty cell": [{"key": None}],
    "column checksum has an empty cell": [{"checksum": None}],
    "'t1' is in the index twice": [{"key": "t1"}],
    "the counts in dataset.json differ": [{"split": "val"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("message", "cells"),
    [(message, cells) for message, variants in CELLS.items() for cells in variants],
    ids=str,
)
def test_an_index_that_cannot_be_right_is_refused_when_opened(
    tiny: Path, tmp_path: Path, message: str, cells: dict[str, Any]
) -> None:
    root = with_cells(tiny, tmp_path / "edited", 0, **cells)
    with pytest.raises(InputError, match=message) as caught:
        Dataset.open(root)
    assert "index.parquet" in str(caught.value)
    assert "Run `fssplat data build pascal-5i" in str(caught.value)


@pytest.mark.parametrize(
    ("message", "cells"),
    [
        ("its object_class is not one of 1 to 3", {"object_class": 0}),
        ("its object_class is not one of 1 to 3", {"object_class": 4}),
        ("its class is not its object_class", {"object_class": 2}),
        ("a class id is not one of 1 to 3", {"classes": [4]}),
    ],
)
def test_a_binary_index_has_one_class_a_row(
    binary: Path, tmp_path: Path, message: str, cells: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=message):
        Dataset.open(with_cells(binary, tmp_path / "edited", 0, **cells))


def with_info(root: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a data set with another dataset.json; `file` is the name of its first shard."""
    shutil.copytree(root, folder)
    info = json.loads((folder / "dataset.json").read_text())
    if "file" in changes:
        info["shards"][0]["file"] = changes.pop("file")
    (folder / "dataset.json").write_text(json.dumps({**info, **changes}))
    return folder


HOSTILE = [
    {"file": "/tmp/authorized_keys"},
    {"file": "../train-000000.tar"},
    {"file": "sub/train-000000.tar"},
    {"file": ".."},
    {"file": ""},
    {"file": "train-000000.tar\u0000"},
    {"file": "dataset.json"},
    {"fingerprint": "../../outside"},
    {"fingerprint": "/outside"},
    {"fingerprint": ""},
    {"fingerprint": "ABCDEF0123456789"},
]


@pytest.mark.parametrize("change", HOSTILE, ids=ascii)
def test_names_in_dataset_json_that_become_paths_are_checked_here_and_behind_an_address(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str]
) -> None:
    root = with_info(tiny, tmp_path / "hostile", **change)
    memory = fsspec.filesystem("memory")
    for path in root.glob("*.*"):
        memory.pipe_file(f"/hostile/{path.name}", path.read_bytes())
    monkeypatch.setenv("FSSPLAT_CACHE", str(tmp_path / "home/cache"))
    for address in (str(root), "memory://hostile"):
        with pytest.raises(InputError, match=r"dataset\.json, .* cannot be used as a file name"):
            Dataset.open(address)
    assert not cache.cache_folder().exists()  # nothing was fetched
    memory.rm("/hostile", recursive=True)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": []},
        {"counts": {"train": 6, "val": 3, "../x": 0}},
        {"class_counts": {"train": 3}},
        {"shards": [{"file": "train-000000.tar", "bytes": -1, "samples": 6}]},
        {"shards": [{"file": "train-000000.tar", "bytes": 1, "samples": 1}] * 2},
    ],
    ids=str,
)
def test_a_dataset_json_that_contradicts_itself_is_refused(
    tiny: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=r"not a dataset\.json of fssplat"):
        Dataset.open(with_info(tiny, tmp_path / "wrong", **change))


def test_a_deeply_nested_dataset_json_is_refused(tiny: Path, tmp_path: Path) -> None:
    root = with_info(tiny, tmp_path / "deep")
    (root / "dataset.json").write_text("[" * 200_000)
    with pytest.raises(InputError, match=r"not a dataset\.json of fssplat"):
        Dataset.open(root)

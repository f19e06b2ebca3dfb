"""Read and spoil the files of a build."""

from pathlib import Path


def contents(folder: Path) -> dict[str, bytes]:
    """File name -> bytes of index, shards and dataset.json, without lock and report."""
    names = ("dataset.json", "index.parquet", "*.tar")
    return {path.name: path.read_bytes() for name in names for path in folder.glob(name)}


def truncate_jpeg(voc: Path) -> None:
    path = voc / "JPEGImages/t1.jpg"
    path.write_bytes(path.read_bytes()[:-300])

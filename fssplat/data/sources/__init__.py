"""The data sets that fssplat can build, by name. A new one is one file and one line."""

import os
from pathlib import Path

from fssplat.common.errors import InputError
from fssplat.data.sources import coco, fss1000, synthetic, voc
from fssplat.data.sources.record import ReadSource, Source, SourceOptions

SOURCES: dict[str, ReadSource] = {
    "pascal-5i": voc.read,
    "coco-20i": coco.read,
    "fss-1000": fss1000.read,
    "synthetic": synthetic.read,
}


def check_name(name: str) -> None:
    """Raises InputError if the name is not in SOURCES."""
    if name not in SOURCES:
        raise InputError(f"data set {name!r} is unknown. Known: {', '.join(SOURCES)}.")


def default_source(name: str, out: Path | None = None) -> Path:
    """The folder of a data set's official layout, where `fssplat data download` unpacks it.

    Synthetic pictures have no archive; they are drawn into a folder beside their shards.
    """
    if name == "synthetic" and out is not None:
        return out / "source"
    short = {"pascal-5i": "pascal", "coco-20i": "coco"}.get(name, name)
    return Path(os.environ.get("FSSPLAT_DATA", "data")) / "raw" / short


def expected_synthetic(name: str, options: SourceOptions) -> tuple[str, dict[str, int]] | None:
    """`source` and `counts` that dataset.json of the synthetic set must have.

    None for other data sets.
    """
    return synthetic.expected(options) if name == "synthetic" else None


def read_source(name: str, folder: Path, options: SourceOptions) -> Source:
    """Read a data set's official layout. Raises InputError if that fails."""
    check_name(name)
    try:
        return SOURCES[name](folder, options)
    except OSError as error:
        where = error.filename or folder
        raise InputError(
            f"{where}: cannot be read ({error.strerror}). Check --source and its permissions."
        ) from error

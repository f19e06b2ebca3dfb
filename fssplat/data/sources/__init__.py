"""The built-in data sets by name, and those of your own. A new one is one file and one line."""

import os
from pathlib import Path

from fssplat.common.errors import InputError
from fssplat.common.similar import did_you_mean, known
from fssplat.data.readers.layouts import find_layout
from fssplat.data.sources import coco, fss1000, own, synthetic, voc
from fssplat.data.sources.record import ReadSource, Source, SourceOptions
from fssplat.experiment.datasets import valid_name

SOURCES: dict[str, ReadSource] = {
    "pascal-5i": voc.read,
    "coco-20i": coco.read,
    "fss-1000": fss1000.read,
    "synthetic": synthetic.read,
}


def check_name(name: str, source: Path | None, options: SourceOptions) -> None:
    """Raises InputError for a name that no data set can have, or your own without annotations."""
    if name in SOURCES:
        return
    if not valid_name(name):
        raise InputError(
            f"{name!a} cannot name a data set: letters, digits, . _ and - can, from a letter or "
            "digit on."
        )
    if source is None:
        raise InputError(
            f"data set {name!r} is unknown. {known(name, SOURCES)} For one of your own, name the "
            f"folder with its annotations: --source FOLDER."
        )
    try:
        find_layout(source, options.own.layout if options.own else "")
    except InputError as error:
        hint = did_you_mean(name, SOURCES)
        if not hint:
            raise
        raise InputError(f"data set {name!r} is unknown. {hint} Else: {error}") from error


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
    try:
        if name not in SOURCES:
            return own.read(name, folder, options)
        return SOURCES[name](folder, options)
    except OSError as error:
        where = error.filename or folder
        raise InputError(
            f"{where}: cannot be read ({error.strerror}). Check --source and its permissions."
        ) from error

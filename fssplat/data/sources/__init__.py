"""The data sets that fssplat can build, by name. A new one is one file and one line."""

from pathlib import Path

from fssplat.data.sources import voc
from fssplat.data.sources.record import ReadSource, Source, SourceOptions
from fssplat.errors import InputError

SOURCES: dict[str, ReadSource] = {
    "pascal-5i": voc.read,
}


def read_source(name: str, folder: Path, options: SourceOptions) -> Source:
    """Read a data set's official layout."""
    if name not in SOURCES:
        raise InputError(f"data set {name!r} is unknown. Known: {', '.join(SOURCES)}.")
    return SOURCES[name](folder, options)

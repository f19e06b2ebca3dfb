"""The public code's lists of images, stored beside a data set as lists/<name>.parquet.

`fssplat data import-lists` writes them (see `build/import_lists.py`). There is one list per role
(training, test); the part for a fold follows from the classes of the fold.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fssplat.common.errors import InputError
from fssplat.common.printing import command_line
from fssplat.data.index import parquet_table
from fssplat.data.places import default_root
from fssplat.data.shards import digest_of
from fssplat.experiment.protocols import Protocol
from fssplat.experiment.schema import DatasetSpec

FOLDER = "lists"
# Public code -> data sets for which it has lists. For others the data set itself gives the list:
# PFENet's COCO lists contain every annotated image, to which the area rule is applied anyway.
PUBLIC = {"pfenet": ("pascal-5i",), "hsnet": ("pascal-5i", "coco-20i")}
SCHEMA = pa.schema([("key", pa.string()), ("class_id", pa.int32()), ("entry", pa.string())])


@dataclass(frozen=True)
class PublicList:
    """One list of the public code: the keys of its images, and the class of each entry."""

    name: str
    keys: tuple[str, ...]
    classes: npt.NDArray[np.int32]  # [entries], class ids from 1; 0 if the entry names no class


def lists_content(spec: DatasetSpec, rules: Protocol) -> str:
    """Digest of the lists that a protocol reads; empty if it reads none or one is missing."""
    code, root = rules.training_list, spec.root or default_root(spec.name)
    if code == "all" or spec.name not in PUBLIC[code]:
        return ""
    import fsspec

    found = []
    for split in ("train", "val"):
        try:
            with fsspec.open(f"{root}/{FOLDER}/{code}-{split}.parquet", "rb") as stream:
                found.append(stream.read())
        except FileNotFoundError:
            return ""  # the check of the data reports this, with the command that imports them
    return digest_of(found)


def public_list(root: str, name: str) -> PublicList:
    """An imported list. Raises InputError, with the command to run, if it is missing."""
    path = Path(root) / FOLDER / f"{name}.parquet"
    return _public_list(root, name, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=8)
def _public_list(root: str, name: str, changed: int) -> PublicList:
    import fsspec

    path = f"{root}/{FOLDER}/{name}.parquet"
    command = command_line(["fssplat", "data", "import-lists", root, "--source", "FOLDER"])
    remedy = f"Run `{command}`"
    try:
        with fsspec.open(path, "rb") as stream:
            table = parquet_table(stream.read())
    except FileNotFoundError:
        raise InputError(
            f"{path}: this protocol needs the public list {name}. {remedy}, with the folder of the "
            f"public code's lists."
        ) from None
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). {remedy}.") from error
    except ValueError as error:
        raise InputError(f"{path}: cut short or not Parquet. {remedy}.") from error
    if not table.schema.equals(SCHEMA):
        raise InputError(f"{path}: not a list of fssplat. {remedy}.")
    return PublicList(name, tuple(table["key"].to_pylist()), table["class_id"].to_numpy())


def forget_lists() -> None:
    """Read every list from its file again, for example after an import."""
    _public_list.cache_clear()

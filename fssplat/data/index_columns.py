"""The columns of an index: the classes of each row, and a check of all values before they are used.

The fingerprint covers keys, splits and pixels, but neither the positions in the shards nor the
areas of the classes; a damaged or edited index would read other bytes, or draw no episode at all.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

HEADER = 512  # bytes of the tar header before each member
KEY = r"^[A-Za-z0-9_-]{1,90}$"
Rows = npt.NDArray[np.bool_]


@dataclass
class Classes:
    """Classes of each row with their areas, and rows of each class."""

    starts: npt.NDArray[np.int64]  # [rows + 1], first entry of each row in `ids` and `areas`
    ids: npt.NDArray[np.int32]  # ascending within a row
    areas: npt.NDArray[np.int64]  # pixels
    rows: npt.NDArray[np.int64] = field(init=False)  # [entries], row of each entry
    by_class: npt.NDArray[np.int64] = field(
        init=False
    )  # [entries], entry numbers sorted by class, then row

    def __post_init__(self) -> None:
        self.rows = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        self.by_class = np.argsort(self.ids, kind="stable")

    def entries(self, class_id: int) -> npt.NDArray[np.int64]:
        ids = self.ids[self.by_class]
        first, last = np.searchsorted(ids, [class_id, class_id + 1])
        return self.by_class[first:last]


def first_problem(
    table: pa.Table, splits: Sequence[str], shard_bytes: Sequence[int], classes: int, binary: bool
) -> str:
    """One line about the first row that cannot be right; empty if all rows can be.

    `shard_bytes` has the length of each shard; `classes` is the number of class ids, from 1.
    """
    nulls = [name for name in table.column_names if _has_null(table[name])]
    if nulls:
        return f"column {nulls[0]} has an empty cell"
    rows_of = Counter(table["key"].to_pylist())
    twice = [key for key, count in rows_of.items() if count > 1]
    if twice:
        return f"{ascii(twice[0])[:60]} is in the index twice"
    for what, wrong in _problems(table, splits, np.array(shard_bytes), classes, binary):
        rows = np.flatnonzero(wrong)
        if rows.size:
            row = int(rows[0])
            more = f", and {rows.size - 1:,} more rows" if rows.size > 1 else ""
            return f"row {row} ({ascii(table['key'][row].as_py())[:60]}){more}: {what}"
    return ""


def _has_null(column: pa.ChunkedArray) -> bool:
    lists = pa.types.is_list(column.type)
    return bool(column.null_count or (lists and pc.list_flatten(column).null_count))


def _problems(
    table: pa.Table, splits: Sequence[str], lengths: npt.NDArray[Any], classes: int, binary: bool
) -> Iterator[tuple[str, Rows]]:
    """(what is wrong, bool [rows]). A later check may rely on the earlier ones."""
    key = pc.match_substring_regex(table["key"], KEY)
    yield "its key has other characters than letters, digits, _ and -", ~_numpy(key)
    split = pc.is_in(table["split"], pa.array(splits, pa.string()))
    yield f"its split is not one of {', '.join(splits)}", ~_numpy(split)
    shard = _numpy(table["shard"])
    yield "its shard is not in dataset.json", (shard < 0) | (shard >= len(lengths))
    for kind in ("jpg", "png", "json"):
        at, size = _numpy(table[f"{kind}_at"]), _numpy(table[f"{kind}_size"])
        wrong = (at < HEADER) | (size < 1) | (at > lengths[shard]) | (size > lengths[shard] - at)
        yield f"its {kind}_at and {kind}_size are not inside the shard", wrong
    height, width = (_numpy(table[side]).astype(np.int64) for side in ("height", "width"))
    yield (
        "its height and width are not those of an image",
        ((height < 1) | (width < 1) | (height > 65_535) | (width > 65_535)),
    )
    yield from _class_problems(table, height * width, classes, binary)


def _class_problems(
    table: pa.Table, area: npt.NDArray[Any], classes: int, binary: bool
) -> Iterator[tuple[str, Rows]]:
    object_class = _numpy(table["object_class"])
    first = 1 if binary else 0
    wrong = (object_class < first) | (object_class > (classes if binary else 0))
    yield f"its object_class is not {f'one of 1 to {classes}' if binary else '0'}", wrong
    counts = _numpy(pc.list_value_length(table["classes"]))
    different = counts != _numpy(pc.list_value_length(table["pixels"]))
    yield "its classes and its pixels are not of the same number", different
    rows = np.repeat(np.arange(len(counts)), counts)
    ids, pixels = (_numpy(pc.list_flatten(table[name])) for name in ("classes", "pixels"))
    yield f"a class id is not one of 1 to {classes}", _rows(rows, (ids < 1) | (ids > classes), area)
    follows = (np.diff(ids) <= 0) & (np.diff(rows) == 0)
    yield "its class ids do not ascend", _rows(rows[1:], follows, area)
    if binary:
        other = ids != object_class[rows]
        yield "its class is not its object_class", _rows(rows, other, area)
    too_many = (pixels < 1) | (pixels > area[rows])
    yield "a class has less than one pixel, or more than the image", _rows(rows, too_many, area)


def _rows(rows: npt.NDArray[Any], wrong: Rows, area: npt.NDArray[Any]) -> Rows:
    """bool [rows of the table] from bool [entries] and the row of each entry."""
    found = np.zeros(len(area), dtype=bool)
    found[rows[wrong]] = True
    return found


def _numpy(column: Any) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = column.to_numpy()
    return values

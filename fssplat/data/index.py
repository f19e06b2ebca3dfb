"""A built data set: dataset.json, index.parquet and shards in one folder or bucket.

The index has one row per image: its key, its split, the positions of its members, its size and the
pixels of each class. Episodes are drawn as row numbers; images are read last.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict, TypeAdapter

from fssplat.common.errors import InputError
from fssplat.common.file_kinds import regular
from fssplat.common.plain_names import FINGERPRINT, SHARD, plain_name
from fssplat.common.printing import command_line
from fssplat.data.cache import Bucket, CachedShards, cache_folder, is_remote
from fssplat.data.index_columns import Classes, first_problem
from fssplat.data.masks.labels import IGNORE, UNREADABLE, Label, decode_image, decode_label
from fssplat.data.places import rebuild
from fssplat.data.shards import Member, Shard, ShardFolder, digest_of
from fssplat.experiment.datasets import INFO_FILE, Fold

FORMAT_VERSION = 1
INDEX_FILE, REPORT_FILE = "index.parquet", "report.json"
SPLITS = ("train", "val", "test")

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("shard", pa.int32()),
        *[
            (f"{kind}_{what}", pa.int64())
            for kind in ("jpg", "png", "json")
            for what in ("at", "size")
        ],
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("object_class", pa.int32()),  # class id of a binary label; 0 if the PNG has class ids
        ("classes", pa.list_(pa.int32())),
        ("pixels", pa.list_(pa.int64())),
        ("checksum", pa.string()),  # digest of the JPEG's bytes and the label's pixels
    ]
)


@dataclass(frozen=True)
class DatasetInfo:
    """The content of dataset.json.

    `labels`: the PNG has class ids ("class-index"), or 1 for `object_class` ("binary").
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")  # `from_json` refuses unknown fields

    name: str
    classes: tuple[str, ...]  # class id c is classes[c - 1]
    source: str
    year: str
    fingerprint: str  # equal for equal images, labels, splits and classes
    counts: Mapping[str, int]  # images per split
    shards: tuple[Shard, ...]
    labels: Literal["class-index", "binary"] = "class-index"
    format_version: int = FORMAT_VERSION
    # Classes per split, in the order of their ids; empty if all splits have the same classes.
    class_counts: Mapping[str, int] = field(default_factory=dict)
    folds: tuple[Fold, ...] = ()  # of a data set of your own; the built-in ones have rules
    recipe: str = ""  # the same: the built-in data set whose recipes methods use

    def to_json(self) -> str:
        values = asdict(self)
        if not self.folds:  # a built-in data set, whose file older versions read too
            del values["folds"], values["recipe"]
        return json.dumps(values, indent=1)

    @classmethod
    def from_json(cls, text: str, where: str) -> "DatasetInfo":
        """Raises InputError for other content, also for names that must not become paths."""
        remedy = rebuild(where.removesuffix(INFO_FILE))
        try:
            version = json.loads(text)["format_version"]
            if version == FORMAT_VERSION:
                info: DatasetInfo = TypeAdapter(cls).validate_json(text, strict=True)
                return info._checked(where)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{where}: not a dataset.json of fssplat. {remedy}") from error
        raise InputError(
            f"{where}: format version {version}, this fssplat reads {FORMAT_VERSION}. {remedy}"
        )

    def _checked(self, where: str) -> "DatasetInfo":
        """Raises InputError for names that must not become paths, ValueError for wrong numbers."""
        plain_name(self.fingerprint, f"{where}, fingerprint", FINGERPRINT)
        for shard in self.shards:
            plain_name(shard.file, f"{where}, shard file", SHARD)
            if shard.bytes < 0 or shard.samples < 0:
                raise ValueError(f"{shard.file} has a negative size")
        if len({shard.file for shard in self.shards}) < len(self.shards):
            raise ValueError("a shard is listed twice")
        if not self.classes or {*self.counts, *self.class_counts} - set(SPLITS):
            raise ValueError("no classes, or an unknown split")
        if self.class_counts and sum(self.class_counts.values()) != len(self.classes):
            raise ValueError("class_counts do not add up to the classes")
        ids = set(range(1, len(self.classes) + 1))
        for fold in self.folds:
            novel, base = set(fold.novel), set(fold.base)
            if not novel or novel & base or not novel | base <= ids:
                raise ValueError("a fold has no novel class, or a class that is base too")
        return self


def fingerprint_of(
    name: str, classes: tuple[str, ...], table: pa.Table, folds: tuple[Fold, ...] = ()
) -> str:
    """16 hex characters from all that a trial can see: classes, folds, keys, splits, pixels."""
    rows = zip(
        *(table[column].to_pylist() for column in ("key", "split", "object_class", "checksum")),
        strict=True,
    )
    own = [[fold.novel, fold.base] for fold in folds]
    head = json.dumps([FORMAT_VERSION, name, *classes, *([own] if own else [])]).encode()
    lines = (f"{key}\t{split}\t{c}\t{check}\n".encode() for key, split, c, check in rows)
    return digest_of([head, *lines])[:16]


class Dataset:
    """Rows of a built data set, sorted by split, then key; class ids start at 1.

    A forked process shares the mapped shards; a pickled data set is opened again from its root.
    """

    def __init__(self, root: str, info: DatasetInfo, table: pa.Table, shards: ShardFolder) -> None:
        self.root = root
        self.info = info
        self.shards = shards
        self.keys: list[str] = table["key"].to_pylist()
        self.splits: npt.NDArray[np.str_] = np.array(table["split"].to_pylist(), dtype="U5")
        self.sizes = np.stack([_column(table, "height"), _column(table, "width")], axis=1)
        self._shard = _column(table, "shard")
        self.object_classes = _column(table, "object_class")
        self._places = {
            kind: np.stack([_column(table, f"{kind}_at"), _column(table, f"{kind}_size")], axis=1)
            for kind in ("jpg", "png", "json")
        }
        self.checksums: list[str] = table["checksum"].to_pylist()
        classes, pixels = (table[name].combine_chunks() for name in ("classes", "pixels"))
        self._classes = Classes(
            np.asarray(classes.offsets, dtype=np.int64),
            np.asarray(classes.values, dtype=np.int32),
            np.asarray(pixels.values, dtype=np.int64),
        )
        self._rows = {key: row for row, key in enumerate(self.keys)}

    @classmethod
    def open(cls, root: str | Path) -> "Dataset":
        """Open a folder, or an address such as s3://bucket/folder.

        Raises InputError if a file is missing or index and shards do not match.
        """
        root = str(root).rstrip("/")
        if is_remote(root):
            return cls._open_remote(root)
        folder = Path(root)
        info = read_info(lambda name: regular(folder / name).read_bytes(), root)
        shards = ShardFolder(folder, info.shards)
        shards.check(rebuild(root, info.name))
        return cls(root, info, read_table(folder / INDEX_FILE, info, root), shards)

    @classmethod
    def _open_remote(cls, root: str) -> "Dataset":
        """Fetch dataset.json and the index now; shards are fetched when they are read."""
        bucket = Bucket(root)
        info = read_info(bucket.read, root)
        remedy = rebuild(root, info.name)
        folder = cache_folder() / info.fingerprint
        table = read_table(bucket.fetched(INDEX_FILE, folder, remedy), info, root)
        return cls(root, info, table, CachedShards(root, folder, info.shards, remedy))

    def __reduce__(self) -> tuple[Any, ...]:
        return Dataset.open, (self.root,)

    def __len__(self) -> int:
        return len(self.keys)

    # ------------------------------------------------------------- the index

    def has(self, key: str) -> bool:
        return key in self._rows

    def row_of(self, key: str) -> int:
        """Raises KeyError for an unknown key."""
        return self._rows[key]

    def classes_of(self, row: int) -> npt.NDArray[np.int32]:
        """Class ids in the image, ascending."""
        return self._classes.ids[self._classes.starts[row] : self._classes.starts[row + 1]]

    def area(self, row: int, class_id: int) -> int:
        """Pixels of the class at original size; 0 if it is absent."""
        first, last = self._classes.starts[row], self._classes.starts[row + 1]
        ids, areas = self._classes.ids[first:last], self._classes.areas[first:last]
        return int(areas[ids == class_id].sum())

    def rows_of(self, class_id: int, split: str, min_area: int = 0) -> npt.NDArray[np.int64]:
        """Rows of the split that show at least `min_area` pixels of the class, ascending."""
        entries = self._classes.entries(class_id)
        rows = self._classes.rows[entries]
        chosen = (self.splits[rows] == split) & (self._classes.areas[entries] >= min_area)
        return np.asarray(rows[chosen])

    # ------------------------------------------------------------- the shards

    def jpeg(self, row: int) -> bytes:
        """The original file's bytes."""
        return bytes(self._member(row, "jpg"))

    def png(self, row: int) -> bytes:
        """The stored label: class ids, or 0 and 1 for binary labels; 255 ignored."""
        return bytes(self._member(row, "png"))

    def image(self, row: int) -> npt.NDArray[np.uint8]:
        """RGB [H, W, 3]. Raises InputError if it cannot be decoded, as `label` and `target` do."""
        return self._decoded(row, "jpg", decode_image)

    def label(self, row: int) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
        """Class ids [H, W], 255 ignored; uint16 for binary labels.

        With more than 254 classes, class 255 cannot be told from ignored pixels here; `mask` and
        `target` distinguish them.
        """
        stored = self._decoded(row, "png", decode_label)
        if self.info.labels == "class-index":
            return stored
        named = stored.astype(np.uint16)
        named[stored == 1] = self.object_classes[row]
        return named

    def mask(self, row: int, class_id: int) -> npt.NDArray[np.uint8]:
        """[H, W]: 1 the class, 0 everything else, 255 ignored."""
        return self.target(row, (class_id,))

    def target(
        self, row: int, classes: tuple[int, ...], ignored: tuple[int, ...] = ()
    ) -> npt.NDArray[np.uint8]:
        """[H, W]: 1..n for the n classes in their order, 0 everything else, 255 ignored.

        Pixels of the class ids `ignored` become 255 too.
        """
        stored = self._decoded(row, "png", decode_label)
        values = np.zeros(256, dtype=np.uint8)
        values[[IGNORE, *ignored]] = IGNORE
        for way, class_id in enumerate(classes, start=1):
            if self.info.labels == "class-index":
                values[class_id] = way
            elif class_id == self.object_classes[row]:
                values[1] = way
        return values.take(stored)

    def details(self, row: int) -> dict[str, Any]:
        """The row's key.json: origin, size and classes of the image.

        Raises ValueError if it is not a JSON object.
        """
        values = json.loads(bytes(self._member(row, "json")))
        if not isinstance(values, dict):
            raise ValueError("its JSON is not an object")
        return values

    def _decoded(self, row: int, kind: str, decode: Callable[[memoryview], Label]) -> Label:
        content = self._member(row, kind)
        try:
            return decode(content)
        except UNREADABLE as error:
            raise InputError(
                f"{self.root}: {self.keys[row]} cannot be decoded ({error}). "
                f"Run `{command_line(['fssplat', 'data', 'verify', self.root])}`."
            ) from error

    def _member(self, row: int, kind: str) -> memoryview:
        at, size = self._places[kind][row]
        name = f"{self.keys[row]}.{kind}"
        return self.shards.member(int(self._shard[row]), name, int(at), int(size))

    def members(self, shard: int) -> dict[str, Member]:
        """Member name -> position, for all members of one shard according to the index."""
        return {
            f"{self.keys[row]}.{kind}": Member(*map(int, places[row]))
            for row in np.flatnonzero(self._shard == shard)
            for kind, places in self._places.items()
        }

    def shard_paths(self, split: str) -> Iterator[Path]:
        """The split's shards as local files, in order, for a sequential pass with webdataset."""
        for number in np.unique(self._shard[self.splits == split]):
            yield self.shards.path(int(number))


def _column(table: pa.Table, name: str) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = table[name].to_numpy()
    return values


def read_info(read: Callable[[str], bytes], root: str, name: str = "") -> DatasetInfo:
    """dataset.json through `read`, which raises FileNotFoundError if the file is missing.

    `name` is the name of the data set, if known, for the error message. Raises InputError if the
    file is missing or damaged.
    """
    try:
        text = read(INFO_FILE).decode()
    except (FileNotFoundError, NotADirectoryError):
        hint = rebuild(root, name, overwrite=False)
        raise InputError(f"{root}: no data set there ({INFO_FILE} is missing). {hint}") from None
    except OSError as error:
        raise InputError(
            f"{root}/{INFO_FILE}: cannot be read ({error.strerror}). Check the folder and its "
            f"permissions."
        ) from error
    except UnicodeDecodeError:
        text = ""
    return DatasetInfo.from_json(text, f"{root}/{INFO_FILE}")


def read_table(path: Path, info: DatasetInfo, root: str) -> pa.Table:
    """The index. Raises InputError if it is damaged or does not match dataset.json."""
    remedy = rebuild(root, info.name)
    try:
        table = parquet_table(regular(path).read_bytes())
    except FileNotFoundError:
        raise InputError(f"{root}: {INDEX_FILE} is missing. {remedy}") from None
    except OSError as error:
        raise InputError(
            f"{root}/{INDEX_FILE}: cannot be read ({error.strerror}). Check its permissions."
        ) from error
    except ValueError as error:
        raise InputError(f"{root}/{INDEX_FILE}: cut short or not Parquet. {remedy}") from error
    if not table.schema.equals(SCHEMA):
        raise InputError(f"{root}/{INDEX_FILE}: not an index of this fssplat. {remedy}")
    if fingerprint_of(info.name, info.classes, table, info.folds) != info.fingerprint:
        raise InputError(
            f"{root}: {INDEX_FILE} and {INFO_FILE} come from different builds. {remedy}"
        )
    samples = {number: shard.samples for number, shard in enumerate(info.shards)}
    if Counter(table["shard"].to_pylist()) != samples:
        raise InputError(
            f"{root}: {INDEX_FILE} and the shards that {INFO_FILE} lists do not match. {remedy}"
        )
    lengths = [shard.bytes for shard in info.shards]
    binary = info.labels == "binary"
    problem = first_problem(table, SPLITS, lengths, len(info.classes), binary)
    if problem:
        raise InputError(f"{root}/{INDEX_FILE}: {problem}. {remedy}")
    if Counter(table["split"].to_pylist()) != info.counts:
        raise InputError(f"{root}: {INDEX_FILE} and the counts in {INFO_FILE} differ. {remedy}")
    return table


def parquet_table(content: bytes) -> pa.Table:
    """Read Parquet. Raises ValueError, in place of pyarrow's many errors, if that fails."""
    try:
        return pq.read_table(BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(str(error)) from error

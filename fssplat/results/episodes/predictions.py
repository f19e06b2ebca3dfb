"""The predicted masks of a trial, from its predictions.parquet."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from fssplat.data.readers.shapes.coco_shapes import draw_shape

COLUMNS = (
    "seed", "episode", "score", "way", "class_id", "class", "query", "height", "width", "counts",
)  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """The predicted mask of one way of an episode, at the scored size."""

    seed: int  # episode seed: of the manifest
    episode: int  # position in the manifest
    way: int  # from 1
    class_id: int
    class_name: str
    query: str  # key of the query image
    height: int  # pixels
    width: int  # pixels
    counts: bytes  # COCO's compressed runs

    def mask(self) -> npt.NDArray[np.bool_]:
        """[height, width]. Raises ValueError if the runs are damaged."""
        runs = self.counts.decode("latin-1")
        shape = {"size": [self.height, self.width], "counts": runs}
        return draw_shape(shape, self.height, self.width)


@dataclass(frozen=True)
class Predictions:
    """The masks that a trial has kept: of all its episodes, or of some."""

    columns: dict[str, Any]  # pyarrow columns by name
    score: str  # the size at which they were scored, as in the protocol

    def __len__(self) -> int:
        return len(self.columns["seed"])

    def __iter__(self) -> Iterator[Prediction]:
        """In the order of the manifests."""
        return (self._row(place) for place in range(len(self)))

    def find(self, seed: int, episode: int, way: int = 1) -> Prediction | None:
        """The mask of one way of an episode; None if it was not kept."""
        place = self._places.get((seed, episode, way))
        return None if place is None else self._row(place)

    @cached_property
    def _places(self) -> dict[tuple[int, int, int], int]:
        columns = (self.columns[one].to_pylist() for one in ("seed", "episode", "way"))
        keys = zip(*columns, strict=True)
        return {key: place for place, key in enumerate(keys)}

    def _row(self, place: int) -> Prediction:
        values = {name: column[place].as_py() for name, column in self.columns.items()}
        return Prediction(class_name=values.pop("class"), **values)


def read_predictions(parquet: bytes) -> Predictions:
    """The masks of a file. Raises ValueError if it is damaged or has none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(BytesIO(parquet), columns=list(COLUMNS))
        columns = {name: table[name] for name in COLUMNS}
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(f"cannot be read ({str(error).splitlines()[0]})") from error
    scores = columns.pop("score").unique().to_pylist()
    if len(scores) != 1 or any(column.null_count for column in columns.values()):
        raise ValueError("has no masks, masks of several sizes, or empty values")
    return Predictions(columns, scores[0])

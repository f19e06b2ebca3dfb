"""Predicted masks of an evaluation as COCO's compressed run-length encoding (RLE).

pycocotools encodes them in another thread, in batches, while the next episodes are segmented.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from fssplat.common.whole_files import write_whole
from fssplat.data.index import Dataset
from fssplat.engine.scoring.inputs import Score
from fssplat.engine.scoring.scorer import ManifestEpisode

FILE = "predictions.parquet"
BATCH = 32  # masks that are encoded in one go
SCHEMA = pa.schema(
    [
        ("seed", pa.int64()),
        ("episode", pa.int64()),
        ("score", pa.string()),  # the size at which the mask was scored
        ("way", pa.int32()),
        ("class_id", pa.int32()),
        ("class", pa.string()),
        ("query", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("counts", pa.binary()),  # runs of pixels outside and inside in turn, column by column
    ]
)

# an episode and its predicted classes as uint8 [w, h]: the axis along which runs go is the last
Item = tuple[ManifestEpisode, npt.NDArray[np.uint8]]
Row = dict[str, Any]


class Predictions:
    """Collects predicted masks at one scored size; at most 2 * BATCH of them are not encoded."""

    def __init__(self, dataset: Dataset, score: Score) -> None:
        self._dataset, self._score = dataset, score
        self._pool = ThreadPoolExecutor(1)
        self._collected: list[Item] = []
        self._batches: list[Future[list[Row]]] = []

    def add(self, episode: ManifestEpisode, prediction: Tensor) -> None:
        """Take int64 [h, w] on any device: 0 background, else the way."""
        columns_first = prediction.to(torch.uint8).T.contiguous()
        self._collected.append((episode, columns_first.cpu().numpy()))
        if len(self._collected) == BATCH:
            self._encode()

    def write(self, folder: Path) -> None:
        """Write all masks in the order of the manifests, or none if none was added.

        A file that an interrupted evaluation left is replaced or deleted.
        """
        self._encode()
        rows = [row for batch in self._batches for row in batch.result()]
        if not rows:
            (folder / FILE).unlink(missing_ok=True)
            return
        rows.sort(key=lambda row: (row["seed"], row["episode"], row["way"]))
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        write_whole(folder / FILE, lambda path: pq.write_table(table, path, compression="zstd"))

    def close(self) -> None:
        """Stop the thread; masks that are not encoded are dropped."""
        self._pool.shutdown(cancel_futures=True)

    def _encode(self) -> None:
        if self._batches:
            self._batches[-1].result()
        if self._collected:
            batch, self._collected = self._collected, []
            self._batches.append(
                self._pool.submit(encoded_rows, batch, self._dataset, str(self._score))
            )


def encoded_rows(batch: Sequence[Item], dataset: Dataset, score: str) -> list[Row]:
    """One row per episode and way."""
    from pycocotools import mask

    rows = []
    for episode, labels in batch:
        width, height = labels.shape
        for way, class_id in enumerate(episode.drawn.classes, start=1):
            inside = (labels == way).view(np.uint8).T
            rows.append(
                {
                    "seed": episode.seed,
                    "episode": episode.index,
                    "score": score,
                    "way": way,
                    "class_id": class_id,
                    "class": dataset.info.classes[class_id - 1],
                    "query": dataset.keys[episode.drawn.query],
                    "height": height,
                    "width": width,
                    "counts": mask.encode(inside)["counts"],
                }
            )
    return rows

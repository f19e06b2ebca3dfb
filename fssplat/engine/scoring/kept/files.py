"""Writes predictions.parquet and details.parquet of an evaluation.

Another thread makes their rows in batches, while the next episodes are segmented.
"""

from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from fssplat.common.whole_files import write_whole
from fssplat.engine.scoring.inputs import Inputs
from fssplat.engine.scoring.kept import details, predictions
from fssplat.engine.scoring.kept.names import DETAILS, PREDICTIONS
from fssplat.engine.scoring.scorer import ManifestEpisode
from fssplat.experiment.trial import Trial

BATCH = 32  # episodes whose rows are made in one go

# an episode and its prediction, uint8 [h, w] in Fortran's order, which run-length encoding reads
Item = tuple[ManifestEpisode, npt.NDArray[np.uint8]]
Rows = list[dict[str, Any]]


class Made(NamedTuple):
    """The rows of a batch."""

    predictions: Rows
    details: Rows


class KeptFiles:
    """Collects the predictions of a trial; at most 2 * BATCH of them are without rows."""

    def __init__(self, trial: Trial, inputs: Inputs, masks: Collection[ManifestEpisode]) -> None:
        """`masks`: the episodes whose predicted mask is kept."""
        self._trial, self._inputs, self._masks = trial, inputs, masks
        self._base = details.base_objects(inputs.dataset.info, trial)
        self._pool = ThreadPoolExecutor(1)
        self._collected: list[Item] = []
        self._batches: list[Future[Made]] = []

    def add(self, episode: ManifestEpisode, prediction: Tensor) -> None:
        """Take the prediction at the first scored size, int64 [h, w] on any device."""
        columns_first = prediction.to(torch.uint8).T.contiguous()
        self._collected.append((episode, columns_first.cpu().numpy().T))
        if len(self._collected) == BATCH:
            self._submit()

    def write(self, folder: Path) -> None:
        """Write the rows in the order of the manifests.

        A file that an interrupted evaluation left is replaced, or deleted if no mask is kept.
        """
        self._submit()
        batches = [batch.result() for batch in self._batches]
        masks = [row for batch in batches for row in batch.predictions]
        _write(folder / PREDICTIONS, masks, predictions.SCHEMA)
        rows = [row for batch in batches for row in batch.details]
        _write(folder / DETAILS, rows, details.SCHEMA)

    def close(self) -> None:
        """Stop the thread; predictions without rows are dropped."""
        self._pool.shutdown(cancel_futures=True)

    def _submit(self) -> None:
        if self._batches:
            self._batches[-1].result()
        if self._collected:
            self._batches.append(self._pool.submit(self.rows_of, self._collected))
            self._collected = []

    def rows_of(self, batch: Sequence[Item]) -> Made:
        """The rows of episodes; reads the labels of their queries."""
        made = Made([], [])
        score, rules = self._trial.protocol.score[0], self._trial.protocol
        ignore_border = rules.ignores_border(self._trial.dataset.name)
        dataset = self._inputs.dataset
        for episode, prediction in batch:
            classes = (*episode.drawn.classes, *self._base)
            label = self._inputs.label(episode.drawn.query, classes, score)
            found = details.detail_rows(
                episode, prediction, label, dataset, str(score), ignore_border
            )
            made.details.extend(found)
            if episode in self._masks:
                found = predictions.prediction_rows(episode, prediction, dataset, str(score))
                made.predictions.extend(found)
        return made


def _write(path: Path, rows: Rows, schema: pa.Schema) -> None:
    if not rows:
        path.unlink(missing_ok=True)
        return
    rows = sorted(rows, key=lambda row: (row["seed"], row["episode"], row["way"]))
    table = pa.Table.from_pylist(rows, schema=schema)
    write_whole(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))

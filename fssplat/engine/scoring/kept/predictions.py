"""Predicted masks as COCO's compressed run-length encoding (RLE)."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fssplat.data.index import Dataset
from fssplat.engine.scoring.scorer import ManifestEpisode

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


def prediction_rows(
    episode: ManifestEpisode, prediction: npt.NDArray[np.uint8], dataset: Dataset, score: str
) -> list[dict[str, Any]]:
    """One row per way; `prediction` [h, w] has 0 and the ways, in Fortran's order if it is fast."""
    from pycocotools import mask

    height, width = prediction.shape
    return [
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
            "counts": mask.encode(np.asfortranarray(prediction == way).view(np.uint8))["counts"],
        }
        for way, class_id in enumerate(episode.drawn.classes, start=1)
    ]

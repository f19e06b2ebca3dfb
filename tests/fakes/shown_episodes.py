"""A store of two trials on a built data set, with kept masks that are shifted truths."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pycocotools import mask as coco

from fssplat.data.index import Dataset
from fssplat.engine.scoring.rows import Row, table_of
from fssplat.experiment.schema import DatasetSpec
from fssplat.experiment.trial import Trial
from fssplat.results.store import Store
from tests.fakes.report_stores import report_trial

CLASSES = (1, 2, 3, 4, 5)  # novel in fold 0
EPISODES = 10
SHIFTS = {"prior": 6, "hsnet": 2}  # pixels by which a mask is moved, plus the episode's number


def shown_trials(root: Path | str) -> list[Trial]:
    place = DatasetSpec(name="synthetic", root=str(root))
    return [
        report_trial(method, 0).model_copy(update={"dataset": place, "train_on": place})
        for method in SHIFTS
    ]


def store_with_masks(folder: Path, root: Path, masks: bool = True) -> Store:
    """The trials of `shown_trials`, finished; without predictions.parquet if not `masks`."""
    store, dataset = Store.open(str(folder / "store")), Dataset.open(root)
    for one in shown_trials(root):
        work = folder / "work"
        work.mkdir(exist_ok=True)
        rows, kept = _episodes(dataset, one)
        pq.write_table(table_of(rows), work / "episodes.parquet")
        if masks:
            pq.write_table(pa.Table.from_pylist(kept), work / "predictions.parquet")
        iou = sum(row["intersection"] for row in rows) / sum(row["union"] for row in rows)
        store.finish(one, one.trial_id({}), work, {"miou": iou, "fb_iou": iou})
    return store


def _episodes(dataset: Dataset, one: Trial) -> tuple[list[Row], list[Row]]:
    rows, kept = [], []
    for episode in range(EPISODES):
        class_id = CLASSES[episode % len(CLASSES)]
        support, query = dataset.rows_of(class_id, "val")[:2] if episode < len(
            CLASSES) else dataset.rows_of(class_id, "val")[:2][::-1]  # fmt: skip
        truth = dataset.mask(int(query), class_id)
        inside = _moved(truth == 1, SHIFTS[one.method.name] + (episode * 3) % 7)
        valid = truth != 255
        shared: Row = {
            "seed": 0, "episode": episode, "score": "original", "way": 1, "class_id": class_id,
            "class": dataset.info.classes[class_id - 1], "query": dataset.keys[int(query)],
        }  # fmt: skip
        inter = int((inside & (truth == 1)).sum())
        union = int(((inside & valid) | (truth == 1)).sum())
        rows.append(
            {
                **shared, "trial_id": one.trial_id({}), "supports": [dataset.keys[int(support)]],
                "intersection": inter, "union": union, "background_intersection": 1,
                "background_union": 1, "foreground_intersection": inter, "foreground_union": union,
                "object_pixels": int((truth == 1).sum()), "image_pixels": truth.size,
            }
        )  # fmt: skip
        runs = coco.encode(np.asfortranarray(inside.astype(np.uint8)))["counts"]
        height, width = truth.shape
        kept.append({**shared, "height": height, "width": width, "counts": runs})
    return rows, kept


def _moved(inside: npt.NDArray[np.bool_], pixels: int) -> npt.NDArray[np.bool_]:
    return np.roll(inside, pixels, axis=1)

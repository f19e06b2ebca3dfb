"""Wrong pixels in four parts: each once, in the given order, together the union minus the hits."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest

from fssplat.data.index import DatasetInfo
from fssplat.engine.scoring.kept.details import (
    PARTS,
    WrongPixels,
    base_objects,
    near_edge,
    wrong_pixels,
)
from fssplat.experiment.datasets import Fold
from tests.engine.scoring.test_evaluate import DATA, run, trial_of

DRAW = np.random.default_rng(5)


def blobs(share: float, height: int, width: int) -> Any:
    """bool [height, width]: a few rectangles and some noise."""
    mask = DRAW.random((height, width)) < 0.02
    for _ in range(3):
        top, left = DRAW.integers(0, height), DRAW.integers(0, width)
        rows, columns = int(share * height) + 1, int(share * width) + 1
        mask[top : top + rows, left : left + columns] ^= True
    return mask


def expected(predicted: Any, true: Any, valid: Any, base: Any) -> WrongPixels:
    """The definition, pixel by pixel."""
    height, width = true.shape
    reach = max(1, round(0.02 * (height**2 + width**2) ** 0.5))
    found = dict.fromkeys(PARTS, 0)
    hits = int((predicted & true & valid).sum())
    union = int(((predicted | true) & valid).sum())
    for row, column in np.argwhere((predicted != true) & valid):
        window = true[
            max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1
        ]
        if hits / union < 0.1:
            found["missed"] += 1
        elif window.any() and not window.all():
            found["boundary"] += 1
        elif base[row, column]:
            found["base"] += 1
        else:
            found["other"] += 1
    return WrongPixels(hits, union, **found)


@pytest.mark.parametrize("seed", range(12))
def test_random_masks_have_the_parts_of_the_definition(seed: int) -> None:
    height, width = (int(side) for side in np.random.default_rng(seed).integers(20, 90, 2))
    predicted, true, base = (blobs(share, height, width) for share in (0.4, 0.4, 0.6))
    if seed % 3 == 0:
        predicted = true ^ (DRAW.random(true.shape) < 0.1)
    valid = DRAW.random(true.shape) < 0.9
    found = wrong_pixels(predicted, true, valid, base & ~true)
    assert found == expected(predicted, true, valid, base & ~true)
    wrong = found.missed + found.boundary + found.base + found.other
    assert wrong == found.union - found.intersection


def test_a_whole_image_and_an_empty_one_have_no_edge() -> None:
    places = np.array([0, 5]), np.array([3, 9])
    for value in (False, True):
        assert not near_edge(np.full((6, 10), value), *places).any()


def test_pictures_with_known_parts() -> None:
    true = np.zeros((100, 100), dtype=bool)  # the band is 3 pixels wide on either side
    true[20:60, 20:60] = True
    base = np.zeros_like(true)
    base[:, 80:] = True
    everywhere = np.ones_like(true)
    wider = true.copy()
    wider[20:60, 60:63] = True  # touches the object: 3 columns in the band
    assert wrong_pixels(wider, true, everywhere, base) == WrongPixels(1600, 1720, 0, 120, 0, 0)
    wider[20:60, 63] = True  # the fourth column is not
    wider[0:10, 80:90] = True
    assert wrong_pixels(wider, true, everywhere, base) == WrongPixels(1600, 1860, 0, 120, 100, 40)
    hole = true.copy()
    hole[30:50, 30:50] = False
    assert wrong_pixels(hole, true, everywhere, base) == WrongPixels(1200, 1600, 0, 0, 0, 400)
    little = true & (np.arange(100) < 23)
    assert wrong_pixels(little, true, everywhere, base) == WrongPixels(120, 1600, 1480)


@pytest.mark.parametrize("way", [1, 2])
def test_an_evaluation_writes_parts_that_add_up_to_the_counts(tmp_path: Path, way: int) -> None:
    run(tmp_path, trial_of(shot=2, way=way))
    counts = pq.read_table(tmp_path / "episodes.parquet").to_pylist()
    rows = pq.read_table(tmp_path / "details.parquet").to_pylist()
    headline = [row for row in counts if row["score"] == "original"]
    assert len(rows) == len(headline) == 40 * way
    for row, count in zip(rows, headline, strict=True):
        for name in ("seed", "episode", "score", "way", "class_id", "intersection", "union"):
            assert row[name] == count[name]
        assert sum(row[part] for part in PARTS) == row["union"] - row["intersection"]
        supports = count["supports"][2 * (way_of(row) - 1) : 2 * way_of(row)]
        places = [DATA.keys.index(key) for key in supports]
        assert row["support_pixels"] == [DATA.area(p, row["class_id"]) for p in places]
        assert row["support_image_pixels"] == [DATA.labels[p].size for p in places]


def way_of(row: dict[str, Any]) -> int:
    return int(row["way"])


def test_base_objects_are_those_that_the_training_has_seen() -> None:
    def info(**changes: Any) -> DatasetInfo:
        names = tuple(f"c{n}" for n in range(20))
        values = {"name": "synthetic", "classes": names, "labels": "class-index", "folds": ()}
        return cast(DatasetInfo, SimpleNamespace(**{**values, **changes}))

    trial = trial_of().model_copy(update={"fold": 1})
    assert base_objects(info(), trial) == (*range(1, 6), *range(11, 21))
    assert base_objects(info(labels="binary"), trial) == ()
    folds = (Fold((1,), (2,)), Fold((3,), (2, 4)))
    assert base_objects(info(folds=folds), trial) == (2, 4)
    other = trial.train_on.model_copy(update={"name": "coco-20i"})
    elsewhere = trial.model_copy(update={"train_on": other})
    assert base_objects(info(folds=folds), elsewhere) == ()

"""Predicted masks: written by an evaluation, read from the store."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fssplat.engine.scoring.kept.predictions import SCHEMA
from fssplat.results.episodes.predictions import read_predictions
from fssplat.results.store import Store
from tests.engine.scoring.test_evaluate import DATA, run, trial_of


def truth_counts(row: dict[str, Any], inside: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Intersection and union of a mask with the labels of the row's query."""
    label = DATA.labels[DATA.keys.index(row["query"])]
    true, valid = label == row["class_id"], label != 255
    return int((inside & true & valid).sum()), int(((inside | true) & valid).sum())


@pytest.mark.parametrize("way", [1, 2])
@pytest.mark.parametrize("remote", [False, True])
def test_the_masks_in_a_store_have_the_counts_of_the_episodes(
    tmp_path: Path, way: int, remote: bool
) -> None:
    trial = trial_of(way=way)
    metrics, _ = run(tmp_path / "work", trial)
    rows = pq.read_table(tmp_path / "work" / "episodes.parquet").to_pylist()
    store = Store.open(f"memory://{tmp_path.name}{way}" if remote else str(tmp_path / "store"))
    store.finish(trial, "t", tmp_path / "work", metrics)
    found = store.predictions("t")
    assert found is not None
    assert found.score == "original"
    assert len(found) == len(list(found)) == 2 * 20 * way
    for row in rows:
        if row["score"] == "original":
            one = found.find(row["seed"], row["episode"], row["way"])
            assert one is not None
            assert (one.class_id, one.class_name) == (row["class_id"], row["class"])
            assert one.query == row["query"]
            assert one.mask().shape == (one.height, one.width)
            assert truth_counts(row, one.mask()) == (row["intersection"], row["union"])
    assert found.find(0, 99) is None


def test_the_setting_changes_the_file_and_no_number(tmp_path: Path) -> None:
    files, tables = {}, []
    for keep in ("all", "panels", "none"):
        folder = tmp_path / keep
        run(folder, trial_of(evaluation={"keep": keep}))
        files[keep] = folder / "predictions.parquet"
        tables.append(pq.read_table(folder / "episodes.parquet"))
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])
    assert not files["none"].exists()
    some = read_predictions(files["panels"].read_bytes())
    assert [(one.seed, one.episode) for one in some] == [(0, 0), (0, 6), (0, 13)]
    every = read_predictions(files["all"].read_bytes())
    for one in some:
        assert every.find(one.seed, one.episode) == one


def test_a_trial_without_masks_has_none(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    assert store.predictions("t") is None


def test_damage_is_a_value_error(tmp_path: Path) -> None:
    run(tmp_path, trial_of(evaluation={"keep": "panels"}))
    path = tmp_path / "predictions.parquet"
    with pytest.raises(ValueError, match="cannot be read"):
        read_predictions(path.read_bytes()[:100])
    row = pq.read_table(path).to_pylist()[0]
    for change in ({"counts": b"\xff"}, {"counts": b"0" * 9}, {"height": 10**6}):
        pq.write_table(pa.Table.from_pylist([row | change], schema=SCHEMA), path)
        with pytest.raises(ValueError, match="RLE"):
            next(iter(read_predictions(path.read_bytes()))).mask()
    pq.write_table(pa.Table.from_pylist([row | {"query": None}], schema=SCHEMA), path)
    with pytest.raises(ValueError, match="empty values"):
        read_predictions(path.read_bytes())

"""Shares of 1 - mIoU, from the wrong pixels that an evaluation writes."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fssplat.engine.scoring.kept.details import SCHEMA
from fssplat.engine.scoring.kept.names import PARTS
from fssplat.results.episodes.details import read_details
from fssplat.results.maintenance import damaged_files
from fssplat.results.store import Store
from tests.engine.scoring.test_evaluate import run, trial_of


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    stream = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), stream)
    return stream.getvalue()


def drawn_rows(seeds: int = 3, classes: int = 4, count: int = 60) -> list[dict[str, Any]]:
    draw = np.random.default_rng(11)
    rows = []
    for number in range(count):
        parts = {name: int(draw.integers(0, 500)) for name in PARTS}
        hits = int(draw.integers(0, 3000))
        rows.append(
            {
                "seed": number % seeds, "episode": number // seeds, "score": "original", "way": 1,
                "class_id": 1 + int(draw.integers(0, classes)), "intersection": hits,
                "union": hits + sum(parts.values()), **parts,
                "support_pixels": [10, 30], "support_image_pixels": [100, 100],
            }
        )  # fmt: skip
    return rows


def test_the_parts_add_up_to_1_minus_miou(tmp_path: Path) -> None:
    metrics, _ = run(tmp_path, trial_of(), seeds=3)
    found = read_details((tmp_path / "details.parquet").read_bytes())
    assert sum(found.lost().values()) == pytest.approx(1 - metrics["miou"], abs=1e-12)
    metrics, _ = run(tmp_path, trial_of(absent_class="zero"))
    found = read_details((tmp_path / "details.parquet").read_bytes())
    classes = int(metrics["novel_classes"])
    assert classes > len(set(found.class_id))  # class e has no episode
    assert sum(found.lost(classes).values()) == pytest.approx(1 - metrics["miou"], abs=1e-12)


def test_the_shares_are_those_of_a_plain_loop() -> None:
    rows = drawn_rows()
    found = read_details(as_parquet(rows)).lost()
    for part in PARTS:
        of_seeds = []
        for seed in range(3):
            shares = []
            for class_id in range(1, 5):
                mine = [r for r in rows if (r["seed"], r["class_id"]) == (seed, class_id)]
                shares.append(sum(r[part] for r in mine) / sum(r["union"] for r in mine))
            of_seeds.append(sum(shares) / len(shares))
        assert found[part] == pytest.approx(sum(of_seeds) / 3)


def test_supports_have_the_mean_share_of_their_shots() -> None:
    assert read_details(as_parquet(drawn_rows(count=2))).support_shares.tolist() == [0.2, 0.2]


def test_damage_is_a_value_error() -> None:
    row = drawn_rows(count=1)[0]
    for wrong, words in (
        (as_parquet([row])[:200], "cannot be read"),
        (as_parquet([row | {"support_pixels": []}]), "cannot be read"),
        (as_parquet([row | {"other": None}]), "empty values"),
        (as_parquet([row | {"other": row["other"] + 1}]), "add up"),
        (as_parquet([]), "no episodes"),
    ):
        with pytest.raises(ValueError, match=words):
            read_details(wrong)


@pytest.mark.parametrize("remote", [False, True])
def test_files_can_be_added_to_a_finished_trial(tmp_path: Path, remote: bool) -> None:
    store = Store.open(f"memory://{tmp_path.name}" if remote else str(tmp_path / "store"))
    trial = trial_of(evaluation={"keep": "none"})
    metrics, _ = run(tmp_path / "work", trial)
    kept = (tmp_path / "work" / "details.parquet").read_bytes()
    (tmp_path / "work" / "details.parquet").unlink()
    before = store.finish(trial, "t", tmp_path / "work", metrics)
    store.add_files("t", {"details.parquet": kept})
    after = store.results(["t"])["t"]
    assert set(after.files) == {*before.files, "details.parquet"}
    assert (after.metrics, after.about) == (before.metrics, before.about)
    assert damaged_files(["t"], store) == ({}, 0)
    assert store.files.read("t/details.parquet") == kept

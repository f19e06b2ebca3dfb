"""A small store of finished trials with episodes drawn at random, for tests of reports."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fssplat.data.index import Dataset, DatasetInfo
from fssplat.engine.scoring.evaluate import summary
from fssplat.engine.scoring.kept.details import SCHEMA
from fssplat.engine.scoring.kept.names import PARTS
from fssplat.engine.scoring.rows import Row, table_of
from fssplat.experiment.trial import Trial
from fssplat.report.evidence.gather import Evidence, Options, Source
from fssplat.results.store import Store
from tests.fakes.trials import trial

HOSTILE = (
    '<script>alert("x")</script>',
    "R&D_50%",
    "a \u202ertl\u202c",
    "smile \U0001f600",
    "it's",
)
CLASSES = (*HOSTILE, *(f"class {n}" for n in range(6, 21)))
CLAIM = 'Is <b>"A & B"</b> 100% better than $x_1$? \u202e'
OLDER = "panet"  # its trials have no details.parquet
LEAD = {"prior": 0.0, "panet": 0.05, "hsnet": 0.12}  # of the mean IoU of an episode


@dataclass(frozen=True)
class Size:
    """How many episodes and images the store has per fold."""

    episodes: int = 40
    images: int = 25
    episode_seeds: tuple[int, ...] = (0, 1)


def report_trial(method: str, fold: int, seed: int = 0, shot: int = 1) -> Trial:
    one = trial(seed, shot, method, 0 if method == "prior" else 4, fold)
    rules = one.protocol.model_copy(
        update={"episodes": 40, "episode_seeds": (0, 1), "score": ("original",)}
    )
    return one.model_copy(update={"protocol": rules})


def small_grid() -> list[Trial]:
    """3 methods on 2 folds; panet with 2 training seeds."""
    seeds = {"prior": (0,), "panet": (0, 1), "hsnet": (0,)}
    return [
        report_trial(method, fold, seed)
        for method in LEAD
        for fold in (0, 1)
        for seed in seeds[method]
    ]


def drawn_rows(one: Trial, trial_id: str, size: Size = Size()) -> list[Row]:
    """Episodes that depend on the fold alone, and counts that depend on the method too."""
    rows = []
    for seed in size.episode_seeds:
        drawn = np.random.default_rng((one.fold, seed))
        noise = np.random.default_rng(
            (one.fold, seed, [*LEAD].index(one.method.name), one.training.seed)
        )
        for episode in range(size.episodes):
            class_id = 5 * one.fold + 1 + episode % 5
            query, support = drawn.choice(size.images, 2, replace=False)
            pixels = int(drawn.lognormal(7.5, 1.0)) + 20
            difficulty = drawn.beta(2, 2)
            share = difficulty * 0.7 + LEAD[one.method.name] + 0.1 * noise.standard_normal()
            union = int(pixels * (1 + 0.3 * noise.random()))
            inter = int(np.clip(share, 0, 1) * union)
            whole = max(60_000, 2 * union)
            rows.append(
                {
                    "trial_id": trial_id, "seed": seed, "episode": episode, "score": "original",
                    "way": 1, "class_id": class_id, "class": CLASSES[class_id - 1],
                    "query": f"image{one.fold}-{query}", "supports": [f"image{one.fold}-{support}"],
                    "intersection": inter, "union": union,
                    "background_intersection": whole - union, "background_union": whole - inter,
                    "foreground_intersection": inter, "foreground_union": union,
                    "object_pixels": pixels, "image_pixels": whole,
                }
            )  # fmt: skip
    return rows


def drawn_details(rows: list[Row]) -> list[dict[str, Any]]:
    """The wrong pixels of episodes in four parts, and two supports, drawn at random."""
    found = []
    for row in rows:
        draw = np.random.default_rng((row["seed"], row["episode"], row["class_id"]))
        wrong = row["union"] - row["intersection"]
        parts = draw.multinomial(wrong, (0.1, 0.5, 0.1, 0.3))
        if row["intersection"] < 0.1 * row["union"]:
            parts = np.array([wrong, 0, 0, 0])
        found.append(
            {
                **{name: row[name] for name in ("seed", "episode", "score", "way", "class_id")},
                **{name: row[name] for name in ("intersection", "union")},
                **dict(zip(PARTS, parts.tolist(), strict=True)),
                "support_pixels": draw.integers(100, 40_000, 1).tolist(),
                "support_image_pixels": [100_000],
            }
        )
    return found


def finish(store: Store, one: Trial, folder: Path, size: Size = Size(), **metrics: float) -> str:
    """Put a result of the trial into the store, in the engine's formats; returns its id."""
    trial_id = one.trial_id({})
    rows = drawn_rows(one, trial_id, size)
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    pq.write_table(table_of(rows), work / "episodes.parquet")
    if one.method.name != OLDER:
        table = pa.Table.from_pylist(drawn_details(rows), schema=SCHEMA)
        pq.write_table(table, work / "details.parquet")
    info = DatasetInfo("synthetic", CLASSES, "test", "", "0" * 16, {"val": 60}, ())
    dataset = cast(Dataset, SimpleNamespace(info=info))
    measured = {
        "episodes": float(len(rows)), "episodes_per_s": 10.0 + 5 * len(one.method.name),
        "learnable_parameters": 1e5 * len(one.method.name), "peak_memory_bytes": 1e9,
        "train_seconds": 60.0, **metrics,
    }  # fmt: skip
    about = {"job": one.training_key({}), "launch": "20260131-120000-abcd", "device": "CPU"}
    store.finish(one, trial_id, work, {**summary(rows, one, dataset), **measured}, (), about)
    return trial_id


def small_store(folder: Path, grid: Sequence[Trial] | None = None, size: Size = Size()) -> Store:
    """A store with a result of each trial."""
    store = Store.open(str(folder / "store"))
    for one in small_grid() if grid is None else grid:
        finish(store, one, folder, size)
    return store


def source(store: Store, grid: Sequence[Trial] | None = None, **changes: Any) -> Source:
    """An experiment over these trials, as a report reads it."""
    trials = {one.trial_id({}): one for one in (small_grid() if grid is None else grid)}
    made = Source(
        name="small",
        claim=CLAIM,
        command="fssplat launch small.yaml",
        store=store,
        trials=trials,
        states=store.states(trials),
    )
    return replace(made, **changes)


def evidence(store: Store, grid: Sequence[Trial] | None = None, **options: Any) -> Evidence:
    return Evidence([source(store, grid)], Options(**options))

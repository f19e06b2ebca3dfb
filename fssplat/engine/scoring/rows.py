"""The table of counts: one row per episode, scored size and way, and the sums over its rows."""

from typing import Any

import numpy as np
import pyarrow as pa

from fssplat.engine.scoring.inputs import Inputs, Score
from fssplat.engine.scoring.metrics import Scores
from fssplat.engine.scoring.scorer import ScoredEpisode

Row = dict[str, Any]

SCHEMA = pa.schema(
    [
        ("trial_id", pa.string()),
        ("seed", pa.int64()),
        ("episode", pa.int64()),
        ("score", pa.string()),
        ("way", pa.int32()),
        ("class_id", pa.int32()),
        ("class", pa.string()),
        ("query", pa.string()),
        ("supports", pa.list_(pa.string())),
        ("intersection", pa.int64()),
        ("union", pa.int64()),
        ("background_intersection", pa.int64()),
        ("background_union", pa.int64()),
        ("foreground_intersection", pa.int64()),  # of all ways together
        ("foreground_union", pa.int64()),
        ("object_pixels", pa.int64()),  # of the class in the query, at original size
        ("image_pixels", pa.int64()),
    ]
)


def rows_of(scored: ScoredEpisode, inputs: Inputs, trial_id: str) -> list[Row]:
    """The table's rows of one episode. Waits for the device, since it reads the counts."""
    dataset, drawn = inputs.dataset, scored.episode.drawn
    shared = {
        "trial_id": trial_id,
        "seed": scored.episode.seed,
        "episode": scored.episode.index,
        "query": dataset.keys[drawn.query],
        "supports": [dataset.keys[row] for row in drawn.supports],
        "image_pixels": int(np.prod(dataset.sizes[drawn.query])),
    }
    rows = []
    for score, counts in scored.counts.items():
        table = counts.tolist()
        for way, class_id in enumerate(drawn.classes, start=1):
            rows.append(
                {
                    **shared,
                    "score": str(score),
                    "way": way,
                    "class_id": class_id,
                    "class": dataset.info.classes[class_id - 1],
                    "intersection": table[way][0],
                    "union": table[way][1],
                    "background_intersection": table[0][0],
                    "background_union": table[0][1],
                    "foreground_intersection": table[-1][0],
                    "foreground_union": table[-1][1],
                    "object_pixels": dataset.area(drawn.query, class_id),
                }
            )
    return rows


def table_of(rows: list[Row]) -> pa.Table:
    """All rows as a table in the order of the manifests, whatever the order of scoring."""
    order = sorted(rows, key=lambda row: (row["seed"], row["episode"], row["score"], row["way"]))
    return pa.Table.from_pylist(order, schema=SCHEMA)


def sums_of(rows: list[Row], score: Score, classes: tuple[int, ...]) -> dict[int, Scores]:
    """Episode seed -> sums over its episodes at one scored size; rows may come from a file."""
    seeds: dict[int, Scores] = {}
    for row in rows:
        if row["score"] != str(score):
            continue
        sums = seeds.setdefault(row["seed"], Scores(classes))
        sums.add_class(row["class_id"], np.array([row["intersection"], row["union"]]))
        if row["way"] == 1:
            ground = [
                [row["background_intersection"], row["background_union"]],
                [row["foreground_intersection"], row["foreground_union"]],
            ]
            sums.add_grounds(np.array(ground))
    return seeds

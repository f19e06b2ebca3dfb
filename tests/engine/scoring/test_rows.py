"""The table of counts: what a row contains, the order of rows, and sums over them."""

from typing import Any, cast

import torch

from fssplat.data.episodes.training import Episode
from fssplat.data.index import Dataset
from fssplat.engine.scoring.inputs import Inputs
from fssplat.engine.scoring.rows import Row, rows_of, sums_of, table_of
from fssplat.engine.scoring.scorer import ManifestEpisode, ScoredEpisode
from tests.fakes.memory_dataset import MemoryDataset

DATA = MemoryDataset()


def rows(seed: int, index: int, drawn: Episode, counts: list[list[int]]) -> list[Row]:
    episode = ManifestEpisode(seed, index, drawn)
    scored = ScoredEpisode(episode, {}, {"original": torch.tensor(counts)})
    return rows_of(scored, Inputs(cast(Dataset, DATA), "pad", 32), "id")


def test_a_row_has_the_episode_its_images_and_its_counts() -> None:
    (row,) = rows(3, 7, Episode(0, (2,), (1,)), [[1, 2], [3, 4], [3, 4]])
    assert (row["trial_id"], row["seed"], row["episode"], row["class"]) == ("id", 3, 7, "a")
    assert (row["query"], row["supports"]) == ("image00", ["image02"])
    assert (row["intersection"], row["union"]) == (3, 4)
    assert (row["background_intersection"], row["background_union"]) == (1, 2)
    assert row["object_pixels"] == DATA.area(0, 1)


def test_every_way_has_a_row_and_the_same_grounds() -> None:
    one, two = rows(0, 0, Episode(0, (2, 4), (1, 5)), [[1, 2], [3, 4], [5, 6], [7, 8]])
    assert [(row["way"], row["class_id"], row["union"]) for row in (one, two)] == [
        (1, 1, 4),
        (2, 5, 6),
    ]
    assert {row["foreground_union"] for row in (one, two)} == {8}


def test_sums_are_by_seed_and_count_the_grounds_of_an_episode_once() -> None:
    drawn, counts = Episode(0, (2, 4), (1, 5)), [[1, 2], [3, 4], [5, 6], [7, 8]]
    both = rows(3, 0, drawn, counts) + rows(3, 1, drawn, counts) + rows(4, 0, drawn, counts)
    sums = sums_of(both, "original", (1, 5))
    assert sums[3].iou() == {1: 0.75, 5: 5 / 6}
    assert sums[3].grounds.tolist() == [[2, 4], [14, 16]]
    assert sums[4].grounds.tolist() == [[1, 2], [7, 8]]
    assert sums_of(both, 473, (1, 5)) == {}


def test_the_table_is_in_the_order_of_the_manifests() -> None:
    drawn, counts = Episode(0, (2,), (1,)), [[0, 0]] * 3
    found: list[Any] = [row for at in ((1, 0), (0, 2), (0, 1)) for row in rows(*at, drawn, counts)]
    table = table_of(found).to_pylist()
    assert [(row["seed"], row["episode"]) for row in table] == [(0, 1), (0, 2), (1, 0)]

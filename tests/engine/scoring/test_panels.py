"""Pictures of episodes: which are drawn, their contours, their size."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fssplat.data.episodes.training import Episode
from fssplat.engine.scoring.panels import (
    CAPTION,
    COLOURS,
    HEIGHT,
    chosen,
    overlaid,
    save,
    side_by_side,
    way_ious,
)
from fssplat.engine.scoring.scorer import ManifestEpisode

Tile = tuple[str, np.ndarray, np.ndarray]


def test_panels_are_spread_over_the_first_manifest() -> None:
    drawn = Episode(0, (1,), (1,))
    episodes = [ManifestEpisode(seed, index, drawn) for seed in (7, 8) for index in range(9)]
    assert [(e.seed, e.index) for e in chosen(episodes, 3)] == [(7, 0), (7, 3), (7, 6)]
    assert len(chosen(episodes, 20)) == 9
    assert chosen(episodes, 0) == []


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), *COLOURS])
def test_a_contour_has_a_light_and_a_dark_line_on_any_colour(colour: tuple[int, int, int]) -> None:
    mask = np.zeros((9, 9), dtype=np.uint8)
    mask[2:7, 2:7] = 1
    row = overlaid(np.full((9, 9, 3), colour, dtype=np.uint8), mask)[4]
    assert row[1].tolist() == [0, 0, 0]
    assert row[2].tolist() == [255, 255, 255]
    assert row[0].tolist() == list(colour)
    tint = [round(0.65 * own + 0.35 * red) for own, red in zip(colour, COLOURS[0], strict=True)]
    assert np.abs(row[4].astype(int) - tint).max() <= 1


def test_ignored_pixels_are_grey() -> None:
    shown = overlaid(np.zeros((1, 3, 3), dtype=np.uint8), np.array([[0, 0, 255]]))
    assert shown[0].tolist() == [[0, 0, 0], [0, 0, 0], [90, 90, 90]]


def noise(width: int, height: int) -> Tile:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return ("noise", pixels, np.zeros((height, width), dtype=np.uint8))


def test_tiles_get_one_height_and_keep_their_shape() -> None:
    sheet = side_by_side([noise(20, 10), noise(10, 20)])
    highest = HEIGHT[1]
    assert sheet.size == (2 * highest + 4 + highest // 2, highest + CAPTION)


@pytest.mark.parametrize(
    ("count", "width", "height"), [(4, 500, 375), (8, 640, 480), (4, 75, 500), (13, 500, 375)]
)
def test_a_picture_is_wide_and_its_file_is_small(
    tmp_path: Path, count: int, width: int, height: int
) -> None:
    sheet = side_by_side([noise(width, height)] * count)
    if (width, height) != (75, 500):
        assert sheet.width >= 480
    save(sheet, tmp_path / "a.png")
    save(sheet, tmp_path / "b.png")
    assert (tmp_path / "a.png").stat().st_size < 300_000  # noise is the worst case
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as stored:
        assert stored.size == sheet.size


def test_the_iou_of_each_way_comes_from_its_counts() -> None:
    counts = torch.tensor([[90, 100], [3, 4], [0, 0], [3, 4]])
    first, second = way_ious(counts)
    assert first == 0.75
    assert math.isnan(second)

"""Pictures of episodes: which are drawn, and their colours."""

import numpy as np

from fssplat.data.episodes.training import Episode
from fssplat.engine.scoring.panels import CAPTION, COLOURS, HEIGHT, chosen, overlaid, side_by_side
from fssplat.engine.scoring.scorer import ManifestEpisode


def test_panels_are_spread_over_the_first_manifest() -> None:
    drawn = Episode(0, (1,), (1,))
    episodes = [ManifestEpisode(seed, index, drawn) for seed in (7, 8) for index in range(9)]
    assert [(e.seed, e.index) for e in chosen(episodes, 3)] == [(7, 0), (7, 3), (7, 6)]
    assert len(chosen(episodes, 20)) == 9
    assert chosen(episodes, 0) == []


def test_a_way_is_half_its_colour_and_ignored_pixels_are_white() -> None:
    image = np.full((1, 4, 3), 100, dtype=np.uint8)
    shown = overlaid(image, np.array([[0, 1, 2, 255]]))
    expected = [(100, 100, 100), *(tuple(50 + c // 2 for c in colour) for colour in COLOURS[:2])]
    assert [tuple(pixel) for pixel in shown[0, :3].tolist()] == expected
    assert shown[0, 3].tolist() == [255, 255, 255]


def test_tiles_get_one_height_and_keep_their_shape() -> None:
    wide, tall = (np.zeros((*size, 3), dtype=np.uint8) for size in ((10, 20), (20, 10)))
    sheet = side_by_side([("wide", wide), ("tall", tall)])
    assert sheet.size == (2 * HEIGHT + 4 + HEIGHT // 2 + 4, HEIGHT + CAPTION)

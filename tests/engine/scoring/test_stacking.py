"""Features of single images as batches."""

import pytest
import torch

from fssplat.common.errors import InputError
from fssplat.engine.scoring.encoder import MASK
from fssplat.engine.scoring.stacking import repeated, shot_first, stacked


def test_masks_of_two_sizes_are_filled_up_with_255() -> None:
    masks = [{MASK: torch.ones(1, 2, 3)}, {MASK: torch.zeros(1, 3, 2)}]
    first, second = stacked(masks)[MASK].tolist()
    assert first == [[1, 1, 1], [1, 1, 1], [255, 255, 255]]
    assert second == [[0, 0, 255], [0, 0, 255], [0, 0, 255]]


def test_features_of_two_sizes_are_an_input_error() -> None:
    maps = [{"map": torch.zeros(1, 2, side, side)} for side in (3, 4)]
    with pytest.raises(InputError, match=r"protocol\.input original: this method's map.*2 sizes"):
        stacked(maps)


def test_each_query_is_repeated_for_its_shots() -> None:
    assert repeated(torch.tensor([[1], [2]]), 3).flatten().tolist() == [1, 1, 1, 2, 2, 2]


def test_the_ways_of_one_shot_become_neighbours() -> None:
    way_then_shot = torch.tensor([11, 12, 21, 22])  # two ways of two shots, of one episode
    assert shot_first(way_then_shot, (1, 2, 2)).tolist() == [11, 21, 12, 22]

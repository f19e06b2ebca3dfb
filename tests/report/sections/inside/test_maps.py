"""A map that several methods have is shown below each other, unless it is the same in all."""

from typing import Any

import numpy as np
import torch

from fssplat.methods.base import LabelledImage
from fssplat.report.sections.inside.collect import Column, RowInside
from fssplat.report.sections.inside.maps import label_figure, shared_figures

IMAGE = np.zeros((6, 8, 3), dtype=np.uint8)
MASK = np.eye(6, 8, dtype=np.uint8)


def column(episode: int, **maps: Any) -> Column:
    shown = {name: np.full((2, 2), value, dtype=np.float32) for name, value in maps.items()}
    scales: Any = dict.fromkeys(maps, "unit")
    return Column(
        0, 0, episode, "cat", "q", "s", IMAGE, MASK, IMAGE, MASK, MASK, 0.5, shown, shown, scales,
        frozenset(),
    )  # fmt: skip


def test_equal_maps_are_not_compared_and_different_ones_are() -> None:
    first = RowInside("a", even=[column(0, prior=0.5, attention=0.1), column(3, prior=0.5)])
    second = RowInside("b", even=[column(0, prior=0.5, attention=0.2), column(3, prior=0.5)])
    predictions, compared = shared_figures([first, second], "data", "block")
    assert predictions.name == "predictions-block"
    assert [str(line.cells[0]) for line in predictions.data.lines] == ["1", "2", "1", "2"]
    assert compared.name == "compared-block-attention"
    assert list(compared.arrays) == [
        "a: fold 0 seed 0 episode 0 attention",
        "b: fold 0 seed 0 episode 0 attention",
    ]
    assert len(compared.draw().axes) == 2 + 1 + 1 + 2  # pictures, a map each, two colour bars


def test_a_single_method_is_compared_with_none() -> None:
    assert not list(shared_figures([RowInside("a", even=[column(0, prior=0.5)])], "data", "block"))


def test_labels_outside_of_base_classes_are_those_where_the_truth_is_background() -> None:

    labels = torch.tensor([[0, 2], [2, 1]], dtype=torch.uint8)
    truth = torch.tensor([[0, 9], [0, 255]])
    made = label_figure(
        "labels-x",
        "data",
        RowInside("mining", labelled=[LabelledImage(torch.zeros(3, 2, 2).byte(), labels, truth)]),
    )
    assert [tuple(map(str, line.cells[:2])) for line in made.data.lines] == [
        ("1", "0"), ("1", "1"), ("1", "2"),
    ]  # fmt: skip
    drawn = made.draw()
    shown = [axes.images[0].get_array() for axes in drawn.axes]
    assert np.array_equal(shown[1], labels.numpy())
    assert np.array_equal(shown[2], np.array([[0, 0], [2, 0]]))

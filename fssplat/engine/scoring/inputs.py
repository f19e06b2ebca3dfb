"""Images and masks as the network takes them in an evaluation, and labels at the scored sizes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fssplat.data.index import Dataset
from fssplat.data.transforms import Label, Mode, content_box, fit_image, fit_label
from fssplat.methods.base import resize

Score = Literal["original", "original-square"] | int  # a size to score at; an int is a side


@dataclass(frozen=True)
class Inputs:
    """Rows of a data set at the protocol's input size, and back at its scored sizes."""

    dataset: Dataset
    mode: Mode
    size: int  # side of the square input, pixels; `original` does not use it

    def image(self, row: int) -> Tensor:
        """uint8 [3, S, S] as the network takes it, before normalisation."""
        pixels = fit_image(self.dataset.image(row), self.size, self.mode)
        return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)

    def mask(self, row: int, class_id: int) -> Tensor:
        """int64 [S, S]: 1 the class, 0 other, 255 ignored or outside the image."""
        label = fit_label(self.dataset.mask(row, class_id), self.size, self.mode)
        return torch.from_numpy(label.astype(np.int64))

    def truth(self, row: int, classes: tuple[int, ...], score: Score) -> Tensor:
        """int64 label of the episode's classes at a scored size, without any padding."""
        return torch.from_numpy(self.label(row, classes, score).astype(np.int64))

    def label(self, row: int, classes: tuple[int, ...], score: Score) -> Label:
        """The same as uint8."""
        label = self.dataset.target(row, classes)
        if isinstance(score, str):
            return label
        mode: Mode = "pad" if self.mode == "original" else self.mode
        height, width = content_box(label.shape[0], label.shape[1], score, mode)
        return fit_label(label, score, mode)[:height, :width]

    def box(self, row: int) -> tuple[int, int]:
        """Height and width of the image's content within the square input, at its top left."""
        height, width = (int(side) for side in self.dataset.sizes[row])
        return content_box(height, width, self.size, self.mode)

    def network_size(self, row: int) -> tuple[int, int]:
        """Height and width of the network's input."""
        return self.box(row) if self.mode == "original" else (self.size, self.size)

    def scored(self, logits: Tensor, row: int, score: Score, shape: torch.Size) -> Tensor:
        """[k, p, S, S] at the network's size -> [k, p, *shape], the truth's shape at this score.

        The padding is cut off before the logits are enlarged; PFENet's code (`original-square`)
        enlarges the padded square to the image's longer side and cuts afterwards.
        """
        height, width = shape
        if score == "original-square":
            side = max(height, width)
            return resize(logits, (side, side))[..., :height, :width]
        content = self.box(row)
        return resize(logits[..., : content[0], : content[1]], (height, width))

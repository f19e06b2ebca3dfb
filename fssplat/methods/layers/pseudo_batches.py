"""Pseudo-labelled images for training, numbered: number i is the same crop whenever it is drawn.

A resumed or repeated step therefore sees what it would have seen, and images can be read ahead.
"""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fssplat.data.batch import IGNORE
from fssplat.methods.base import Images
from fssplat.methods.layers.photometric import Distortion, distort, draw_distortion, normalised
from fssplat.methods.layers.pseudo_labels import PseudoMasks

THREADS = 8  # at most; decoding releases the interpreter's lock


@dataclass(frozen=True)
class Sample:
    """One crop with its pseudo mask, and the distortion it is to get."""

    image: Tensor  # uint8 [3, S, S]
    label: Tensor  # uint8 [S, S], 255 beyond the image
    distortion: Distortion


class PseudoBatches:
    """Crops of a pool by number, read by a few threads one call ahead."""

    def __init__(self, pool: Images, masks: PseudoMasks, seed: int) -> None:
        assert len(pool) == len(masks)
        self.pool, self.masks, self.seed = pool, masks, seed
        self.readers = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))
        self.coming: dict[tuple[int, int], Future[Sample]] = {}

    def take(self, first: int, count: int, size: int) -> list[Sample]:
        """Samples `first` to `first + count` - 1; the next `count` are asked for as well."""
        wanted = [(number, size) for number in range(first, first + 2 * count)]
        running = {
            key: self.coming.get(key) or self.readers.submit(self.sample, *key) for key in wanted
        }
        self.coming = {key: running[key] for key in wanted[count:]}
        return [running[key].result() for key in wanted[:count]]

    def sample(self, number: int, size: int) -> Sample:
        """A uniformly drawn image: padded right and below, cropped, flipped half the time."""
        draw = np.random.default_rng([self.seed, number])
        index = int(draw.integers(len(self.pool)))
        image = self.pool.image(index)
        label = self.masks.mask(index, (image.shape[1], image.shape[2]))
        below, beside = (max(size - side, 0) for side in image.shape[1:])
        image = F.pad(image, (0, beside, 0, below))
        label = F.pad(label, (0, beside, 0, below), value=IGNORE)
        top, left = (int(draw.integers(side - size + 1)) for side in label.shape)
        image = image[:, top : top + size, left : left + size]
        label = label[top : top + size, left : left + size]
        if draw.random() < 0.5:
            image, label = image.flip(2), label.flip(1)
        return Sample(image, label, draw_distortion(draw))


def stacked(samples: list[Sample], strong: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Normalised float32 [i, 3, S, S] and int64 [i, S, S] on a device, distorted there."""
    images = []
    for sample in samples:
        image = sample.image.to(device, non_blocking=True).float() / 255
        images.append(distort(image, sample.distortion) if strong else image)
    labels = torch.stack([sample.label for sample in samples])
    return normalised(torch.stack(images)), labels.to(device, non_blocking=True).long()

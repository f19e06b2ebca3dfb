"""Numbered crops of pseudo-labelled images for training: a number always gives the same crop.

So a resumed or repeated step uses the same crops, and images can be read ahead.
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

THREADS = 8  # at most; decoding releases the lock of the interpreter


@dataclass(frozen=True)
class Sample:
    """One crop, its pseudo mask, and the distortion that `stacked` applies."""

    image: Tensor  # uint8 [3, S, S]
    label: Tensor  # uint8 [S, S], 255 outside the image
    distortion: Distortion


class PseudoBatches:
    """Crops of a pool by number; threads read the crops of the next call ahead."""

    def __init__(self, pool: Images, masks: PseudoMasks, seed: int) -> None:
        assert len(pool) == len(masks)
        self.pool, self.masks, self.seed = pool, masks, seed
        self.readers = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))
        self.reading_ahead: dict[tuple[int, int], Future[Sample]] = {}

    def take(self, first: int, count: int, size: int) -> list[Sample]:
        """Return samples `first` to `first + count - 1`, and start to read the next `count`."""
        keys = [(number, size) for number in range(first, first + 2 * count)]
        running = {
            key: self.reading_ahead.get(key) or self.readers.submit(self.sample, *key)
            for key in keys
        }
        self.reading_ahead = {key: running[key] for key in keys[count:]}
        return [running[key].result() for key in keys[:count]]

    def sample(self, number: int, size: int) -> Sample:
        """A random image, padded on the right and below, cropped, flipped with probability 0.5."""
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
    """Normalised images float32 [i, 3, S, S] and labels int64 [i, S, S] on the device.

    If `strong`, images are distorted there first.
    """
    images = []
    for sample in samples:
        image = sample.image.to(device, non_blocking=True).float() / 255
        images.append(distort(image, sample.distortion) if strong else image)
    labels = torch.stack([sample.label for sample in samples])
    return normalised(torch.stack(images)), labels.to(device, non_blocking=True).long()

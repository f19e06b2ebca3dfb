"""Training episodes as tensors.

Shapes use b episodes, n ways, k shots, H x W pixels.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from fssplat.data.masks.labels import IGNORE as IGNORE  # masks and targets use the label's value
from fssplat.data.transforms import normalise

IMAGES, LABELS = ("query", "supports"), ("target", "masks")


@dataclass(frozen=True)
class EpisodeBatch:
    """Training episodes of one size, images normalised by the ImageNet mean and deviation.

    In the loader's batches everything but `classes` is uint8; `to` gives the types below.
    """

    query: Tensor  # float32 [b, 3, H, W]
    target: Tensor  # int64 [b, H, W]: 0 background, 1..n way, 255 ignored
    supports: Tensor  # float32 [b, n, k, 3, H, W]
    masks: Tensor  # int64 [b, n, k, H, W]: 0 background, 1 object, 255 ignored

    def to(self, device: torch.device | str) -> Self:
        """The same episodes on a device; copies overlap with compute from pinned memory.

        Images and labels are copied as bytes and converted there.
        """
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        for name in IMAGES:
            if moved[name].dtype == torch.uint8:
                moved[name] = normalise(moved[name])
        moved.update({name: moved[name].long() for name in LABELS})
        return type(self)(**moved)

    def pin_memory(self) -> Self:
        """Copy into page-locked memory; called by the data loader."""
        return type(self)(**{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})

    def split(self, size: int | list[int]) -> list[Self]:
        """Parts of at most `size` episodes, or of the given sizes, in order."""
        parts = {f.name: getattr(self, f.name).split(size) for f in fields(self)}
        count = len(parts["query"])
        return [type(self)(**{name: part[i] for name, part in parts.items()}) for i in range(count)]

    def __len__(self) -> int:
        return len(self.query)

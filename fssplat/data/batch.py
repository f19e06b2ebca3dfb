"""What the network sees: episodes as tensors.

Shapes use b episodes, n ways, k shots, H x W pixels.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from fssplat.data.labels import IGNORE as IGNORE  # masks and targets use the label's value


@dataclass(frozen=True)
class EpisodeBatch:
    """Training episodes of one size, images normalised by the ImageNet mean and deviation."""

    query: Tensor  # float32 [b, 3, H, W]
    target: Tensor  # int64 [b, H, W]: 0 background, 1..n way, 255 ignored
    supports: Tensor  # float32 [b, n, k, 3, H, W]
    masks: Tensor  # int64 [b, n, k, H, W]: 0 background, 1 object, 255 ignored
    classes: Tensor  # int64 [b, n]: class ids of the data set, 1-based

    def to(self, device: torch.device | str) -> Self:
        """The same episodes on a device; copies overlap with compute from pinned memory."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return type(self)(**moved)

    def split(self, size: int) -> list[Self]:
        """Micro-batches of at most `size` episodes, in order."""
        parts = {f.name: getattr(self, f.name).split(size) for f in fields(self)}
        count = len(parts["query"])
        return [type(self)(**{name: part[i] for name, part in parts.items()}) for i in range(count)]

    def __len__(self) -> int:
        return len(self.query)

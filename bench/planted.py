"""A small method whose result depends on the weight of its one loss, for bench/search.py."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fssplat.backbones import Backbone, BackboneLayout
from fssplat.data.batch import IGNORE
from fssplat.methods.base import Encoded, FewShotSegmenter, MethodOptions, resize

OBJECT_WEIGHT = 3.0  # of object pixels in the loss, since there are fewer of them
START = -5.0  # of the offset: without training all pixels are background, and mIoU is 0


class Planted(FewShotSegmenter):
    """Compare each cell with the mean features of object and background; learn scale and offset.

    Training is SGD without momentum at a fixed rate, so the loss weight decides the step length. If
    it is too small, the offset hardly changes; if it is too large, the scale, which is an
    exponential, becomes 0 or infinite.
    """

    LOSS_WEIGHTS: ClassVar[Mapping[str, float]] = {"segmentation": 1.0}
    MOMENTUM: ClassVar[Mapping[str, float]] = {"sgd": 0.0}

    def __init__(self, backbone: Backbone, options: MethodOptions) -> None:
        super().__init__(backbone, options)
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
        self.offset = nn.Parameter(torch.tensor(START))

    @classmethod
    def backbone_layout(cls, backbone: str, options: MethodOptions) -> BackboneLayout:
        return BackboneLayout(stages=3)

    @classmethod
    def recipe(cls, dataset: str, backbone: str) -> Mapping[str, Any]:
        return {"steps": 64, "batch": 2, "size": 97, "lr": 0.05, "augment": {"resize": "squash"}}

    def encode(self, images: Tensor) -> Encoded:
        return {"map": self.backbone(images, upto=3).stages[-1]}

    def segment(
        self, query: Encoded, supports: Encoded, masks: Tensor, size: tuple[int, int]
    ) -> Tensor:
        shots = supports["map"].flatten(0, 2)
        inside = resize((masks == 1).float().flatten(0, 2).unsqueeze(1), tuple(shots.shape[-2:]))
        near = [self._cosine(query["map"], shots, part) for part in (inside, 1 - inside)]
        logit = self.log_scale.exp() * (near[0] - near[1]) + self.offset
        return resize(torch.stack([torch.zeros_like(logit), logit], dim=1), size)

    def _cosine(self, query: Tensor, shots: Tensor, part: Tensor) -> Tensor:
        """[b, c, h, w], [b k, c, h, w], [b k, 1, h, w] -> [b, h, w], to the mean over the part."""
        mean = (shots * part).sum(dim=(2, 3)) / part.sum(dim=(2, 3)).clamp(min=1e-3)
        centre = mean.unflatten(0, (len(query), -1)).mean(dim=1)[:, :, None, None]
        return F.cosine_similarity(query, centre.expand_as(query), dim=1)

    def losses(
        self, query: Encoded, supports: Encoded, masks: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        logits = self.segment(query, supports, masks, (target.shape[-2], target.shape[-1]))
        balance = logits.new_tensor([1.0, OBJECT_WEIGHT])
        return {"segmentation": F.cross_entropy(logits, target, balance, ignore_index=IGNORE)}

"""A small method with one loss whose weight decides everything: for bench/search.py."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fssplat.backbones import Backbone, BackboneLayout
from fssplat.data.batch import IGNORE
from fssplat.methods.base import Encoded, FewShotSegmenter, MethodOptions, resize

WIDTH = 32
OBJECT_WEIGHT = 3.0  # of an object's pixel, of which there are fewer


class Planted(FewShotSegmenter):
    """Query features, the object's mean feature and their cosine through two convolutions.

    Plain SGD without momentum at a fixed rate, so the weight of the loss is the step's length:
    too little learns nothing, too much destroys the head.
    """

    LOSS_WEIGHTS: ClassVar[Mapping[str, float]] = {"segmentation": 1.0}
    MOMENTUM: ClassVar[Mapping[str, float]] = {"sgd": 0.0}

    def __init__(self, backbone: Backbone, options: MethodOptions) -> None:
        super().__init__(backbone, options)
        self.reduce = nn.Conv2d(backbone.channels[2], WIDTH, 1)
        self.decide = nn.Sequential(
            nn.Conv2d(2 * WIDTH + 1, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, 2, 1)
        )

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
        features = F.relu(self.reduce(query["map"]))
        shots = supports["map"].flatten(0, 2)
        inside = resize((masks == 1).float().flatten(0, 2).unsqueeze(1), tuple(shots.shape[-2:]))
        of_shots = F.relu(self.reduce(shots))
        mean = (of_shots * inside).sum(dim=(2, 3)) / inside.sum(dim=(2, 3)).clamp(min=1e-3)
        mean = mean.unflatten(0, (masks.shape[0], -1)).mean(dim=1)[:, :, None, None]
        cosine = F.cosine_similarity(features, mean.expand_as(features), dim=1).unsqueeze(1)
        joined = torch.cat([features, mean.expand_as(features), cosine], dim=1)
        return resize(self.decide(joined), size)

    def losses(
        self, query: Encoded, supports: Encoded, masks: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        logits = self.segment(query, supports, masks, (target.shape[-2], target.shape[-1]))
        balance = logits.new_tensor([1.0, OBJECT_WEIGHT])
        return {"segmentation": F.cross_entropy(logits, target, balance, ignore_index=IGNORE)}

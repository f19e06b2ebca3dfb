"""A method outside the package: each query cell takes the label of the nearer of two means.

Shapes   i images, b episodes, n ways, k shots, c = 64 channels, h x w feature cells.
Masks    1 object, 0 background, 255 ignored.
Trained  One 1 x 1 convolution over the frozen backbone's third stage.

Run it   PYTHONPATH=docs/examples fssplat launch docs/examples/nearest_support.yaml
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from fssplat.backbones import Backbone, BackboneLayout
from fssplat.methods.base import Encoded, FewShotSegmenter, MethodOptions, resize

CHANNELS = 64


class NearestSupport(FewShotSegmenter):
    """Cosine to the mean object and mean background of the supports, in a learned space."""

    class Options(MethodOptions):
        scale: PositiveFloat = 10.0  # logits per unit of cosine

    RESULT_VERSION: ClassVar[int] = 1  # raise it when the numbers change

    options: Options

    def __init__(self, backbone: Backbone, options: MethodOptions) -> None:
        super().__init__(backbone, options)
        self.project = nn.Conv2d(backbone.channels[2], CHANNELS, 1)

    @classmethod
    def backbone_layout(cls, backbone: str, options: MethodOptions) -> BackboneLayout:
        return BackboneLayout(stages=3, output_stride=8)

    @classmethod
    def ways_of(cls, options: MethodOptions) -> None:
        """Any number of classes: each has a mean of its own."""

    @classmethod
    def recipe(cls, dataset: str, backbone: str) -> Mapping[str, Any]:
        """Fields of `training:`; an experiment may change each of them."""
        size = 129 if dataset == "synthetic" else 321
        return {"steps": 200, "batch": 4, "size": size, "optimizer": "adam", "lr": 1e-3}

    def encode(self, images: Tensor) -> Encoded:
        """[i, 3, H, W] -> [i, c, h, w]; depends on the image alone, so it is cached."""
        return {"features": self.project(self.backbone(images).stages[-1])}

    def segment(
        self, query: Encoded, supports: Encoded, masks: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """[b, c, h, w], [b, n, k, c, h, w], [b, n, k, H, W] -> logits [b, n + 1, *size]."""
        features = supports["features"]
        small = F.interpolate(masks.flatten(0, 2)[:, None].float(), features.shape[-2:])
        label = small.reshape(*masks.shape[:3], *features.shape[-2:])
        background = mean_where(features, label == 0).mean(dim=(1, 2)).unsqueeze(1)
        centres = torch.cat([background, mean_where(features, label == 1).mean(dim=2)], dim=1)
        cells = F.normalize(query["features"], dim=1)
        scores = torch.einsum("bchw,bpc->bphw", cells, F.normalize(centres, dim=2))
        return resize(self.options.scale * scores, size)

    def losses(
        self, query: Encoded, supports: Encoded, masks: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """One named loss; LOSS_WEIGHTS of the base class gives `segmentation` the weight 1."""
        logits = self.segment(query, supports, masks, (target.shape[-2], target.shape[-1]))
        valid = (target != 255).sum().clamp(min=1)
        total = F.cross_entropy(logits, target, ignore_index=255, reduction="sum")
        return {"segmentation": total / valid}


def mean_where(features: Tensor, chosen: Tensor) -> Tensor:
    """Mean over the chosen cells [b, n, k, c]; zero if no cell is chosen."""
    total = torch.einsum("bnkchw,bnkhw->bnkc", features, chosen.to(features.dtype))
    return total / chosen.sum(dim=(-2, -1)).clamp(min=1).unsqueeze(-1)

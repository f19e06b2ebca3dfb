"""PANet: label each query pixel with its nearest class prototype.

Source   Wang et al., ICCV 2019, arXiv 1908.06391; "Eq. 3" below is equation 3 there.
Shapes   b episodes, n ways, k shots, c channels, h x w feature cells, H x W pixels,
         p = n + 1 prototypes, background first.
Masks    1 object, 0 background, 255 ignored.
Trained  The whole backbone; the method adds no parameters. BatchNorm keeps its ImageNet statistics
         and weights, since a step has only one episode.
Differs  For n > 1 the objects of other ways count as background in Eq. 2, since a support mask
         marks one class only. Alignment (Eq. 7) likewise separates a class from background.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import PositiveFloat
from torch import Tensor

from fssplat.backbones import BackboneLayout
from fssplat.data.batch import IGNORE
from fssplat.methods.base import Encoded, FewShotSegmenter, MethodOptions, resize
from fssplat.methods.layers.matching import segmentation_loss
from fssplat.methods.layers.prototypes import cosine_scores, mean_under_mask


class PANet(FewShotSegmenter):
    """Prototypes by masked average pooling, cosine scores, prototype alignment."""

    class Options(MethodOptions):
        """Alignment has no option: it is switched off by `loss_weights.alignment: 0`."""

        scale: PositiveFloat = 20.0  # alpha in Eq. 3

    LOSS_WEIGHTS: ClassVar[Mapping[str, float]] = {"segmentation": 1.0, "alignment": 1.0}
    MOMENTUM: ClassVar[Mapping[str, float]] = {"sgd": 0.9}
    SUPPORT_MAPS: ClassVar[bool] = False
    # 2: VGG-16 at stride 8; 3: its pools are 3 x 3, no alignment to a class that is not predicted
    RESULT_VERSION: ClassVar[int] = 3

    options: Options

    @classmethod
    def backbone_layout(cls, backbone: str, options: MethodOptions) -> BackboneLayout:
        """Stride 8, and no last ReLU, so that a cosine can be negative."""
        return BackboneLayout(output_stride=8, dilate_vgg=True, last_relu=False, frozen=False)

    @classmethod
    def ways_of(cls, options: MethodOptions) -> None:
        """Any number of classes: each has a prototype."""

    @classmethod
    def recipe(cls, dataset: str, backbone: str) -> Mapping[str, Any]:
        """Section 4.1: 30,000 steps of one episode; the rate is divided by 10 every 10,000.

        Length and schedule on the synthetic data set were chosen for this repository.
        """
        length = {"steps": 30_000, "batch": 1, "size": 417, "lr": 1e-3}
        if dataset == "synthetic":
            length = {"steps": 150, "batch": 4, "size": 129, "lr": 2e-3}
        return {
            **length,
            "optimizer": "sgd",
            "weight_decay": 5e-4,
            "schedule": "poly" if dataset == "synthetic" else "step",
            "milestones": () if dataset == "synthetic" else (1 / 3, 2 / 3),
            "gamma": 0.1,
            "augment": {"resize": "squash", "flip": True},
        }

    def encode(self, images: Tensor) -> Encoded:
        """[i, 3, H, W] -> the last stage's features [i, c, h, w]."""
        return {"features": self.backbone(images).stages[-1]}

    def encode_support(self, encoded: Encoded, images: Tensor, masks: Tensor) -> Encoded:
        """Eqs. 1 and 2 for one shot: mean features [i, c] of object and of background.

        In training also the features [i, c, h, w], which Eq. 7 segments.
        """
        features = encoded["features"]
        foreground = mean_under_mask(features, masks == 1)
        background = mean_under_mask(features, masks == 0)
        prototypes = {"foreground": foreground, "background": background}
        return {**prototypes, "features": features} if self.training else prototypes

    def segment(
        self, query: Encoded, supports: Encoded, masks: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """[b, c, h, w] and prototypes [b, n, k, c] -> logits [b, p, *size], Eq. 3.

        The distance there is 1 - cosine; softmax cancels the 1, so logits are similarities. Shots
        are averaged after pixels, so a small object counts as much as a large one.
        """
        background = supports["background"].mean(dim=(1, 2)).unsqueeze(1)
        prototypes = torch.cat([background, supports["foreground"].mean(dim=2)], dim=1)
        return resize(self.options.scale * cosine_scores(query["features"], prototypes), size)

    def prototypes(self, supports: Encoded, masks: Tensor) -> tuple[str, Tensor]:
        """The object's prototypes, before shots are averaged."""
        return "last stage of the trained backbone", supports["foreground"]

    def losses(
        self, query: Encoded, supports: Encoded, masks: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """Eq. 5, and Eq. 7 with query and supports swapped."""
        logits = self.segment(query, supports, masks, (target.shape[-2], target.shape[-1]))
        predicted = logits.argmax(dim=1)
        swapped = self.swapped(query, supports, predicted, masks)
        # As in the public code: a way without pixels in the prediction has no prototype to align
        ways = torch.arange(1, masks.shape[1] + 1, device=masks.device)[:, None, None]
        shown = (predicted[:, None] == ways).flatten(2).any(dim=2)  # [b, n]
        aligned = masks.masked_fill(~shown[:, :, None, None, None], IGNORE)
        return {
            "segmentation": segmentation_loss(logits, target),
            "alignment": segmentation_loss(swapped, aligned.flatten(0, 2)),
        }

    def swapped(
        self, query: Encoded, supports: Encoded, predicted: Tensor, masks: Tensor
    ) -> Tensor:
        """Section 3.4: prototypes from the query's predicted labels [b, H, W] segment each support.

        Returns logits [b * n * k, 2, H, W]: background, and the support's own class.
        """
        n, k = masks.shape[1:3]
        found = torch.stack([predicted == way for way in range(n + 1)], dim=1)
        features = query["features"].unsqueeze(1)
        prototypes = mean_under_mask(features, found)  # [b, p, c]
        pairs = torch.stack([prototypes[:, :1].expand(-1, n, -1), prototypes[:, 1:]], dim=2)
        per_support = pairs.unsqueeze(2).expand(-1, -1, k, -1, -1).flatten(0, 2)  # [b*n*k, 2, c]
        scores = cosine_scores(supports["features"].flatten(0, 2), per_support)
        return resize(self.options.scale * scores, (masks.shape[-2], masks.shape[-1]))

"""The prior mask of PFENet as a method: ImageNet features and a threshold, without training.

Source   Tian et al., TPAMI 2020, arXiv 2008.01449: the prior of PFENet, here with a threshold.
         It is the baseline of every table, since it needs no training.
Shapes   i images, b episodes, k shots, h x w feature cells, H x W pixels.
Masks    1 object, 0 background, 255 ignored (background in a support).
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fssplat.backbones import BackboneLayout
from fssplat.common.errors import InputError
from fssplat.methods.base import Encoded, FewShotSegmenter, MethodOptions, View, resize
from fssplat.methods.layers.matching import (
    grid_mask,
    masked_stage,
    mean_best_match,
    object_means,
    segmentation_loss,
)


class Prior(FewShotSegmenter):
    class Options(MethodOptions):
        # A pixel is object if its prior is above the threshold. 0.5, since foreground IoU is flat
        # between 0.3 and 0.6: 0.14 on 160 pairs of coco_mini with efficientnet_lite0.
        threshold: float = Field(default=0.5, ge=0, le=1)

    options: Options
    TRAINED: ClassVar[bool] = False

    @classmethod
    def backbone_layout(cls, backbone: str, options: MethodOptions) -> BackboneLayout:
        return BackboneLayout(output_stride=8)

    @classmethod
    def recipe(cls, dataset: str, backbone: str) -> Mapping[str, Any]:
        """No training; `size` is that of PFENet, for the test images."""
        sizes = {"coco-20i": 641, "fss-1000": 225, "synthetic": 129}
        return {"steps": 0, "size": sizes.get(dataset, 473)}

    def encode(self, images: Tensor) -> Encoded:
        """`third` [i, c3, h, w]: stage 4 is computed differently for queries and supports."""
        return {"third": self.backbone(images, upto=3).stages[2]}

    def encode_query(self, encoded: Encoded) -> Encoded:
        """`high` [i, c4, h, w]."""
        return {"high": masked_stage(self.backbone, encoded["third"], None)}

    def encode_support(self, encoded: Encoded, images: Tensor, masks: Tensor) -> Encoded:
        """`high` [i, c4, h, w]: stage 4 of the masked stage 3, masked again."""
        third = encoded["third"]
        mask = grid_mask(masks, (third.shape[-2], third.shape[-1]))
        return {"high": masked_stage(self.backbone, third, mask)}

    def segment(
        self, query: Encoded, supports: Encoded, masks: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Threshold and prior (mean over shots) as two logits: [b, 2, *size]."""
        if masks.shape[1] != 1:
            raise InputError(f"prior segments one class, not {masks.shape[1]}. Set way: 1.")
        prior = mean_best_match(query["high"], supports["high"][:, 0])
        background = torch.full_like(prior, self.options.threshold)
        return resize(torch.stack([background, prior], dim=1), size)

    def losses(
        self, query: Encoded, supports: Encoded, masks: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """Reported, never minimised."""
        size = (target.shape[-2], target.shape[-1])
        logits = self.segment(query, supports, masks, size)
        return {"segmentation": segmentation_loss(logits, target)}

    def views(self, query: Tensor, supports: Tensor, masks: Tensor) -> dict[str, View]:
        """The prior, before the threshold."""
        of_query, of_supports = self.encode_episodes(query, supports, masks)
        return {"prior": View(mean_best_match(of_query["high"], of_supports["high"][:, 0]))}

    def prototypes(self, supports: Encoded, masks: Tensor) -> tuple[str, Tensor]:
        """Mean of stage 4 under the mask."""
        return "stage 4 of the backbone", object_means(supports["high"], masks)

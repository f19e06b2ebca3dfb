"""HSNet: 4D convolutions over the correlations of every block's features.

Source   Min et al., "Hypercorrelation Squeeze for Few-Shot Segmentation", ICCV 2021,
         arXiv 2104.01538, and its public code where the paper is silent.
Shapes   i images, b episodes, c channels of a block, m blocks of a level, h x w cells of a level's
         grid, q = h w query cells, s support cells of a level, H x W pixels.
Masks    1 object, 0 background, 255 ignored; 255 counts as background in supports and in the loss.
Levels   Stages 2, 3 and 4. ResNet: block sums before their ReLU; VGG: convolutions before their
         ReLU; any other backbone: the output of each block.
Differs  Query grids need not be square. If two levels have support grids of unequal size, the
         deeper one is resized; the public code fails, or broadcasts a single cell, which gives the
         same result. For scores at the original size, logits are first resized to the test input;
         the public code resizes in one step (0.05 % of the pixels differ).
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fssplat.backbones import Backbone, BackboneLayout
from fssplat.common.errors import InputError
from fssplat.data.batch import IGNORE
from fssplat.methods.base import Encoded, FewShotSegmenter, MethodOptions, View, resize
from fssplat.methods.layers.hypercorrelation import Squeeze, cells_inside, correlations, spread
from fssplat.methods.layers.matching import grid_mask, object_means, segmentation_loss

EPS = 1e-5  # added to a feature's norm
LEVELS = (4, 3, 2)  # stages, deepest first


class HSNet(FewShotSegmenter):
    Options: ClassVar[type[MethodOptions]] = MethodOptions
    MOMENTUM: ClassVar[Mapping[str, float]] = {}
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"public-code": {}}
    RESULT_VERSION: ClassVar[int] = 2  # 2: sums of the head in another order, so other last digits
    SHOT_FUSION = "vote"
    LOSS_IGNORES_255 = False

    def __init__(self, backbone: Backbone, options: MethodOptions) -> None:
        super().__init__(backbone, options)
        self.blocks = {level: backbone.block_channels[level - 1] for level in LEVELS}
        self.squeeze = Squeeze(tuple(len(self.blocks[level]) for level in LEVELS))

    @classmethod
    def backbone_layout(cls, backbone: str, options: MethodOptions) -> BackboneLayout:
        return BackboneLayout(blocks=True, ceil_pools=False)

    @classmethod
    def recipe(cls, dataset: str, backbone: str) -> Mapping[str, Any]:
        """Adam at a constant learning rate on resized images without augmentation.

        The public code allows 2000 epochs and is stopped by hand; neither it nor the paper says
        when. The lengths here were chosen for this repository.
        """
        common = {"optimizer": "adam", "lr": 1e-3, "augment": {"resize": "squash"}}
        pascal = {"epochs": 100, "batch": 20, "size": 400}
        lengths: dict[str, dict[str, Any]] = {
            "coco-20i": {"epochs": 30, "batch": 40, "size": 400},
            "fss-1000": {"epochs": 100, "batch": 20, "size": 400},
            "synthetic": {"steps": 400, "batch": 4, "size": 128},
        }
        return {**common, **lengths.get(dataset, pascal)}

    def encode(self, images: Tensor) -> Encoded:
        """`level<n>` [i, sum of c, h, w]: the features of each block at unit norm, concatenated.

        `norm<n>` [i, m, h, w]: their norms, which `encode_support` needs.
        """
        found: Encoded = {}
        blocks = self.backbone(images).blocks
        for level in LEVELS:
            norms = torch.stack([maps.norm(dim=1) for maps in blocks[level - 1]], dim=1)
            scale = 1 / (norms + EPS)
            unit = [maps * scale[:, m, None].to(maps) for m, maps in enumerate(blocks[level - 1])]
            found |= {f"level{level}": torch.cat(unit, dim=1), f"norm{level}": norms}
        return found

    def encode_query(self, encoded: Encoded) -> Encoded:
        """`level<n>` of `encode`."""
        return {f"level{level}": encoded[f"level{level}"] for level in LEVELS}

    def encode_support(self, encoded: Encoded, images: Tensor, masks: Tensor) -> Encoded:
        """`level<n>` [i, sum of c, h, w]: features times the mask, then divided by their norm.

        With u = x / (|x| + eps) from `encode` and mask m, x m / (|x| m + eps) is
        u (|x| + eps) m / (|x| m + eps).
        """
        found: Encoded = {}
        for level in LEVELS:
            unit, norms = encoded[f"level{level}"], encoded[f"norm{level}"]
            mask = grid_mask(masks, (unit.shape[-2], unit.shape[-1])).unsqueeze(1)
            scale = mask * (norms + EPS) / (norms * mask + EPS)
            found[f"level{level}"] = unit * spread(scale.to(unit), self.blocks[level])
        return found

    def segment(
        self, query: Encoded, supports: Encoded, masks: Tensor, size: tuple[int, int]
    ) -> Tensor:
        return resize(self._logits(query, supports), size)

    def losses(
        self, query: Encoded, supports: Encoded, masks: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """Cross-entropy; ignored pixels are background, as in the public code's data sets."""
        logits = self._logits(query, supports)
        return {"segmentation": segmentation_loss(logits, target.masked_fill(target == IGNORE, 0))}

    def views(self, query: Tensor, supports: Tensor, masks: Tensor) -> dict[str, View]:
        """Of each level the best correlation of a query cell with the object, mean over blocks."""
        found = {}
        pair = self.encode_episodes(query, supports[:, :, :1], masks[:, :, :1])
        for level in LEVELS:
            best = self._correlation(*pair, level).mean(dim=1).amax(dim=(3, 4))
            found[f"correlation, stage {level}"] = View(best.clamp(0, 1))
        return found

    def prototypes(self, supports: Encoded, masks: Tensor) -> tuple[str, Tensor]:
        """Mean of the last block of stage 3 under the mask; stage 4 would miss small objects."""
        last = supports["level3"][:, :, :, -self.blocks[3][-1] :]
        return "last block of stage 3, at unit norm", object_means(last, masks)

    def _logits(self, query: Encoded, supports: Encoded) -> Tensor:
        """[b, 2, 2h, 2w] on twice the grid of stage 2."""
        n, k = supports["level2"].shape[1:3]
        if n * k != 1:
            raise InputError(
                f"{type(self).__name__.lower()} sees one support at a time, not {n} ways of {k} "
                "shots. Set way: 1; shots are fused by vote."
            )
        inside = {level: cells_inside(supports[f"level{level}"][:, 0, 0]) for level in LEVELS}
        found = [self._correlation(query, supports, level, inside[level]) for level in LEVELS]
        logits: Tensor = self.squeeze(found, list(inside.values()))
        return logits

    def _correlation(
        self, query: Encoded, supports: Encoded, level: int, inside: Tensor | None = None
    ) -> Tensor:
        """Correlations of one level, [b, m, h, w, h', w']; `inside` as in `correlations`."""
        name = f"level{level}"
        return correlations(query[name], supports[name][:, 0, 0], self.blocks[level], inside)

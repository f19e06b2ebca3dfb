"""PFENet: a training-free prior mask, and features enriched at several scales.

Source   Tian et al., "Prior Guided Feature Enrichment Network for Few-shot Segmentation",
         TPAMI 2020, arXiv 2008.01449, and its public code where the paper is silent.
Shapes   i images, b episodes, k shots, c3 and c2 channels of stages 3 and 2, d = 256 reduced
         channels, c4 channels of stage 4, h x w feature cells, H x W pixels.
Masks    1 object, 0 background, 255 ignored (background in a support).
Differs  The learning rates of `recipe` are the effective ones: the public schedule multiplies every
         configured rate (0.0025 on PASCAL) by 10. On COCO the public files use 641 pixels, the
         paper says 473. The public code keeps BatchNorm of the fixed backbone in training mode, so
         its statistics change; here they are fixed unless `batch_norm: batch` (preset public-code).
         Feature maps need not be square, and the input side minus 1 need not be a multiple of 8.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from fssplat.backbones import Backbone, BackboneLayout
from fssplat.common.errors import InputError
from fssplat.methods.base import (
    Artefacts,
    BaseImages,
    Encoded,
    FewShotSegmenter,
    MethodOptions,
    View,
    resize,
)
from fssplat.methods.layers.base_prototypes import ObjectMap
from fssplat.methods.layers.matching import (
    grid_mask,
    masked_mean,
    masked_stage,
    mean_best_match,
    middle_features,
    segmentation_loss,
)
from fssplat.methods.layers.multiscale import MultiScaleDecoder, level_sizes, reduction

CHANNELS = 256  # d
RATIOS = (1.0, 0.5, 0.25, 0.125)  # bins as shares of the feature grid


class PFENet(FewShotSegmenter):
    class Options(MethodOptions):
        # Side of each pyramid level; a value up to 1 is a share of the feature grid.
        bins: tuple[PositiveFloat, ...] = Field(default=(60, 30, 15, 8), min_length=1)
        prior: bool = True  # the prior mask as an input channel
        batch_norm: Literal["fixed", "batch"] = "fixed"  # statistics of the backbone in training
        ckmm: bool = False  # JC2A's class-agnostic map as one more channel

    options: Options
    LOSS_WEIGHTS: ClassVar[Mapping[str, float]] = {"segmentation": 1.0, "auxiliary": 1.0}
    RESULT_VERSION = 2  # 2: base prototypes (ckmm) are computed with fixed BatchNorm statistics
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "public-code": {"options": {"batch_norm": "batch"}}
    }

    def __init__(self, backbone: Backbone, options: Options) -> None:
        super().__init__(backbone, options)
        middle = backbone.channels[2] + backbone.channels[1]
        self.reduce_query = reduction(middle, CHANNELS)
        self.reduce_support = reduction(middle, CHANNELS)
        self.objects = ObjectMap(middle) if options.ckmm else None
        channels = 2 * CHANNELS + int(options.prior) + int(options.ckmm)
        self.decoder = MultiScaleDecoder(channels, len(options.bins))

    @classmethod
    def options_for(cls, dataset: str) -> Mapping[str, Any]:
        """Bins are shares of the grid if its side is not 60: on COCO and on small images."""
        return {} if dataset == "pascal-5i" else {"bins": RATIOS}

    @classmethod
    def backbone_layout(cls, backbone: str, options: MethodOptions) -> BackboneLayout:
        assert isinstance(options, cls.Options)
        return BackboneLayout(
            stages=4 if options.prior else 3,
            output_stride=8,
            batch_statistics=options.batch_norm == "batch",
        )

    @classmethod
    def recipe(cls, dataset: str, backbone: str) -> Mapping[str, Any]:
        """As in the public files for PASCAL and COCO; shorter on the other data sets."""
        common = {"weight_decay": 1e-4, "schedule": "poly", "power": 0.9}
        shown = {"rotate": 10.0, "blur": True, "flip": True, "keep_object": 0.85}
        pascal = {"epochs": 200, "batch": 4, "size": 473, "lr": 0.025}
        lengths: dict[str, dict[str, Any]] = {
            "coco-20i": {"epochs": 50, "batch": 8, "size": 641, "lr": 0.05},
            "fss-1000": {"epochs": 20, "batch": 8, "size": 225, "lr": 0.025},
            "synthetic": {"steps": 600, "batch": 4, "size": 129, "lr": 0.025},
        }
        scale = (0.8, 1.25) if dataset == "coco-20i" else (0.9, 1.1)
        return {**common, **lengths.get(dataset, pascal), "augment": {"scale": scale, **shown}}

    def prepare(self, source: BaseImages, artefacts: Artefacts) -> None:
        """Compute the base prototypes of the class-agnostic map if `ckmm` is on."""
        if self.objects is not None:
            self.objects.prepare(self.backbone, source, artefacts)

    # -------------------------------------------------------------- the network

    def encode(self, images: Tensor) -> Encoded:
        """`middle` [i, c3 + c2, h, w] of stages 3 and 2; everything else is computed from it."""
        return {"middle": middle_features(self.backbone(images, upto=3))}

    def encode_query(self, encoded: Encoded) -> Encoded:
        """`query` [i, d, h, w], `high` [i, c4, h, w] of stage 4, `objects` [i, h, w]."""
        middle = encoded["middle"]
        found = {"query": self.reduce_query(middle)}
        if self.options.prior:
            found["high"] = masked_stage(self.backbone, self._third(middle), None)
        if self.objects is not None:
            found["objects"] = self.objects(middle)
        return found

    def encode_support(self, encoded: Encoded, images: Tensor, masks: Tensor) -> Encoded:
        """`prototype` [i, d]; `high` [i, c4, h, w]: stage 4 of the masked stage 3, masked again."""
        middle = encoded["middle"]
        mask = grid_mask(masks, (middle.shape[-2], middle.shape[-1]))
        found = {"prototype": masked_mean(self.reduce_support(middle), mask)}
        if self.options.prior:
            found["high"] = masked_stage(self.backbone, self._third(middle), mask)
        return found

    def _third(self, middle: Tensor) -> Tensor:
        return middle[:, : self.backbone.channels[2]]

    def segment(
        self, query: Encoded, supports: Encoded, masks: Tensor, size: tuple[int, int]
    ) -> Tensor:
        logits, _ = self._decode(query, supports)
        return resize(logits, size)

    def losses(
        self, query: Encoded, supports: Encoded, masks: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """Cross-entropy of the output, and its mean over the pyramid levels."""
        logits, levels = self._decode(query, supports)
        auxiliary = torch.stack([segmentation_loss(level, target) for level in levels]).mean()
        return {"segmentation": segmentation_loss(logits, target), "auxiliary": auxiliary}

    def views(self, query: Tensor, supports: Tensor, masks: Tensor) -> dict[str, View]:
        """The additional input channels of the decoder: prior and class-agnostic map."""
        of_query, of_supports = self.encode_episodes(query, supports, masks)
        found = {}
        if self.options.prior:
            prior = mean_best_match(of_query["high"], of_supports["high"][:, 0])
            found["prior"] = View(prior)
        if "objects" in of_query:
            found["class-agnostic map"] = View(of_query["objects"])
        return found

    def prototypes(self, supports: Encoded, masks: Tensor) -> tuple[str, Tensor]:
        """The prototypes of the decoder."""
        return "stages 2 and 3, reduced to 256 channels", supports["prototype"]

    def _decode(self, query: Encoded, supports: Encoded) -> tuple[Tensor, list[Tensor]]:
        """Logits [b, 2, h, w] on the feature grid, and those of every pyramid level.

        The prototypes of all shots are averaged, and so are their priors.
        """
        if supports["prototype"].shape[1] != 1:
            ways = supports["prototype"].shape[1]
            raise InputError(f"pfenet segments one class per episode, not {ways}. Set way: 1.")
        feature, prototype = query["query"], supports["prototype"][:, 0].mean(dim=1)
        maps = []
        if self.options.prior:
            maps.append(mean_best_match(query["high"], supports["high"][:, 0]))
        if "objects" in query:
            maps.append(query["objects"])
        grid = (feature.shape[-2], feature.shape[-1])
        inputs = []
        for height, width in level_sizes(self.options.bins, grid):
            pooled = F.adaptive_avg_pool2d(feature, (height, width))
            repeated = prototype[:, :, None, None].expand(-1, -1, height, width)
            resized = [resize(item.unsqueeze(1), (height, width)) for item in maps]
            inputs.append(torch.cat([pooled, repeated, *resized], dim=1))
        logits, levels = self.decoder(inputs, grid)
        return logits, levels

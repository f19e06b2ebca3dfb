"""MM-Net: a memory of meta-classes, learned on base classes and used for novel classes.

Source   Wu et al., "Learning Meta-class Memory for Few-Shot Semantic Segmentation", ICCV 2021;
         "Eq. 1" below is equation 1 there. The decoder (FEM) is that of PFENet.
Shapes   b episodes, k shots, m meta-classes, d = 256 channels of a memory, h x w feature cells;
         c2, c3, c4 channels of stages 2, 3, 4.
Masks    1 object, 0 background, 255 ignored (background in a support).
Differs  The defaults follow the paper. Each difference of the authors' code is an option; preset
         `public-code` sets all of them:
         kernel           of the convolution to F: 3 x 3 in section 3.1; the code has 1 x 1.
         compare          Eq. 2 compares activations; the code the products before the sigmoid.
         rebuild          Eq. 10 has a softmax of activations; the code of the products.
         shot_mask        each shot has its own mask; in the code Eqs. 3 and 9 of every shot use the
                          mask of the last one, so the order of the supports matters.
         confidence_mask  Eq. 6 multiplies stage 4 by the mask; the code also the input of stage 4.
         batch_norm       fixed; in the code the statistics of the backbone change in training.
         The rate in effect is 10 times that of the code's files: 0.025 on PASCAL, 0.2 in batches
         of 32 at 641 pixels on COCO (all in the preset); the paper says 0.0025, batches of 4, and
         473 pixels. As released, the 1-shot training of the code ends in an error, and so does any
         size whose grid is not 60 x 60; here both train as the code's 5 shots do. Two linear layers
         of the code are never used; they are left out here. Its VGG-16 has BatchNorm.
Chosen   Where the paper is silent, the default is what the authors' code does:
         The convolution to F has no bias, a ReLU and dropout; query and supports have their own.
         The memory starts with deviation 1.
         Eq. 3: the similarity of a cell at the edge of the mask is scaled by the (bilinear) mask.
         If a support is empty, every cell of it has the same weight.
         Eq. 12: each original cell is compared with all rebuilt cells. Every cell counts, object or
         not, of the first support only.
         The activations are resized for each level of the decoder, not averaged as in PFENet.
         K shots: confidence maps are averaged. Schedule, augmentation and training length are those
         of PFENet.
         Of the check marks of Table 6 one can be read: the third row has the support. The text says
         that supports alone are best, so the fourth row is read as supports alone (the default, as
         in the code), and the third as both.
         "FCM + Feat" of Table 4 compares the features F, without the memory.
         The COCO folds are printed as 4x - 3 + i with i from 1; i from 0 is meant.
         Effects of these choices: docs/choices.md.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from fssplat.backbones import Backbone, BackboneLayout, Features
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
    object_means,
    segmentation_loss,
)
from fssplat.methods.layers.meta_classes import (
    CHANNELS,
    Memory,
    Values,
    fuse_by_quality,
    matched,
    quality,
    similarities,
)
from fssplat.methods.layers.multiscale import MultiScaleDecoder, level_sizes

VIEWED = 5  # meta-classes of each memory whose activations are shown, as in Fig. 5


class MMNet(FewShotSegmenter):
    class Options(MethodOptions):
        nodes: Literal["memory", "features", "none"] = "memory"  # what is compared (Table 4)
        confidence: bool = True  # foreground confidence (FCM), Eqs. 6 to 8
        embeddings: PositiveInt = 50  # N, meta-classes per memory (Table 3)
        levels: Literal["2+3", "2,3", "3"] = "2+3"  # fused, a memory each, or stage 3 (Table 5)
        propagation: Literal["apm", "global"] = "apm"  # Eqs. 2 to 5, or one mean vector (Table 5)
        reconstruct: Literal["support", "query", "both", "none"] = "support"  # Eq. 12 (Table 6)
        quality: bool = True  # weigh shots by quality (QMM), Eq. 9, or average them (Table 7)
        quality_over: Literal["sum", "mean"] = "sum"  # of the object's cells in Eq. 9
        kernel: Literal[3, 1] = 3  # side of the convolution to F (section 3.1)
        compare: Values = "activations"  # in Eq. 2: after the sigmoid of Eq. 1 or before it
        rebuild: Values = "activations"  # in Eq. 10
        shot_mask: Literal["own", "last"] = "own"  # mask of each shot in Eqs. 3 and 9
        confidence_mask: Literal["stage-4", "stages-3-4"] = "stage-4"  # what is masked for Eq. 6
        batch_norm: Literal["fixed", "batch"] = "fixed"  # statistics of the backbone in training
        bins: tuple[PositiveFloat, ...] = (60, 30, 15, 8)  # side of each level; <= 1: of the grid
        ckmm: bool = False  # JC2A's class-agnostic map as one more channel

        @model_validator(mode="after")
        def _require_decoder_input(self) -> Self:
            if self.nodes == "none" and not (self.confidence or self.ckmm):
                raise ValueError(
                    "nodes: none needs confidence: true, else the decoder has no input"
                )
            return self

    options: Options
    LOSS_WEIGHTS: ClassVar[Mapping[str, float]] = {
        "segmentation": 1.0,  # beta in Eq. 13
        "auxiliary": 1.0,  # alpha
        "reconstruction": 0.1,  # gamma
    }
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "public-code": {
            "options": {
                "kernel": 1,
                "compare": "products",
                "rebuild": "products",
                "shot_mask": "last",
                "confidence_mask": "stages-3-4",
                "batch_norm": "batch",
            },
            "training": {"lr": 0.025},
            "training_on": {
                "pascal-5i": {"size": 473},
                "coco-20i": {"lr": 0.2, "batch": 32, "size": 641},
            },
        },
    }
    RESULT_VERSION = 2  # 2: what the paper does not say follows the authors' code
    SHOTS_SHARE_TRAINING = False

    def __init__(self, backbone: Backbone, options: Options) -> None:
        super().__init__(backbone, options)
        second, third = backbone.channels[1], backbone.channels[2]
        widths = {"2+3": (second + third,), "2,3": (second, third), "3": (third,)}[options.levels]
        self.memories = nn.ModuleList()
        if options.nodes != "none":
            size = options.embeddings if options.nodes == "memory" else 0
            self.memories.extend(Memory(width, size, options.kernel) for width in widths)
        self.objects = ObjectMap(second + third) if options.ckmm else None
        width = options.embeddings if options.nodes == "memory" else CHANNELS
        channels = width * len(self.memories) + int(options.confidence) + int(options.ckmm)
        self.decoder = MultiScaleDecoder(channels, len(options.bins))

    @classmethod
    def options_for(cls, dataset: str) -> Mapping[str, Any]:
        """Bins are shares of the grid on small images, whose grids have fewer than 60 cells."""
        small = dataset in ("fss-1000", "synthetic")
        return {"bins": (1.0, 0.5, 0.25, 0.125)} if small else {}

    @classmethod
    def backbone_layout(cls, backbone: str, options: MethodOptions) -> BackboneLayout:
        assert isinstance(options, cls.Options)
        return BackboneLayout(
            stages=4 if options.confidence else 3,
            output_stride=8,
            batch_statistics=options.batch_norm == "batch",
        )

    @classmethod
    def recipe(cls, dataset: str, backbone: str) -> Mapping[str, Any]:
        """Section 4.1 and the sizes of Tables 1 and 2; the rest is from PFENet.

        Shorter, at a higher rate, on the other data sets, which have small images.
        """
        lengths: dict[str, dict[str, Any]] = {
            "coco-20i": {"epochs": 50},
            "fss-1000": {"epochs": 20, "size": 225, "lr": 0.025},
            "synthetic": {"steps": 600, "size": 129, "lr": 0.025},
        }
        return {
            "batch": 4,
            "size": 473 if backbone.endswith("_v2") else 321,
            "lr": 2.5e-3,
            **lengths.get(dataset, {"epochs": 200}),
            "weight_decay": 1e-4,
            "schedule": "poly",
            "augment": {
                "scale": (0.8, 1.25) if dataset == "coco-20i" else (0.9, 1.1),
                "rotate": 10.0,
                "blur": True,
                "flip": True,
                "keep_object": 0.85,
            },
        }

    def prepare(self, source: BaseImages, artefacts: Artefacts) -> None:
        """Compute the base prototypes of the class-agnostic map if `ckmm` is on."""
        if self.objects is not None:
            self.objects.prepare(self.backbone, source, artefacts)

    # -------------------------------------------------------------- the network

    def encode(self, images: Tensor) -> Encoded:
        """`middle` [i, c3 + c2, h, w] of stages 3 and 2; `high` [i, c4, h, w] of stage 4.

        There is no `high` yet if the input of stage 4 is multiplied by the mask, too.
        """
        early = self.options.confidence and self.options.confidence_mask == "stage-4"
        features: Features = self.backbone(images, upto=4 if early else 3)
        encoded = {"middle": middle_features(features)}
        if early:
            encoded["high"] = features.stages[3]
        return encoded

    def encode_query(self, encoded: Encoded) -> Encoded:
        """`f0`, `f1` [i, d, h, w], the features F of each memory; `high`; `objects` [i, h, w]."""
        middle = encoded["middle"]
        found = {
            f"f{i}": self._memory(i).read_query(maps) for i, maps in enumerate(self._read(middle))
        }
        if self.options.confidence:
            high = encoded.get("high")
            third = self._third(middle)
            found["high"] = masked_stage(self.backbone, third, None) if high is None else high
        if self.objects is not None:
            found["objects"] = self.objects(middle)
        return found

    def encode_support(self, encoded: Encoded, images: Tensor, masks: Tensor) -> Encoded:
        """`f0`, `f1` [i, d, h, w]; `high` is the masked stage 4."""
        middle = encoded["middle"]
        found = {
            f"f{i}": self._memory(i).read_support(maps) for i, maps in enumerate(self._read(middle))
        }
        if "high" in encoded:
            high = encoded["high"]
            mask = grid_mask(masks, (high.shape[-2], high.shape[-1]))
            found["high"] = high * mask.unsqueeze(1)
        elif self.options.confidence:
            mask = grid_mask(masks, (middle.shape[-2], middle.shape[-1]))
            found["high"] = masked_stage(self.backbone, self._third(middle), mask)
        return found

    def _memory(self, index: int) -> Memory:
        found = self.memories[index]
        assert isinstance(found, Memory)
        return found

    def _read(self, middle: Tensor) -> list[Tensor]:
        """The input of each memory."""
        if not len(self.memories):
            return []
        if self.options.levels == "2+3":
            return [middle]
        third = self._third(middle)
        return [third] if self.options.levels == "3" else [middle[:, third.shape[1] :], third]

    def _third(self, middle: Tensor) -> Tensor:
        return middle[:, : self.backbone.channels[2]]

    def segment(
        self, query: Encoded, supports: Encoded, masks: Tensor, size: tuple[int, int]
    ) -> Tensor:
        logits, _ = self._decode(query, supports, masks)
        return resize(logits, size)

    def losses(
        self, query: Encoded, supports: Encoded, masks: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """The three terms of Eq. 13 without their weights."""
        logits, levels = self._decode(query, supports, masks)
        auxiliary = torch.stack([segmentation_loss(level, target) for level in levels])
        found = {"segmentation": segmentation_loss(logits, target), "auxiliary": auxiliary.mean()}
        if self.options.nodes == "memory" and self.options.reconstruct != "none":
            found["reconstruction"] = self._reconstruction(query, supports)
        return found

    def views(self, query: Tensor, supports: Tensor, masks: Tensor) -> dict[str, View]:
        """Act of the query for 5 meta-classes, evenly spaced (Figs. 5 and A; the paper draws them
        at random), the foreground confidence, and the class-agnostic map."""
        of_query, of_supports = self.encode_episodes(query, supports, masks)
        found = {}
        for index in range(len(self.memories) if self.options.nodes == "memory" else 0):
            _, activations = self._nodes(index, of_query[f"f{index}"])
            start = f"memory {index + 1}, " if len(self.memories) > 1 else ""
            for number in range(min(VIEWED, self.options.embeddings)):
                chosen = number * self.options.embeddings // min(VIEWED, self.options.embeddings)
                found[f"{start}meta-class {chosen + 1}"] = View(activations[:, chosen])
        if self.options.confidence:
            confidence = mean_best_match(of_query["high"], of_supports["high"][:, 0])
            found["foreground confidence"] = View(confidence)
        if "objects" in of_query:
            found["class-agnostic map"] = View(of_query["objects"])
        return found

    def prototypes(self, supports: Encoded, masks: Tensor) -> tuple[str, Tensor] | None:
        """Mean of F under the mask."""
        if not len(self.memories):
            return None
        return "features F of the first memory", object_means(supports["f0"], masks)

    def _reconstruction(self, query: Encoded, supports: Encoded) -> Tensor:
        """Eqs. 10 to 12, mean over memories; of the supports the first one."""
        terms = []
        for i in range(len(self.memories)):
            memory = self._memory(i)
            if self.options.reconstruct in ("query", "both"):
                terms.append(memory.reconstruction(query[f"f{i}"], self.options.rebuild))
            if self.options.reconstruct in ("support", "both"):
                first = supports[f"f{i}"][:, 0, 0]
                terms.append(memory.reconstruction(first, self.options.rebuild))
        return torch.stack(terms).mean()

    def _decode(
        self, query: Encoded, supports: Encoded, masks: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits [b, 2, h, w] on the feature grid, and those of every pyramid level."""
        if masks.shape[1] != 1:
            raise InputError(
                f"mmnet segments one class per episode, not {masks.shape[1]}. Set way: 1."
            )
        maps = [self._activated(i, query, supports, masks) for i in range(len(self.memories))]
        if self.options.confidence:  # Eqs. 6 to 8, mean over shots
            maps.append(mean_best_match(query["high"], supports["high"][:, 0]).unsqueeze(1))
        if "objects" in query:
            maps.append(query["objects"].unsqueeze(1))
        grid = (maps[0].shape[-2], maps[0].shape[-1])
        inputs = [
            torch.cat([resize(item, side) for item in maps], dim=1)
            for side in level_sizes(self.options.bins, grid)
        ]
        logits, levels = self.decoder(inputs, grid)
        return logits, levels

    def _activated(self, index: int, query: Encoded, supports: Encoded, masks: Tensor) -> Tensor:
        """Act'_Q of one memory, all shots fused: [b, m, h, w]."""
        options = self.options
        of_supports = supports[f"f{index}"][:, 0]  # [b, k, d, h, w]
        compared, values = self._nodes(index, query[f"f{index}"])
        grid = (values.shape[-2], values.shape[-1])
        cover = grid_mask(masks.flatten(0, 2), (of_supports.shape[-2], of_supports.shape[-1]))
        covers = cover.reshape(len(masks), -1, *cover.shape[1:])  # [b, k, h, w]
        by_quality = options.quality and options.propagation == "apm" and masks.shape[2] > 1
        shots, qualities = [], []
        for shot in range(masks.shape[2]):
            others, activations = self._nodes(index, of_supports[:, shot])
            mask = covers[:, -1 if options.shot_mask == "last" else shot]
            if options.propagation == "global":
                shots.append(values * masked_mean(activations, mask)[:, :, None, None])
                continue
            similarity = similarities(compared, others, mask)
            shots.append(values * matched(similarity, activations, grid))  # Eq. 5
            if by_quality:
                qualities.append(quality(similarity, grid, options.quality_over == "mean"))
        fused = torch.stack(shots, dim=1)
        return fuse_by_quality(fused, torch.stack(qualities, 1)) if by_quality else fused.mean(1)

    def _nodes(self, index: int, features: Tensor) -> tuple[Tensor, Tensor]:
        """[b, d, h, w] -> what Eq. 2 compares and Eqs. 4 and 5 multiply, [b, m, h, w] each."""
        if self.options.nodes == "features":
            return features, features
        products = self._memory(index).products(features)
        activations = products.sigmoid()  # Eq. 1
        return (products if self.options.compare == "products" else activations), activations

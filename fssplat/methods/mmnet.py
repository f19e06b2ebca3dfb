"""MM-Net: a memory of meta-classes, learned on base classes and used for novel classes.

Source   Wu et al., "Learning Meta-class Memory for Few-Shot Semantic Segmentation", ICCV 2021;
         "Eq. 1" below is equation 1 there. The decoder (FEM) is that of PFENet.
Shapes   b episodes, k shots, m meta-classes, d = 256 channels of a memory, h x w feature cells;
         q query cells, s support cells.
Masks    1 object, 0 background, 255 ignored (background in a support).
Chosen   There is no public code. Where the paper is silent:
         Eq. 3: the similarity of a cell at the edge of the mask is scaled by the (bilinear) mask, a
         cell outside has weight 0. An empty support activates nothing.
         Eqs. 10 to 12 use every cell, object or not; support losses are averaged over shots.
         The check marks of Table 6 are unreadable; by the text the loss on supports alone is best,
         so it is the default.
         "FCM + Feat" of Table 4 compares the features F, without the memory.
         K shots: confidence maps are averaged, as PFENet averages its priors.
         Schedule, augmentation and training length are those of PFENet.
         The COCO folds are printed as 4x - 3 + i with i from 1; i from 0 is meant.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor, einsum, nn
from torch.nn import functional as F

from fssplat.backbones import Backbone, BackboneLayout, Features
from fssplat.common.errors import InputError
from fssplat.methods.base import (
    Artefacts,
    BaseImages,
    Encoded,
    FewShotSegmenter,
    MethodOptions,
    resize,
)
from fssplat.methods.layers.base_prototypes import ObjectMap
from fssplat.methods.layers.matching import (
    EPS,
    best_match,
    grid_mask,
    masked_mean,
    middle_features,
    segmentation_loss,
)
from fssplat.methods.layers.multiscale import MultiScaleDecoder, level_sizes

CHANNELS = 256  # d


class MMNet(FewShotSegmenter):
    class Options(MethodOptions):
        nodes: Literal["memory", "features", "none"] = "memory"  # what is compared (Table 4)
        confidence: bool = True  # foreground confidence (FCM), Eqs. 6 to 8
        embeddings: PositiveInt = 50  # N, meta-classes per memory (Table 3)
        levels: Literal["2+3", "2,3", "3"] = "2+3"  # fused, a memory each, or stage 3 (Table 5)
        propagation: Literal["apm", "global"] = "apm"  # Eqs. 2 to 5, or one mean vector (Table 5)
        reconstruct: Literal["support", "query", "both", "none"] = "support"  # Eq. 12 (Table 6)
        quality: bool = True  # weigh shots by quality (QMM), Eq. 9, or average them (Table 7)
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
    SHOTS_SHARE_TRAINING = False

    def __init__(self, backbone: Backbone, options: Options) -> None:
        super().__init__(backbone, options)
        second, third = backbone.channels[1], backbone.channels[2]
        widths = {"2+3": (second + third,), "2,3": (second, third), "3": (third,)}[options.levels]
        self.memories = nn.ModuleList()
        if options.nodes != "none":
            size = options.embeddings if options.nodes == "memory" else 0
            self.memories.extend(Memory(width, size) for width in widths)
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
        return BackboneLayout(stages=4 if options.confidence else 3, output_stride=8)

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
            "size": 473 if backbone == "resnet50_v2" else 321,
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
        """Input of each memory as `raw0`, `raw1`; `high` is stage 4; `middle` is for ckmm."""
        features: Features = self.backbone(images)
        encoded = {f"raw{i}": maps for i, maps in enumerate(self._read(features))}
        if self.options.confidence:
            encoded["high"] = features.stages[3]
        if self.objects is not None:
            encoded["middle"] = middle_features(features)
        return encoded

    def _memory(self, index: int) -> "Memory":
        found = self.memories[index]
        assert isinstance(found, Memory)
        return found

    def _read(self, features: Features) -> list[Tensor]:
        if not len(self.memories):
            return []
        if self.options.levels == "2+3":
            return [middle_features(features)]
        third = features.stages[2]
        if self.options.levels == "3":
            return [third]
        return [resize(features.stages[1], (third.shape[-2], third.shape[-1])), third]

    def encode_query(self, encoded: Encoded) -> Encoded:
        """`f0`, `f1` [i, d, h, w], the features F of each memory, `high`, `objects` [i, h, w]."""
        found = self._features(encoded)
        if self.objects is not None:
            found["objects"] = self.objects(encoded["middle"])
        return found

    def encode_support(self, encoded: Encoded, images: Tensor, masks: Tensor) -> Encoded:
        """`f0`, `f1` [i, d, h, w] and `high`."""
        return self._features(encoded)

    def _features(self, encoded: Encoded) -> Encoded:
        found = {
            f"f{i}": self._memory(i).read(encoded[f"raw{i}"]) for i in range(len(self.memories))
        }
        if self.options.confidence:
            found["high"] = encoded["high"]
        return found

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

    def _reconstruction(self, query: Encoded, supports: Encoded) -> Tensor:
        terms = []
        for i in range(len(self.memories)):
            memory = self._memory(i)
            if self.options.reconstruct in ("query", "both"):
                terms.append(memory.reconstruction(query[f"f{i}"]))
            if self.options.reconstruct in ("support", "both"):
                terms.append(memory.reconstruction(supports[f"f{i}"].flatten(0, 2)))
        return torch.stack(terms).mean()

    def _decode(
        self, query: Encoded, supports: Encoded, masks: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits [b, 2, h, w] on the feature grid, and those of every pyramid level."""
        if masks.shape[1] != 1:
            raise InputError(
                f"mmnet segments one class per episode, not {masks.shape[1]}. Set way: 1."
            )
        nodes = [self._activated(i, query, supports, masks) for i in range(len(self.memories))]
        maps = []
        if self.options.confidence:
            maps.append(self._confidence(query["high"], supports["high"][:, 0], masks[:, 0]))
        if "objects" in query:
            maps.append(query["objects"].unsqueeze(1))
        height, width = (nodes or maps)[0].shape[-2:]
        inputs = []
        for side in level_sizes(self.options.bins, (height, width)):
            level = [F.adaptive_avg_pool2d(item, side) for item in nodes]
            inputs.append(torch.cat([*level, *(resize(item, side) for item in maps)], dim=1))
        logits, levels = self.decoder(inputs, (height, width))
        return logits, levels

    def _activated(self, index: int, query: Encoded, supports: Encoded, masks: Tensor) -> Tensor:
        """Act'_Q of one memory, all shots fused: [b, m, h, w]."""
        memory = self._memory(index)
        of_query, of_supports = query[f"f{index}"], supports[f"f{index}"][:, 0]
        mask = grid_mask(masks.flatten(0, 2), (of_supports.shape[-2], of_supports.shape[-1]))
        mask = mask.reshape(-1, masks.shape[2], *mask.shape[-2:])
        if self.options.nodes == "memory":
            of_query = memory.activations(of_query)
            of_supports = memory.activations(of_supports.flatten(0, 1)).reshape(
                *of_supports.shape[:2], -1, *of_supports.shape[-2:]
            )
        shots = []
        for shot in range(masks.shape[2]):
            support = of_supports[:, shot]
            if self.options.propagation == "global":
                shots.append(propagate_mean(of_query, support, mask[:, shot]))
            else:
                shots.append(propagate(of_query, support, mask[:, shot]))
        fused = torch.stack([activation for activation, _ in shots], dim=1)
        if len(shots) == 1 or not self.options.quality:
            return fused.mean(dim=1)
        return fuse_by_quality(fused, torch.stack([quality for _, quality in shots], dim=1))

    def _confidence(self, query: Tensor, supports: Tensor, masks: Tensor) -> Tensor:
        """Eqs. 6 to 8, mean over shots: [b, c, h, w], [b, k, c, h, w], masks -> [b, 1, h, w]."""
        mask = grid_mask(masks.flatten(0, 1), (supports.shape[-2], supports.shape[-1]))
        inside = supports.flatten(0, 1) * mask.unsqueeze(1)
        found = best_match(query.repeat_interleave(masks.shape[1], dim=0), inside)
        return found.reshape(*masks.shape[:2], *found.shape[-2:]).mean(dim=1, keepdim=True)


# ------------------------------------------------------------------ memory and propagation


class Memory(nn.Module):
    """Meta-class embeddings M^1..M^N and the convolution before them (MMM).

    With `size` 0 there is only the convolution.
    """

    def __init__(self, channels_in: int, size: int) -> None:
        super().__init__()
        self.read = nn.Conv2d(channels_in, CHANNELS, 3, padding=1)
        if size:
            # The products of Eq. 1 start at the scale of features, where the sigmoid is steep.
            self.embeddings = nn.Parameter(torch.randn(size, CHANNELS) / CHANNELS**0.5)

    def activations(self, features: Tensor) -> Tensor:
        """Eq. 1: [i, d, h, w] -> Act [i, m, h, w]."""
        return einsum("idhw,md->imhw", features, self.embeddings).sigmoid()

    def reconstruction(self, features: Tensor) -> Tensor:
        """Eqs. 10 to 12: cross-entropy of matching rebuilt cells to cells: [i, d, h, w] -> []."""
        chosen = self.activations(features).softmax(dim=1)  # Eq. 10
        rebuilt = einsum("imhw,md->idhw", chosen, self.embeddings).flatten(2)  # Eq. 11
        cells = features.flatten(2)
        correlation = einsum("idx,idy->ixy", rebuilt, cells)  # Eq. 12
        return (correlation.logsumexp(dim=2) - (rebuilt * cells).sum(dim=1)).mean()


def propagate(query: Tensor, support: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """APM, Eqs. 2 to 5, and the quality of Eq. 9.

    [b, m, h, w], [b, m, h, w], mask [b, h, w] in 0..1 -> Act'_Q [b, m, h, w], p_q [b, h, w].
    """
    q, s, cover = query.flatten(2), support.flatten(2), mask.flatten(1)
    norms = einsum("bq,bs->bqs", q.norm(dim=1), s.norm(dim=1))
    similarity = einsum("bmq,bms->bqs", q, s) / (norms + EPS)  # Eq. 2
    inside = (cover > 0).unsqueeze(1)
    similarity = similarity * cover.unsqueeze(1)
    lowest = torch.finfo(similarity.dtype).min  # not minus infinity: an empty mask would give NaN
    weights = similarity.masked_fill(~inside, lowest).softmax(dim=2) * inside  # Eq. 3
    matched = einsum("bqs,bms->bmq", weights, s)  # Eq. 4
    quality = (similarity.sigmoid() * inside).sum(dim=2)  # Eq. 9
    return query * matched.reshape(query.shape), quality.reshape(len(query), *query.shape[-2:])


def propagate_mean(query: Tensor, support: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Row "global" of Table 5: every query cell times the mean activation of the object.

    Shapes as in `propagate`. There is no quality per cell, so it is 0 for every shot.
    """
    mean = masked_mean(support, mask)
    return query * mean[:, :, None, None], torch.zeros_like(query[:, 0])


def fuse_by_quality(activations: Tensor, quality: Tensor) -> Tensor:
    """QMM: [b, k, m, h, w], [b, k, h, w] -> [b, m, h, w], weights by softmax over shots."""
    return einsum("bkmhw,bkhw->bmhw", activations, quality.softmax(dim=1))

"""JC2A: attention from query cells to support features, and a map of all objects.

Source   Huang et al., "A Joint Framework Towards Class-aware and Class-agnostic Alignment for
         Few-shot Segmentation", ACCV 2022; "Eq. 3" below is equation 3 there. The decoder is
         that of PFENet.
Shapes   b episodes, k shots, c channels, h x w feature cells; in attention q query cells, s
         support cells, n blocks of j cells each.
Masks    1 object, 0 background, 255 ignored (background in a support).
Chosen   There is no public code. Where the paper is silent or unclear:
         Features: stages 2 and 3 as in PFENet. Stage 4 is not used, so it is not built; Table 3
         counts it. Query and supports share one reduction to 256 channels.
         Eq. 8 projects block keys by W_S and uses a hatted feature that is not defined; here W_S is
         a second projection of the keys. Table 3 prints the same size for P2B alone and for P2P
         with P2B, so P2B has all parameters of P2P, and more.
         Eq. 13: see layers/base_prototypes.py. Table 3 seems to count its prototypes (15 x 1536).
         Eqs. 3 and 9 sum over the channels of a query without normalisation. Here the sum is
         divided by their number, a factor that W_Q could learn. Without it the first loss is about
         20 and the first steps diverge.
         Losses, schedule and training length are those of PFENet.
         Section 3.5 concatenates "support features" with the query features, although their cells
         do not correspond; here it is the masked mean of the support at every cell, as in PFENet.
         Several shots: "averaging the predicted masks" is read as soft masks; `shot_masks: binary`
         averages the labels.
         Training images are only stretched, as printed: no flip, rotation, blur or scale.
         Stem: the paper says ResNet; the plain one is used, although the parameters of Table 3 are
         nearer to those of the deep stem.
         Test images are stretched to 473 as in training, and scored at their original size.
         Effects of these choices: docs/choices.md.
         Top-k of the largest level is 60 of 400 blocks as printed, although 20 % would be 80.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, einsum, nn
from torch.nn import functional as F

from fssplat.backbones import Backbone, BackboneLayout
from fssplat.common.errors import InputError
from fssplat.methods.base import (
    Artefacts,
    BaseImages,
    Encoded,
    FewShotSegmenter,
    Fusion,
    MethodOptions,
    View,
    resize,
)
from fssplat.methods.layers.base_prototypes import ObjectMap
from fssplat.methods.layers.matching import (
    grid_mask,
    masked_mean,
    middle_features,
    object_means,
    segmentation_loss,
)
from fssplat.methods.layers.multiscale import MultiScaleDecoder, reduction

CHANNELS = 256

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
AttentionKind = Literal["normal", "normal-linear", "cosine", "relu-linear"]
Combine = Literal["add", "multiply", "concat"]


class JC2A(FewShotSegmenter):
    class Options(MethodOptions):
        p2p: bool = True  # point-to-point alignment, Eq. 3
        p2b: bool = True  # point-to-block alignment, Eq. 9
        ckmm: bool = True  # class-agnostic map, Eq. 13
        attention: AttentionKind = "relu-linear"  # Table 4
        position: bool = True  # position embedding of point-to-block, Eq. 4
        hybrid: Combine = "add"  # how P2P and P2B are combined, Eq. 10
        aggregation: Combine = "concat"  # how alignment and class-agnostic map are combined, Eq. 14
        shot_masks: Literal["soft", "binary"] = "soft"  # the masks that are averaged (section 4.1)
        bins: tuple[PositiveInt, ...] = (60, 30, 15, 8)  # side of each pyramid level
        top: tuple[PositiveInt, ...] = (60, 20, 5, 3)  # blocks kept per level
        block_sides: tuple[PositiveInt, ...] = (3, 3, 3, 2)  # in cells; not in the paper

    options: Options
    # 2: the sum over channels in attention is divided by their number; 3: base prototypes come from
    # images that are stretched as in training
    RESULT_VERSION: ClassVar[int] = 3
    LOSS_WEIGHTS: ClassVar[Mapping[str, float]] = {"segmentation": 1.0, "auxiliary": 1.0}
    SHOT_FUSION = "mean-mask"
    SCORING_OPTIONS: ClassVar[frozenset[str]] = frozenset({"shot_masks"})
    LATER_OPTIONS: ClassVar[frozenset[str]] = frozenset({"shot_masks"})

    def __init__(self, backbone: Backbone, options: Options) -> None:
        super().__init__(backbone, options)
        if not len(options.bins) == len(options.top) == len(options.block_sides):
            raise InputError("jc2a: bins, top and block_sides need one entry per pyramid level.")
        middle = backbone.channels[2] + backbone.channels[1]
        self.reduce = reduction(middle, CHANNELS)
        self.align = HybridAlignment(CHANNELS, options) if options.p2p or options.p2b else None
        self.objects = ObjectMap(middle) if options.ckmm else None
        self.decoder = MultiScaleDecoder(self._channels_in(), len(options.bins))

    @property
    def shot_fusion(self) -> Fusion:
        return "mean-mask" if self.options.shot_masks == "soft" else "mean-binary"

    def _channels_in(self) -> int:
        """Channels of query, prototype, and the combined alignment and map of Eq. 14."""
        aligned = self.align.channels_out if self.align else 0
        joined = self.objects is not None and (not aligned or self.options.aggregation == "concat")
        return 2 * CHANNELS + aligned + int(joined)

    @classmethod
    def options_for(cls, dataset: str) -> Mapping[str, Any]:
        """Pyramids for grids of 29 and 17 cells; about a fifth of the blocks is kept."""
        small: dict[str, dict[str, Any]] = {
            "fss-1000": {"bins": (28, 14, 7, 4), "block_sides": (3, 3, 2, 2), "top": (20, 5, 3, 1)},
            "synthetic": {"bins": (16, 8, 4, 2), "block_sides": (2, 2, 1, 1), "top": (13, 3, 3, 1)},
        }
        return small.get(dataset, {})

    @classmethod
    def backbone_layout(cls, backbone: str, options: MethodOptions) -> BackboneLayout:
        return BackboneLayout(stages=3, output_stride=8)

    @classmethod
    def recipe(cls, dataset: str, backbone: str) -> Mapping[str, Any]:
        """The settings of section 4.1, and epochs and schedule of PFENet: the paper gives neither.

        On FSS-1000 and the synthetic set, whose images are small, training is shorter and its
        learning rate is higher.
        """
        lengths: dict[str, dict[str, Any]] = {
            "coco-20i": {"epochs": 50},
            "fss-1000": {"epochs": 20, "size": 225, "lr": 0.025},
            "synthetic": {"steps": 600, "size": 129, "lr": 0.025},
        }
        return {
            "batch": 4,
            "size": 473,
            "lr": 2.5e-3,
            **lengths.get(dataset, {"epochs": 200}),
            "weight_decay": 1e-4,
            "schedule": "poly",
            "augment": {"resize": "squash"},
        }

    def prepare(self, source: BaseImages, artefacts: Artefacts) -> None:
        """Compute the base prototypes, Eqs. 11 and 12, if `ckmm` is on."""
        if self.objects is not None:
            self.objects.prepare(self.backbone, source, artefacts)

    # -------------------------------------------------------------- the network

    def encode(self, images: Tensor) -> Encoded:
        """`middle` [i, c3 + c2, h, w] of stages 3 and 2; everything else is computed from it."""
        return {"middle": middle_features(self.backbone(images))}

    def encode_query(self, encoded: Encoded) -> Encoded:
        """`feature` [i, c, h, w], and the class-agnostic map `objects` [i, h, w] if it is on."""
        found = {"feature": self.reduce(encoded["middle"])}
        if self.objects is not None:
            found["objects"] = self.objects(encoded["middle"])
        return found

    def encode_support(self, encoded: Encoded, images: Tensor, masks: Tensor) -> Encoded:
        """`feature` [i, c, h, w]."""
        return {"feature": self.reduce(encoded["middle"])}

    def segment(
        self, query: Encoded, supports: Encoded, masks: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Logits [b, 2, *size]; with several shots those of the mean mask."""
        logits, _ = self._per_shot(query, supports, masks)
        enlarged = resize(logits, size)
        shots = masks.shape[2]
        if shots == 1:
            return enlarged
        apart = enlarged.reshape(-1, shots, *enlarged.shape[1:])
        if self.options.shot_masks == "binary":
            objects = (apart[:, :, 1] > apart[:, :, 0]).float().mean(dim=1)
            return torch.stack([1 - objects, objects], dim=1).logit(eps=1e-6)
        return apart.log_softmax(dim=2).logsumexp(dim=1)  # the sum has the same argmax as the mean

    def losses(
        self, query: Encoded, supports: Encoded, masks: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """Cross-entropy of the output, and its mean over the levels; each shot is one pair."""
        logits, levels = self._per_shot(query, supports, masks)
        repeated = target.repeat_interleave(masks.shape[2], dim=0)
        auxiliary = torch.stack([segmentation_loss(level, repeated) for level in levels])
        return {
            "segmentation": segmentation_loss(logits, repeated),
            "auxiliary": auxiliary.mean(),
        }

    def views(self, query: Tensor, supports: Tensor, masks: Tensor) -> dict[str, View]:
        """The class-agnostic map of Eq. 13 (Fig. 4)."""
        if self.objects is None:
            return {}
        return {"class-agnostic map": View(self.encode_query(self.encode(query))["objects"])}

    def prototypes(self, supports: Encoded, masks: Tensor) -> tuple[str, Tensor]:
        """The prototypes of the decoder."""
        layer = "stages 2 and 3, reduced to 256 channels"
        return layer, object_means(supports["feature"], masks)

    def _per_shot(
        self, query: Encoded, supports: Encoded, masks: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits [b k, 2, h, w] on the feature grid and of each level, one per query and shot."""
        if masks.shape[1] != 1:
            raise InputError(
                f"jc2a segments one class per episode, not {masks.shape[1]}. Set way: 1."
            )
        shots = masks.shape[2]
        of_query = {name: value.repeat_interleave(shots, dim=0) for name, value in query.items()}
        support = supports["feature"].flatten(0, 2)
        feature = of_query["feature"]
        grid = (feature.shape[-2], feature.shape[-1])
        mask = grid_mask(masks.flatten(0, 2), (support.shape[-2], support.shape[-1]))
        prototype = masked_mean(support, mask)
        inputs = []
        for level, side in enumerate(self.options.bins):
            pooled = F.adaptive_avg_pool2d(feature, side)
            parts = [pooled, prototype[:, :, None, None].expand_as(pooled)]
            parts += self._guidance(level, pooled, support, mask, of_query.get("objects"))
            inputs.append(torch.cat(parts, dim=1))
        logits, levels = self.decoder(inputs, grid)
        return logits, levels

    def _guidance(
        self, level: int, query: Tensor, support: Tensor, mask: Tensor, objects: Tensor | None
    ) -> list[Tensor]:
        """Eq. 14 on one level; empty if alignment and map are both switched off."""
        side = self.options.bins[level]
        parts = []
        if self.align is not None:
            inside = F.adaptive_avg_pool2d(support * mask.unsqueeze(1), side)
            cover = F.adaptive_avg_pool2d(mask.unsqueeze(1), side).squeeze(1)
            parts.append(self.align(level, query, inside, cover))
        if objects is not None:
            parts.append(resize(objects.unsqueeze(1), (side, side)))
        if len(parts) < 2:
            return parts
        return [combine(parts[0], parts[1], self.options.aggregation)]


# ------------------------------------------------------------------ hybrid alignment (HPAM)


class HybridAlignment(nn.Module):
    """P_aw of Eq. 10 on every pyramid level; the levels share the projections."""

    def __init__(self, channels: int, options: JC2A.Options) -> None:
        super().__init__()
        self.options = options
        both = options.p2p and options.p2b
        self.channels_out = channels * (2 if both and options.hybrid == "concat" else 1)
        self.query = nn.Conv1d(channels, channels, 1, bias=False)  # W_Q
        self.key = nn.Conv1d(channels, channels, 1, bias=False)  # W_K
        self.value = nn.Conv1d(channels, channels, 1, bias=False)  # W_V
        if options.p2p:
            self.attend_points = build_attention(options.attention, channels)
        if options.p2b:
            self.block_key = nn.Conv1d(channels, channels, 1, bias=False)  # W_S
            self.attend_blocks = build_attention(options.attention, channels)
        sides = options.bins if options.p2b and options.position else ()
        # p_q and p_s of Eq. 4, one number per cell for all channels
        maps = [nn.Parameter(0.02 * torch.randn(2, side, side)) for side in sides]
        self.positions = nn.ParameterList(maps)

    def forward(self, level: int, query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
        """[b, c, h, w], masked support [b, c, h, w], mask [b, h, w] -> [b, channels_out, h, w]."""
        found = []
        if self.options.p2p:
            found.append(self.points(query, support))
        if self.options.p2b:
            found.append(self.blocks(level, query, support, mask))
        return found[0] if len(found) == 1 else combine(found[0], found[1], self.options.hybrid)

    def points(self, query: Tensor, support: Tensor) -> Tensor:
        """Eqs. 1 and 3: attention of every query cell to every support cell."""
        cells = support.flatten(2)
        keys, values = self.key(cells).unsqueeze(3), self.value(cells).unsqueeze(3)
        return self.attend_points(self.query(query.flatten(2)), keys, values).reshape(query.shape)

    def blocks(self, level: int, query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
        """Eqs. 4 to 9: attention of every query cell to the blocks with most mask."""
        if len(self.positions):
            query = query + self.positions[level][0]
            support = support + self.positions[level][1]
        side = self.options.block_sides[level]
        kept = pick_blocks(
            cut_blocks(support, side), fullest_blocks(mask, side, self.options.top[level])
        )
        cells = kept.flatten(2)
        keys = self.block_key(self.key(cells)).reshape(kept.shape)
        values = self.value(cells).reshape(kept.shape)
        return self.attend_blocks(self.query(query.flatten(2)), keys, values).reshape(query.shape)


def cut_blocks(features: Tensor, side: int) -> Tensor:
    """Eq. 5: [b, c, h, w] -> blocks [b, c, n, j] in reading order; zeros pad the grid."""
    height, width = features.shape[-2:]
    padded = F.pad(features, (0, -width % side, 0, -height % side))
    rows, columns = padded.shape[-2] // side, padded.shape[-1] // side
    cells = padded.reshape(*features.shape[:2], rows, side, columns, side).transpose(3, 4)
    return cells.reshape(*features.shape[:2], rows * columns, side * side)


def fullest_blocks(mask: Tensor, side: int, count: int) -> Tensor:
    """Eqs. 6 and 7: indices of the blocks with most mask: [b, h, w] -> [b, count].

    Ties keep their reading order. If there are fewer than `count` blocks, all are returned.
    """
    coverage = cut_blocks(mask.unsqueeze(1), side).mean(dim=3).squeeze(1)
    return coverage.argsort(dim=1, descending=True, stable=True)[:, :count]


def pick_blocks(parts: Tensor, chosen: Tensor) -> Tensor:
    """Select blocks by index: [b, c, n, j], [b, count] -> [b, c, count, j]."""
    index = chosen[:, None, :, None].expand(-1, parts.shape[1], -1, parts.shape[3])
    return parts.gather(2, index)


def combine(left: Tensor, right: Tensor, how: Combine) -> Tensor:
    """Combine two maps by one of the three operations of Table 6."""
    if how == "concat":
        return torch.cat([left, right], dim=1)
    return left + right if how == "add" else left * right


# ------------------------------------------------------------------ the attentions of Table 4


def build_attention(kind: AttentionKind, channels: int) -> Attention:
    """[b, c, q], keys and values [b, c, n, j] -> [b, c, q]; P2P has blocks of one cell."""
    if kind == "relu-linear":
        return LinearAttention(nn.ReLU())
    if kind == "normal-linear":
        return LinearAttention(nn.BatchNorm1d(channels))
    return normal_attention if kind == "normal" else cosine_attention


class LinearAttention(nn.Module):
    """Eqs. 3 and 9: the cost is linear in the number of cells, not in that of their pairs."""

    def __init__(self, activate: nn.Module) -> None:
        super().__init__()
        self.activate = activate  # Phi of Eq. 2: ReLU; BatchNorm in the comparison of Table 4

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Softmax over the blocks; the mean over the cells of a block is taken first."""
        context = einsum("bcnj,bdnj->bcd", keys.softmax(dim=2), values) / keys.shape[3]
        return einsum("bcq,bcd->bdq", self.activate(queries), context) / queries.shape[1]


def normal_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Scaled dot products, softmax over the blocks, mean over the cells of a block."""
    scores = einsum("bcq,bcnj->bqnj", queries, keys) / queries.shape[1] ** 0.5
    return einsum("bqnj,bdnj->bdq", scores.softmax(dim=2), values) / keys.shape[3]


def cosine_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Values weighted by the cosine of query and key, mean over all cells."""
    left, right = F.normalize(queries, dim=1), F.normalize(keys, dim=1)
    scores = einsum("bcq,bcnj->bqnj", left, right)
    return einsum("bqnj,bdnj->bdq", scores, values) / (keys.shape[2] * keys.shape[3])

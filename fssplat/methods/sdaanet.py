"""SD-AANet: self-distilled prototypes and supervised affinity attention.

Source   Zhao et al., "A Self-Distillation Embedded Supervised Affinity Attention Model for
         Few-Shot Segmentation"; "Eq. 3" below is equation 3 there. The rest is PFENet.
Shapes   b episodes, n ways, k shots, c = 256 channels, h x w feature cells.
Masks    1 object, 0 background, 255 ignored (background in a support, ignored in its own loss).
Chosen   auxiliary: Eq. 12 prints no loss on pyramid levels, but the baseline is PFENet, which has
         one, and the authors' code gives it the weight 1. It is 1 here, for the baseline and with
         every module that is added to it: with 0 the heads of the levels are not trained.
Differs  The defaults follow the paper. Each difference of the authors' code is an option; preset
         `public-code` sets all of them:
         query_weighting  Eq. 3 scales the query once; the code once per shot, then once more.
         query_prototype  of the scaled query (section III-B); the code uses the unscaled query, so
                          its "separate" teachers differ in their support half only.
         teacher_average  of two softmax distributions (below Eq. 5); the code averages prototypes,
                          then applies a softmax of temperature 5.
         distillation     alpha = 50 times Eq. 5; the code also multiplies by 0.9 x 25 and averages
                          over the 256 channels (temperature, kd_factor, kd_mean).
         batch_norm       fixed; in the code the statistics of the backbone change in training.
         Training input: crops of 321, no blur; the code resizes to 321 and blurs. The effective
         learning rate of the code is 10 times that of its files: 0.025 on PASCAL, 0.05 on COCO
         (both in the preset); the paper says 0.0005 on COCO. Test input: padded to 321, scored at
         the original size; the code stretches to 473. The paper averages five rounds; the code
         uses one seed.
         Eq. 5 prints the negative of a KL divergence. Eqs. 6, 10 and 11 print sums, text and code
         average. Eqs. 7 and 9 print only the query prototype as teacher; it is averaged with the
         support prototype below Eq. 5, and here for any K. The COCO folds are printed with a range
         of the fold; a range of the class is meant. The query mask is used in training, although
         section III-A says the opposite.
         Fig. 3 shows no prior; the baseline and the code use that of PFENet (`prior`).
         Table III reports 14.1 M parameters; here and in the code there are 21.3 M, of which the
         pyramid has 10.5 M. The paper gives no widths. Without the convolution to 1024 channels
         there would be 14.9 M, and 13.5 M if the pooled stages had a quarter of their width too.
         Table V enlarges both scales to 473 before they are added; here they are added at the size
         of the network input. The text can be read as one pass whose logits are resized
         (`scales_of: logits`, the default) or as one pass per size of the images (`images`).
         Training crops are drawn anywhere, as printed; PFENet's keep 85 % of the object
         (`training.augment.keep_object`). "Five rounds" are read as five draws of test episodes for
         one training.
         Several ways: five outputs as printed, a background logit of 0, and with `prior` one prior
         per way, which Algorithm 1 does not list. The query's channels are scaled by the mean over
         all ways.
         Effects of these choices: docs/choices.md.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from fssplat.backbones import Backbone, BackboneLayout
from fssplat.common.errors import InputError
from fssplat.methods.base import Encoded, FewShotSegmenter, MethodOptions, View, resize
from fssplat.methods.layers.affinity_attention import AffinityAttention
from fssplat.methods.layers.matching import (
    grid_mask,
    masked_mean,
    masked_stage,
    middle_features,
    priors,
    segmentation_loss,
    with_background,
)
from fssplat.methods.layers.multiscale import (
    MultiScaleDecoder,
    at_scale,
    for_each_scale,
    level_sizes,
    reduction,
    sides_of,
)
from fssplat.methods.layers.prototypes import Guide, channel_weights, cosine_scores, prototype_mlp

CHANNELS = 256
TINY = 1e-30  # added softmaxes may both underflow to 0


class SDAANet(FewShotSegmenter):
    class Options(MethodOptions):
        sdpm: bool = True  # channel weights and self-distillation (Table IV)
        saam: bool = True  # supervised affinity attention (Table IV)
        prior: bool = True  # PFENet's prior as one more channel
        teacher: Literal["integral", "separate"] = "separate"  # Eqs. 6, 7 or 8, 9 (Table VI)
        teacher_average: Literal["softmax", "prototype"] = "softmax"  # average of which, Eq. 5
        temperature: PositiveFloat = 1.0  # of both softmaxes in Eq. 4
        kd_factor: PositiveFloat = 1.0  # on Eq. 5, besides temperature squared
        kd_mean: Literal["episodes", "elements"] = "episodes"  # Eq. 5 sums over channels
        query_weighting: Literal["once", "repeated"] = "once"  # Eqs. 3, 6, 8
        query_prototype: Literal["weighted", "unweighted"] = "weighted"  # in the teacher
        scales: tuple[PositiveInt, ...] = ()  # multi-scale inference: (321, 473) in Table V
        scales_of: Literal["logits", "images"] = "logits"  # what is resized to each of the scales
        ways: PositiveInt = 1  # classes at once, each with its supports: 5 in Table VII
        bins: tuple[PositiveFloat, ...] = (60, 30, 15, 8)  # side of each level; <= 1: of the grid
        batch_norm: Literal["fixed", "batch"] = "fixed"  # statistics of the backbone

    options: Options
    LOSS_WEIGHTS: ClassVar[Mapping[str, float]] = {
        "segmentation": 1.0,
        "auxiliary": 1.0,
        "distillation": 50.0,  # alpha in Eq. 12
        "support": 0.5,  # beta
    }
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "public-code": {
            "options": {
                "teacher_average": "prototype",
                "temperature": 5.0,
                "kd_factor": 0.9,
                "kd_mean": "elements",
                "query_weighting": "repeated",
                "query_prototype": "unweighted",
                "batch_norm": "batch",
            },
            "training": {"lr": 0.025, "augment": {"resize": "squash", "blur": True}},
            "training_on": {"coco-20i": {"lr": 0.05}},
        },
    }
    RESULT_VERSION = 2  # 2: preset public-code also distils queries without the object
    SHOTS_SHARE_TRAINING = False
    SCORING_OPTIONS: ClassVar[frozenset[str]] = frozenset({"scales", "scales_of"})
    LATER_OPTIONS: ClassVar[frozenset[str]] = frozenset({"scales_of"})

    def __init__(self, backbone: Backbone, options: Options) -> None:
        super().__init__(backbone, options)
        middle = backbone.channels[2] + backbone.channels[1]
        self.reduce_query = reduction(middle, CHANNELS)
        self.reduce_support = reduction(middle, CHANNELS)
        self.weigh = channel_weights(CHANNELS) if options.sdpm else None
        self.attention = AffinityAttention(CHANNELS) if options.saam else None
        self.shorten = prototype_mlp(options.ways, CHANNELS) if options.ways > 1 else None
        maps = options.ways * (int(options.prior) + int(options.saam))
        outputs = 2 if options.ways == 1 else options.ways
        self.decoder = MultiScaleDecoder(2 * CHANNELS + maps, len(options.bins), outputs)

    @classmethod
    def backbone_layout(cls, backbone: str, options: MethodOptions) -> BackboneLayout:
        assert isinstance(options, cls.Options)
        return BackboneLayout(
            stages=4 if options.prior else 3,
            output_stride=8,
            batch_statistics=options.batch_norm == "batch",
        )

    @classmethod
    def options_for(cls, dataset: str) -> Mapping[str, Any]:
        """Bins are shares of the grid on COCO, as in the authors' files, and on small images."""
        return {} if dataset == "pascal-5i" else {"bins": (1.0, 0.5, 0.25, 0.125)}

    @classmethod
    def fewest_episodes(cls, options: MethodOptions) -> int:
        """2 with attention: its pyramid has BatchNorm over a 1 x 1 grid, one value per episode."""
        assert isinstance(options, cls.Options)
        return 2 if options.saam and options.ways == 1 else 1

    @classmethod
    def ways_of(cls, options: MethodOptions) -> int:
        assert isinstance(options, cls.Options)
        return options.ways

    @classmethod
    def recipe(cls, dataset: str, backbone: str) -> Mapping[str, Any]:
        """Section IV-A; shorter on the other data sets, which have small images.

        The authors' code uses ten times this rate, which diverges with Eq. 5 and alpha = 50.
        """
        lengths: dict[str, dict[str, Any]] = {
            "coco-20i": {"epochs": 50, "batch": 8, "size": 321, "lr": 5e-4},
            "fss-1000": {"epochs": 20, "batch": 8, "size": 225, "lr": 2.5e-3},
            "synthetic": {"steps": 600, "batch": 4, "size": 129, "lr": 2.5e-3},
        }
        return {
            **lengths.get(dataset, {"epochs": 200, "batch": 4, "size": 321, "lr": 2.5e-3}),
            "weight_decay": 1e-4,
            "schedule": "poly",
            "augment": {"resize": "crop", "rotate": 10.0, "flip": True},
        }

    # -------------------------------------------------------------- per image

    @property
    def _sides(self) -> tuple[int, ...]:
        """Longer sides that images are resized to; none if they keep their size."""
        by_image = self.options.scales_of == "images" and not self.training
        return self.options.scales if by_image else ()

    def encode(self, images: Tensor) -> Encoded:
        """`middle` [i, c3 + c2, h, w] of stages 3 and 2; everything else is computed from it.

        Of images that are resized to several scales there is a `middle@<scale>` for each.
        """
        found = {"middle": middle_features(self.backbone(images, upto=3))}
        for side in self._sides:
            resized = resize(images, sides_of(images, side))
            found[f"middle@{side}"] = middle_features(self.backbone(resized, upto=3))
        return found

    def encode_query(self, encoded: Encoded) -> Encoded:
        """`feature` [i, c, h, w]; `high` is stage 4; both for each scale, as in `encode`."""
        return for_each_scale(encoded, self._encode_query)

    def encode_support(self, encoded: Encoded, images: Tensor, masks: Tensor) -> Encoded:
        """`feature` [i, c, h, w]; `high` is stage 4 of the masked stage 3, masked again."""
        return for_each_scale(encoded, lambda one: self._encode_support(one, masks))

    def _encode_query(self, encoded: Encoded) -> Encoded:
        found = {"feature": self.reduce_query(encoded["middle"])}
        if self.options.prior:
            found["high"] = masked_stage(self.backbone, self._third(encoded["middle"]), None)
        return found

    def _encode_support(self, encoded: Encoded, masks: Tensor) -> Encoded:
        found = {"feature": self.reduce_support(encoded["middle"])}
        if self.options.prior:
            third = self._third(encoded["middle"])
            mask = grid_mask(masks, (third.shape[-2], third.shape[-1]))
            found["high"] = masked_stage(self.backbone, third, mask)
        return found

    def _third(self, middle: Tensor) -> Tensor:
        return middle[:, : self.backbone.channels[2]]

    # -------------------------------------------------------------- per episode

    def segment(
        self, query: Encoded, supports: Encoded, masks: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Logits [b, p, *size]; with several `scales` the log of the sum of their softmaxes."""
        if self._sides:
            found = [
                self._logits(at_scale(query, side), at_scale(supports, side), masks).softmax(dim=1)
                for side in self._sides
            ]
        else:
            logits = self._logits(query, supports, masks)
            if not self.options.scales:
                return resize(logits, size)
            found = [resize(logits, (side, side)).softmax(dim=1) for side in self.options.scales]
        return torch.stack([resize(item, size) for item in found]).sum(dim=0).clamp(min=TINY).log()

    def _logits(self, query: Encoded, supports: Encoded, masks: Tensor) -> Tensor:
        return self._decode(query, supports, self._guide(supports, masks))[0]

    def losses(
        self, query: Encoded, supports: Encoded, masks: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """The terms of Eq. 12 without their weights, and the mean loss of the pyramid levels."""
        if self.training and len(masks) < self.fewest_episodes(self.options):
            raise InputError(
                "sdaanet cannot train on one episode: BatchNorm over a 1 x 1 grid needs two. "
                "Set training.batch and training.micro_batch to 2 or more."
            )
        guide = self._guide(supports, masks)
        logits, levels = self._decode(query, supports, guide)
        auxiliary = torch.stack([segmentation_loss(level, target) for level in levels])
        found = {"segmentation": segmentation_loss(logits, target), "auxiliary": auxiliary.mean()}
        if self.weigh is not None:
            found["distillation"] = self._distillation(query["feature"], guide, target)
        if self.attention is not None:
            found["support"] = self._support_loss(supports["feature"], guide, masks)
        return found

    def _guide(self, supports: Encoded, masks: Tensor) -> Guide:
        """The prototypes of Eq. 2 and the channel weights computed from them."""
        if masks.shape[1] != self.options.ways:
            raise InputError(
                f"sdaanet was built for {self.options.ways} classes per episode, the batch has "
                f"{masks.shape[1]}. Set the method's option `ways` to grid.way."
            )
        lead = masks.shape[:3]
        feature = supports["feature"].flatten(0, 2)
        mask = grid_mask(masks.flatten(0, 2), (feature.shape[-2], feature.shape[-1]))
        prototypes = masked_mean(feature, mask)
        weights = torch.ones_like(prototypes)
        if self.weigh is not None:
            # Eq. 3: the mean of the scaled and the unscaled feature
            weights = (self.weigh(prototypes[:, :, None, None]).flatten(1) + 1) / 2
        return Guide(prototypes.reshape(*lead, -1), weights.reshape(*lead, -1))

    def views(self, query: Tensor, supports: Tensor, masks: Tensor) -> dict[str, View]:
        """Prior, affinity attention (Fig. 10), and similarity of a support to its prototype,
        Eq. 13 (Fig. 11)."""
        of_query, of_supports = self.encode_episodes(query, supports, masks)
        guide = self._guide(of_supports, masks)
        feature, found = of_query["feature"], {}
        maps = {}
        if self.options.prior:
            maps["prior"] = priors(of_query["high"], of_supports["high"])
        if self.attention is not None:
            maps["affinity attention"] = self.attention.query_map(
                feature, guide.prototypes.mean(dim=2)
            )
        for name, of_ways in maps.items():
            for way in range(self.options.ways):
                one = name if self.options.ways == 1 else f"{name}, way {way + 1}"
                found[one] = View(of_ways[:, way], scale="unit" if name == "prior" else "free")
        similar = cosine_scores(of_supports["feature"][:, 0, 0], guide.scaled[:, 0, :1])
        # Neither features nor prototypes are negative, since both come after a ReLU
        found["similarity to the prototype"] = View(similar[:, 0].clamp(0, 1), of="support")
        return found

    def prototypes(self, supports: Encoded, masks: Tensor) -> tuple[str, Tensor]:
        """p'_s, the prototypes of the decoder (Fig. 8)."""
        layer = "stages 2 and 3, reduced to 256 channels"
        weighted = "" if self.weigh is None else ", channels weighted by SDPM"
        return layer + weighted, self._guide(supports, masks).scaled

    def _decode(
        self, query: Encoded, supports: Encoded, guide: Guide
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits [b, p, h, w] on the feature grid, and those of every pyramid level."""
        feature = query["feature"]
        grid = (feature.shape[-2], feature.shape[-1])
        maps = []
        if self.options.prior:
            maps.append(resize(priors(query["high"], supports["high"]), grid))
        if self.attention is not None:
            maps.append(self.attention.query_map(feature, guide.prototypes.mean(dim=2)))
        scaled = guide.scaled.mean(dim=2)  # [b, n, c]
        vector = scaled[:, 0] if self.shorten is None else self.shorten(scaled.flatten(1))
        feature = feature * self._query_weights(guide.weights)[:, :, None, None]
        inputs = []
        for side in level_sizes(self.options.bins, grid):
            pooled = F.adaptive_avg_pool2d(feature, side)
            parts = [vector[:, :, None, None].expand(-1, -1, *side), pooled]
            inputs.append(torch.cat([*parts, *(resize(item, side) for item in maps)], dim=1))
        logits, levels = self.decoder(inputs, grid)
        if self.options.ways == 1:
            return logits, levels
        return with_background(logits), [with_background(level) for level in levels]

    def _query_weights(self, weights: Tensor) -> Tensor:
        """Weights of the support channels -> one factor per query channel: [b, n, k, c] -> [b, c].

        `once`: their mean, the result of both teacher strategies. `repeated`: their product, times
        the average of their mean and 1.
        """
        if self.weigh is None:
            return weights[:, 0, 0]
        flat = weights.flatten(1, 2)
        mean = flat.mean(dim=1)
        once = self.options.query_weighting == "once"
        return mean if once else flat.prod(dim=1) * (mean + 1) / 2

    # -------------------------------------------------------------- losses

    def _distillation(self, feature: Tensor, guide: Guide, target: Tensor) -> Tensor:
        """Eqs. 4 to 9: mean over shots, and over the ways visible in the query [b, c, h, w]."""
        small = F.interpolate(target[:, None].float(), size=feature.shape[-2:], mode="nearest")
        wanted = torch.arange(1, self.options.ways + 1, device=target.device)[:, None, None]
        inside = (small == wanted).float()  # [b, n, h, w]
        repeated = feature.repeat_interleave(self.options.ways, dim=0)
        of_query = masked_mean(repeated, inside.flatten(0, 1)).reshape(*inside.shape[:2], 1, -1)
        if self.options.query_prototype == "weighted":
            shared = guide.weights.mean(dim=2, keepdim=True)
            of_query = of_query * (shared if self.options.teacher == "integral" else guide.weights)
        loss = distillation(guide.scaled, of_query.expand_as(guide.scaled), self.options)
        if self.options.teacher_average == "prototype":
            return loss.mean()  # the authors' code: queries without the object count too
        shown = (target[:, None] == wanted).flatten(2).any(dim=2)
        return (loss.mean(dim=2) * shown).sum() / shown.sum().clamp(min=1)

    def _support_loss(self, features: Tensor, guide: Guide, masks: Tensor) -> Tensor:
        """Eqs. 10 and 11: loss of segmenting each support by its own prototype; mean over shots."""
        assert self.attention is not None
        losses = []
        for shot in range(masks.shape[2]):
            feature = features[:, :, shot].flatten(0, 1)
            prototype = guide.prototypes[:, :, shot].flatten(0, 1)
            logits = self.attention.support_logits(feature, prototype)
            losses.append(segmentation_loss(logits, masks[:, :, shot].flatten(0, 1)))
        return torch.stack(losses).mean()


# ------------------------------------------------------------------ prototypes (SDPM)


def distillation(support: Tensor, query: Tensor, options: SDAANet.Options) -> Tensor:
    """KL divergence between teacher and support prototype, Eqs. 5, 7, 9.

    Two prototypes [b, n, k, c] -> [b, n, k]. The teacher is the average of query and support, or of
    query and mean support (`teacher: integral`). Gradients flow into both.
    """
    heat = options.temperature
    half = support
    if options.teacher_average == "softmax":
        half, query = (support / heat).softmax(dim=-1), (query / heat).softmax(dim=-1)
    if options.teacher == "integral":
        half = half.mean(dim=2, keepdim=True).expand_as(half)
    teacher = (half + query) / 2
    if options.teacher_average == "prototype":
        teacher = (teacher / heat).softmax(dim=-1)
    student = (support / heat).log_softmax(dim=-1)
    terms = teacher * (teacher.clamp(min=1e-12).log() - student)
    total = terms.sum(dim=-1) if options.kd_mean == "episodes" else terms.mean(dim=-1)
    return options.kd_factor * heat**2 * total

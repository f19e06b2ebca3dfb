"""MiningFSS: learn also from objects that are background in the episodes, by pseudo masks.

Source   Yang et al., ICCV 2021, arXiv 2103.15402; "Eq. 3" below is equation 3 there.
Shapes   b episodes, n ways, k shots, i images, c channels, h x w feature cells, H x W pixels,
         p = n + 1 prototypes, background first; K clusters.
Masks    1 object, 0 background, 255 ignored.
Trained  The backbone without its last stage and last ReLU, with fixed BatchNorm; in training also
         an auxiliary decoder of pseudo masks, which predictions do not use.
Chosen   Where the paper is silent: EMA decay 0.999, equal to the momentum of the background
         prototype, so that weights and prototype average the same steps; it grows from 1/2 as in
         Mean Teacher. Pseudo masks are computed with the ImageNet weights. The decoder has layers
         of 3x3, 3x3 and 1x1 with 256 channels. Pseudo-labelled images are cropped and flipped like
         the others, then get the colour changes and the blur of SimCLR. The first step uses its
         own background prototype, since no global one exists yet. Each rectifying image gives its
         most similar region other than background; these images are the pseudo-labelled ones,
         encoded with the final weights.
Differs  (public code, preset `public-code`) Only the baseline is public: no mining, no average of
         the weights, no rectification of prototypes. Softmax scale 10; the paper says 20. Weight
         decay 5e-4; the paper gives none. Folds count from 0; in the paper from 1.
         The size of a micro-batch changes the BatchNorm of the decoder, but no prediction. For
         5-shot on ResNet-101 the paper uses 16 pseudo-labelled images per step: `fssplat verify`
         and experiments/full_grid.yaml set `pseudo_per_pair: 4` there instead of 8.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from fssplat.backbones import Backbone, BackboneLayout
from fssplat.data.batch import IGNORE, EpisodeBatch
from fssplat.experiment.schema import digest
from fssplat.methods.base import (
    Artefacts,
    BaseImages,
    Encoded,
    FewShotSegmenter,
    Images,
    LabelledImage,
    MethodOptions,
    resize,
)
from fssplat.methods.layers.base_prototypes import weights_digest
from fssplat.methods.layers.image_folder import imagenet, imagenet_root
from fssplat.methods.layers.matching import grid_mask, masked_mean, segmentation_loss
from fssplat.methods.layers.prototypes import cosine_scores, mean_under_mask
from fssplat.methods.layers.pseudo_batches import PseudoBatches, stacked
from fssplat.methods.layers.pseudo_labels import (
    Pool,
    PseudoMasks,
    Regions,
    evenly_spaced,
    network_input,
    pseudo_masks,
    regions,
    representatives,
)

WIDTH = 256  # of the auxiliary decoder
VERSION = 1  # of the stored pseudo masks; raise it when their computation changes


class MiningFSS(FewShotSegmenter):
    """Cosine matching with rectified prototypes, trained together with pseudo masks."""

    class Options(MethodOptions):
        """First the components of Table 3, then their settings."""

        mine: bool = True  # also learn pseudo masks (Eq. 1)
        background: bool = True  # global background prototype (Eqs. 6 and 7)
        foreground: bool = True  # rectify the foreground prototype at inference (Eqs. 8 and 9)
        ema: bool = True  # evaluate the moving average of the weights (Table 6)
        scale: PositiveFloat = 20.0  # sigma in Eq. 5
        clusters: PositiveInt = Field(5, le=254)  # K in K-means; 15 on COCO
        pseudo_per_pair: PositiveInt = 8  # pseudo-labelled images per pair: 32 for a batch of 4
        strong: bool = True  # distort pseudo-labelled images
        # sources of pseudo-labelled images
        unlabelled: tuple[Literal["train", "remain", "imagenet"], ...] = ("train",)
        pool_images: PositiveInt | None = None  # limit per source; None: no limit
        fusion: float = Field(0.9, ge=0, le=1)  # w in Eq. 7
        neighbours: PositiveInt = 4  # N, images whose regions rectify
        rectify: float = Field(0.2, ge=0, le=1)  # beta in Eq. 8

    # 2: image embeddings without padding; 3: novel pixels are ignored if the protocol says so
    RESULT_VERSION: ClassVar[int] = 3
    LOSS_WEIGHTS: ClassVar[Mapping[str, float]] = {"segmentation": 1.0, "mining": 1.0}  # Eq. 1
    MOMENTUM: ClassVar[Mapping[str, float]] = {"sgd": 0.9, "background": 0.999, "ema": 0.999}
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "public-code": {
            "options": {
                "mine": False,
                "background": False,
                "foreground": False,
                "ema": False,
                "scale": 10.0,
            },
            "training": {"weight_decay": 5e-4},
        }
    }
    SHOTS_SHARE_TRAINING: ClassVar[bool] = False
    SUPPORT_MAPS: ClassVar[bool] = False
    SCORING_OPTIONS: ClassVar[frozenset[str]] = frozenset({"fusion", "neighbours", "rectify"})

    options: Options
    background: Tensor  # [c], p_bg^global of Eq. 6; zero before the first step
    background_sum: Tensor  # [c], sum of the background prototypes of this step
    background_count: Tensor  # [], their number
    seed: Tensor  # [], of the draws of pseudo-labelled images; stays on the CPU
    pairs: Tensor  # [], support-query pairs trained so far: the number of the next draw; on the CPU

    def __init__(self, backbone: Backbone, options: MethodOptions) -> None:
        super().__init__(backbone, options)
        channels = backbone.channels[-1]
        self.decoder = decoder(channels, self.options.clusters + 1) if self.options.mine else None
        self.average = averaging_copy(backbone) if self.options.ema else None
        self.register_buffer("background", torch.zeros(channels))
        self.register_buffer("background_sum", torch.zeros(channels))
        self.register_buffer("background_count", torch.zeros(()))
        self.register_buffer("seed", torch.randint(2**31, ()))
        self.register_buffer("pairs", torch.zeros((), dtype=torch.long))
        self.prepared: tuple[Pool, PseudoMasks] | None = None
        self.batches: PseudoBatches | None = None
        self.neighbourhood: tuple[str, Regions] | None = None  # digest of the weights, regions
        self.neighbourhood_checked = (
            False  # True: that digest is known to be of the present weights
        )

    @classmethod
    def backbone_layout(cls, backbone: str, options: MethodOptions) -> BackboneLayout:
        """Three stages at stride 8, the first block at that stride undilated as in the code."""
        return BackboneLayout(
            stages=3, output_stride=8, dilate_first=False, last_relu=False, frozen=False
        )

    @classmethod
    def options_for(cls, dataset: str) -> Mapping[str, Any]:
        """More clusters on COCO, with more objects per image; few images on synthetic."""
        known: dict[str, Mapping[str, Any]] = {
            "coco-20i": {"clusters": 15},
            "synthetic": {"pseudo_per_pair": 2, "pool_images": 200},
        }
        return known.get(dataset, {})

    @classmethod
    def check_files(cls, options: MethodOptions) -> None:
        """Raises InputError if images of ImageNet are to be read and there are none."""
        assert isinstance(options, cls.Options)
        if "imagenet" in options.unlabelled and (options.mine or options.foreground):
            imagenet_root()

    @classmethod
    def ways_of(cls, options: MethodOptions) -> None:
        """Any number of classes: each has a prototype."""

    @classmethod
    def recipe(cls, dataset: str, backbone: str) -> Mapping[str, Any]:
        """Section 4.1 for both data sets; chosen for this repository on synthetic."""
        length = {"steps": 6000, "size": 473, "lr": 1e-3}
        if dataset == "synthetic":
            length = {"steps": 160, "size": 129, "lr": 1e-2}
        return {
            **length,
            "batch": 4,
            "optimizer": "sgd",
            "schedule": "step",
            "milestones": (1 / 3, 2 / 3),
            "gamma": 0.1,
            "augment": {"resize": "corner-crop", "flip": True},
        }

    # -------------------------------------------------------------- matching

    @property
    def encoder(self) -> Backbone:
        """The trained backbone in training, the average of its weights in evaluation."""
        return self.backbone if self.training or self.average is None else self.average

    def encode(self, images: Tensor) -> Encoded:
        """[i, 3, H, W] -> features [i, c, h, w]."""
        return {"features": self.encoder(images).stages[-1]}

    def encode_support(self, encoded: Encoded, images: Tensor, masks: Tensor) -> Encoded:
        """Prototypes of each support: `foreground` [i, c] and `background` [i, c]."""
        features = encoded["features"]
        foreground = mean_under_mask(features, masks == 1)
        if self.options.foreground and not self.training:
            shown = grid_mask((masks != IGNORE).long(), (features.shape[-2], features.shape[-1]))
            embedding = masked_mean(
                features.float(), shown
            )  # mean of the image without its padding
            foreground = self.neighbours().rectified(
                foreground, embedding, self.options.neighbours, self.options.rectify
            )
        return {"foreground": foreground, "background": mean_under_mask(features, masks == 0)}

    def segment(
        self, query: Encoded, supports: Encoded, masks: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """[b, c, h, w], prototypes [b, n, k, c] -> logits [b, p, *size]: Eq. 5 before softmax."""
        background = self.rectified_background(supports["background"].mean(dim=(1, 2)))
        foreground = supports["foreground"].mean(dim=2)
        prototypes = torch.cat([background.unsqueeze(1), foreground], dim=1)
        return resize(self.options.scale * cosine_scores(query["features"], prototypes), size)

    def rectified_background(self, current: Tensor) -> Tensor:
        """Eq. 7, [b, c] -> [b, c]; in training only the global prototype, without gradient."""
        if not self.options.background:
            return current
        share = 1.0 if self.training else self.options.fusion
        known = self.background.any() * share  # 0 before the first step
        return known * self.background + (1 - known) * current

    def losses(
        self, query: Encoded, supports: Encoded, masks: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """Eq. 4."""
        logits = self.segment(query, supports, masks, (target.shape[-2], target.shape[-1]))
        return {"segmentation": segmentation_loss(logits, target)}

    # -------------------------------------------------------------- training

    def training_losses(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """Eq. 4 for the pairs, and the mining loss for `pseudo_per_pair` images per pair."""
        query, supports = self.encode_episodes(batch.query, batch.supports, batch.masks)
        losses = self.losses(query, supports, batch.masks, batch.target)
        if self.options.background and self.training:
            current = supports["background"].detach()
            self.background_sum += current.sum(dim=(0, 1, 2))
            self.background_count += current[..., 0].numel()
        if self.decoder is not None:
            losses["mining"] = self.mining_loss(self.decoder, batch)
            self.pairs += len(batch)
        return losses

    def mining_loss(self, decoder: nn.Module, batch: EpisodeBatch) -> Tensor:
        """Cross-entropy between the decoder and the pseudo masks."""
        assert self.batches is not None, "call prepare() before training"
        per_pair = self.options.pseudo_per_pair
        first = int(self.pairs) * per_pair
        samples = self.batches.take(first, len(batch) * per_pair, batch.query.shape[-1])
        images, labels = stacked(samples, self.options.strong, batch.query.device)
        return segmentation_loss(decoder(self.backbone(images).stages[-1]), labels)

    @torch.no_grad()
    def after_step(self, step: int, steps: int, momentum: Mapping[str, float]) -> None:
        """Update the background prototype by Eq. 6 and the average of the weights."""
        if self.options.background:
            current = self.background_sum / self.background_count.clamp(min=1)
            m = momentum["background"] if step > 1 else 0.0
            self.background.mul_(m).add_(current, alpha=1 - m)
        self.background_sum.zero_()
        self.background_count.zero_()
        if self.average is not None:
            decay = min(momentum["ema"], 1 - 1 / (step + 1))
            pairs = zip(self.average.parameters(), self.backbone.parameters(), strict=True)
            for kept, new in pairs:
                kept.lerp_(new, 1 - decay)

    # -------------------------------------------------------------- base images

    def prepare(self, source: BaseImages, artefacts: Artefacts) -> None:
        """Compute the pseudo masks of the pool (Eqs. 2, 3), once per data set and backbone."""
        options = self.options
        if not (options.mine or options.foreground):
            return
        pool = Pool(self.unlabelled(source), options.pool_images)
        parts = (VERSION, source.key, pool.key, options.unlabelled, options.clusters)
        key = digest("mining-pseudo-masks", *parts, weights_digest(self.backbone))

        def compute() -> dict[str, Tensor]:
            features = self.features_of(self.backbone)
            centres = representatives(features, source, options.clusters, options.pool_images)
            return pseudo_masks(features, pool, centres)

        masks = PseudoMasks(**artefacts.get(f"mining-masks-{key}", compute))
        self.prepared, self.neighbourhood = (pool, masks), None
        self.batches = None
        if options.mine:
            self.batches = PseudoBatches(pool, masks, int(self.seed))

    def unlabelled(self, source: BaseImages) -> list[Images]:
        """The sources of images in `unlabelled` (Table 5), in the same order."""
        known: dict[str, Callable[[], Images]] = {
            "train": lambda: source,
            "remain": source.remaining,
            "imagenet": imagenet,
        }
        return [known[name]() for name in self.options.unlabelled]

    def neighbours(self) -> Regions:
        """Images and regions that rectify prototypes, encoded with the present weights.

        One pass over the pool for each set of weights. They are not saved with the weights.
        """
        known = self.neighbourhood
        if known is not None and self.neighbourhood_checked:
            return known[1]
        weights, self.neighbourhood_checked = weights_digest(self.encoder), True
        if known is None or known[0] != weights:
            assert self.prepared is not None, "call prepare() before evaluation"
            found = regions(self.features_of(self.encoder), *self.prepared)
            known = (weights, Regions(**found).to(self.background.device))
            self.neighbourhood = known
        return known[1]

    def before_evaluation(self) -> None:
        """Encode the pool now, so that the first episode is not slower than the others."""
        if self.options.foreground:
            self.neighbours()

    def evaluation_state(self) -> dict[str, Tensor]:
        """The fields of `Regions`."""
        return vars(self.neighbours()).copy() if self.options.foreground else {}

    def load_evaluation_state(self, state: dict[str, Tensor]) -> None:
        found = Regions(**state).to(self.background.device)
        self.neighbourhood = (weights_digest(self.encoder), found)

    def prototypes(self, supports: Encoded, masks: Tensor) -> tuple[str, Tensor]:
        """The prototypes of Eq. 5, rectified if `foreground` is on."""
        rectified = ", rectified" if self.options.foreground else ""
        return f"stage 3 of the trained backbone{rectified}", supports["foreground"]

    def labelled_images(self, count: int) -> list[LabelledImage]:
        """Training images with their pseudo masks (Fig. 3), evenly spaced."""
        if self.prepared is None or not self.options.mine:
            return []
        pool, masks = self.prepared
        found = []
        for index in evenly_spaced(len(pool), count):
            image = pool.image(index)
            size = (image.shape[1], image.shape[2])
            found.append(LabelledImage(image, masks.mask(index, size), pool.truth(index)))
        return found

    def features_of(self, encoder: Backbone) -> Callable[[Tensor], Tensor]:
        """uint8 [3, H, W] -> [c, h, w]."""
        device = self.background.device

        def features(image: Tensor) -> Tensor:
            was = encoder.training
            with torch.autocast(device.type, enabled=False):  # trials of any precision share them
                maps: Tensor = encoder.eval()(network_input(image, device)).stages[-1][0]
            encoder.train(was)
            return maps

        return features

    def prediction_parameters(self) -> Iterator[nn.Parameter]:
        """Those of one encoder: the average replaces the trained one, the decoder only trains."""
        return (self.backbone if self.average is None else self.average).parameters()

    # -------------------------------------------------------------- modes and devices

    def train(self, mode: bool = True) -> Self:
        """Keep the average in eval mode; the weights may have changed since the last mode."""
        super().train(mode)
        self.neighbourhood_checked = False
        if self.average is not None:
            self.average.eval()
        return self

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Keep `seed` and `pairs` on the CPU: reading them from a GPU would wait in every step."""
        kept = {name: self._buffers[name] for name in ("seed", "pairs")}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._buffers.update(kept)
        return self


def decoder(channels: int, labels: int) -> nn.Sequential:
    """[i, channels, h, w] -> [i, labels, h, w]; BatchNorm and ReLU after the 3x3 layers."""
    layers: list[nn.Module] = []
    for inputs in (channels, WIDTH):
        layers += [nn.Conv2d(inputs, WIDTH, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(WIDTH, labels, 1))


def averaging_copy(backbone: Backbone) -> Backbone:
    """A copy for the average of the weights: no gradients, memory layout for evaluation."""
    return copy.deepcopy(backbone).requires_grad_(False).to(memory_format=torch.channels_last)

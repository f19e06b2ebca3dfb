"""The contract of a few-shot segmentation method.

Shapes   b episodes, n ways, k shots, p = n + 1 classes (0 is background), H x W pixels.
Masks    1 object, 0 background, 255 ignored.

The network is cut where a cache can be put: `encode` depends on an image alone, `encode_query` on
the query image, `encode_support` on an image with its mask, `segment` on the whole episode. What
`encode` and its two followers return is a dict of tensors whose first axis is the image.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from fssplat.backbones import Backbone, BackboneLayout
from fssplat.data.batch import EpisodeBatch

Encoded = dict[str, Tensor]  # name -> [images, ...]; per episode once grouped: [b, n, k, ...]


class MethodOptions(BaseModel):
    """A method's switches; the defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Images(Protocol):
    """Images by number, at their own size."""

    key: str  # changes with whatever can change what is read

    def __len__(self) -> int: ...

    def image(self, index: int) -> Tensor:
        """uint8 [3, H, W], RGB."""
        ...


class BaseImages(Images, Protocol):
    """The training images of a fold with the labels of its base classes: what `prepare` reads."""

    classes: tuple[int, ...]  # the base classes' ids

    def label(self, index: int) -> Tensor:
        """int64 [H, W]: class ids of the data set; 0 background, 255 ignored, no novel class."""
        ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image once: float32 [i, 3, H, W] as the network takes them, int64 [i, H, W]."""
        ...

    def remaining(self) -> Images:
        """Images of the training split that show no base class; nobody reads their labels."""
        ...


class Artefacts(Protocol):
    """Results kept by content; the engine's cache is one."""

    def get(self, key: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors under `key`, computed once and from then on read back, on the CPU."""
        ...


class FewShotSegmenter(nn.Module):
    """A backbone, a head, and the paper's maths between them."""

    Options: ClassVar[type[MethodOptions]] = MethodOptions
    LOSS_WEIGHTS: ClassVar[Mapping[str, float]] = {"segmentation": 1.0}
    MOMENTUM: ClassVar[Mapping[str, float]] = {"sgd": 0.9}
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    RESULT_VERSION: ClassVar[int] = 1
    TRAINED: ClassVar[bool] = True
    SHOTS_SHARE_TRAINING: ClassVar[bool] = True
    # Options that neither the network's parts nor its training depend on: only `segment` reads them
    SCORING_OPTIONS: ClassVar[frozenset[str]] = frozenset()
    # Whether label 255 is left out of the training loss, or is background
    LOSS_IGNORES_255: ClassVar[bool] = True
    # Where shots meet: inside `segment`, or after it, one segmentation per shot.
    SHOT_FUSION: ClassVar[Literal["network", "vote", "mean-mask"]] = "network"

    options: MethodOptions

    def __init__(self, backbone: Backbone, options: MethodOptions) -> None:
        super().__init__()
        self.backbone = backbone
        self.options = options

    @classmethod
    def options_for(cls, dataset: str) -> Mapping[str, Any]:
        """Switches that the paper sets otherwise on this data set; the file's own come on top."""
        return {}

    @classmethod
    def backbone_layout(cls, backbone: str, options: MethodOptions) -> BackboneLayout:
        """How this method wants its backbone built: stages, stride, dilation, block outputs."""
        return BackboneLayout()

    @classmethod
    def fewest_episodes(cls, options: MethodOptions) -> int:
        """A training pass with fewer is impossible, e.g. for BatchNorm over single values."""
        return 1

    @classmethod
    def ways_of(cls, options: MethodOptions) -> int | None:
        """How many classes an episode has for this method; None: as many as the grid says."""
        return 1

    @classmethod
    def recipe(cls, dataset: str, backbone: str) -> Mapping[str, Any]:
        """TrainingSpec fields as the paper trains on this data set."""
        raise NotImplementedError

    def encode(self, images: Tensor) -> Encoded:
        """[i, 3, H, W] -> what depends on each image alone, for queries and supports alike."""
        raise NotImplementedError

    def encode_query(self, encoded: Encoded) -> Encoded:
        """What only a query needs, from `encode`'s output; the same dict where nothing is added."""
        return encoded

    def encode_support(self, encoded: Encoded, images: Tensor, masks: Tensor) -> Encoded:
        """`encode`'s output, [i, 3, H, W], [i, H, W] -> what depends on the image and its mask."""
        return encoded

    @abstractmethod
    def segment(
        self, query: Encoded, supports: Encoded, masks: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """[b, ...], [b, n, k, ...], [b, n, k, H, W] -> logits [b, p, *size]."""

    @abstractmethod
    def losses(
        self, query: Encoded, supports: Encoded, masks: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """Unweighted, by name: `loss_weights.<name>` scales a term and MLflow shows it."""

    # -------------------------------------------------------------- shared by all

    def encode_episodes(
        self, query: Tensor, supports: Tensor, masks: Tensor
    ) -> tuple[Encoded, Encoded]:
        """[b, 3, H, W], [b, n, k, 3, H, W], [b, n, k, H, W] -> query and supports, encoded.

        One backbone pass for all images where their sizes agree and statistics are frozen.
        """
        b, lead = len(query), supports.shape[:3]
        flat = supports.flatten(0, 2)
        flat_masks = masks.flatten(0, 2)
        by_batch = self.backbone.training and self.backbone.batch_statistics
        if query.shape[1:] == flat.shape[1:] and not by_batch:
            both = self.encode(torch.cat([query, flat]))
            of_query = {name: value[:b] for name, value in both.items()}
            of_supports = {name: value[b:] for name, value in both.items()}
            encoded = self.encode_support(of_supports, flat, flat_masks)
            return self.encode_query(of_query), grouped(encoded, lead)
        of_query = self.encode_query(self.encode(query))
        shots = []
        for shot in range(lead[2]):  # as the public code: one pass per image of an episode
            images, shot_masks = supports[:, :, shot].flatten(0, 1), masks[:, :, shot].flatten(0, 1)
            encoded = self.encode_support(self.encode(images), images, shot_masks)
            shots.append(grouped(encoded, lead[:2]))
        return of_query, {name: torch.stack([s[name] for s in shots], dim=2) for name in shots[0]}

    def training_losses(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """The losses of a batch of training episodes, unweighted."""
        query, supports = self.encode_episodes(batch.query, batch.supports, batch.masks)
        return self.losses(query, supports, batch.masks, batch.target)

    def forward(self, query: Tensor, supports: Tensor, masks: Tensor) -> Tensor:
        """Images of whole episodes -> logits [b, p, H, W]; nothing cached."""
        encoded_query, encoded_supports = self.encode_episodes(query, supports, masks)
        size = (query.shape[-2], query.shape[-1])
        return self.segment(encoded_query, encoded_supports, masks, size)

    def prepare(self, source: BaseImages, artefacts: Artefacts) -> None:
        """What the paper computes from the base images (prototypes, masks). Default: nothing.

        Called on the built network, before weights are read back, whether it is to be trained,
        resumed or only scored.
        """

    def after_step(self, step: int, steps: int, momentum: Mapping[str, float]) -> None:
        """Update moving averages after optimiser step `step` (from 1) of `steps`. Default: nothing.

        `momentum` has the trial's value of every term in MOMENTUM.
        """

    def take_scoring_options(self, options: Mapping[str, Any]) -> None:
        """Read SCORING_OPTIONS as this trial has them; the weights serve several trials."""
        own = {name: options[name] for name in self.SCORING_OPTIONS if name in options}
        whole = {**self.options.model_dump(), **own}
        self.options = type(self.options).model_validate(whole)

    def before_evaluation(self) -> None:
        """Once before episodes are scored, in eval mode with its weights in. Default: nothing."""

    def evaluation_state(self) -> dict[str, Tensor]:
        """What scoring reads besides the weights, after `before_evaluation`. Default: nothing.

        With it a model scores where the base images are not at hand.
        """
        return {}

    def load_evaluation_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `evaluation_state` gave, into a network that has the same weights."""

    def learnable(self) -> dict[str, nn.Parameter]:
        """Parameters that training changes, by name: the head, and the backbone where trained."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


def grouped(encoded: Encoded, lead: tuple[int, ...] | torch.Size) -> Encoded:
    """First axis of every tensor split into `lead`, e.g. images -> [b, n, k]."""
    return {name: value.reshape(*lead, *value.shape[1:]) for name, value in encoded.items()}


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with aligned corners, as all five public implementations do: [b, c, h, w]."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)

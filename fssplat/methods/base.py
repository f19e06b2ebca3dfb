"""The contract of a few-shot segmentation method.

Shapes   b episodes, n ways, k shots, p = n + 1 classes (0 is background), H x W pixels.
Masks    1 object, 0 background, 255 ignored.

The network is divided into four steps, so that results can be cached between them: `encode` depends
on an image alone, `encode_query` on the query image, `encode_support` on an image and its mask,
`segment` on the whole episode. The three `encode` steps return dicts of tensors; the first axis of
each tensor counts images.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from fssplat.backbones import Backbone, BackboneLayout
from fssplat.data.batch import EpisodeBatch

Fusion = Literal["vote", "mean-mask", "mean-binary"]  # of segmentations of one shot each
Encoded = dict[str, Tensor]  # name -> [images, ...]; per episode once grouped: [b, n, k, ...]


class MethodOptions(BaseModel):
    """The switches of a method. Their defaults are those of the paper."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Images(Protocol):
    """Images by number, each at its original size."""

    key: str  # two sources with equal keys give equal images

    def __len__(self) -> int: ...

    def image(self, index: int) -> Tensor:
        """uint8 [3, H, W], RGB."""
        ...


class BaseImages(Images, Protocol):
    """Training images of a fold with the labels of its base classes, as `prepare` reads them."""

    classes: tuple[int, ...]  # the base classes' ids

    def label(self, index: int) -> Tensor:
        """int64 [H, W]: class ids of the data set; 0 background, 255 ignored, no novel class."""
        ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each image once: network input float32 [i, 3, H, W] and labels int64 [i, H, W]."""
        ...

    def remaining(self) -> Images:
        """Images of the training split that show no base class. Their labels are never read."""
        ...


class Artefacts(Protocol):
    """A store of computed tensors by key; the engine passes its cache."""

    def get(self, key: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors under `key`, on the CPU. They are computed only if not yet stored."""
        ...


@dataclass(frozen=True)
class View:
    """A map inside a network, to be drawn beside the images of its episode."""

    values: Tensor  # [b, h, w], any grid over the whole network input
    of: Literal["query", "support"] = "query"  # a support: the first shot of the first way
    # unit: 0 to 1; free: any numbers; labels: whole numbers, 0 background
    scale: Literal["unit", "free", "labels"] = "unit"


@dataclass(frozen=True)
class LabelledImage:
    """A training image with the labels that a method has computed for it."""

    image: Tensor  # uint8 [3, H, W], RGB
    labels: Tensor  # uint8 [H, W], 0 background
    truth: Tensor | None = None  # int64 [H, W], class ids of the base classes, 255 ignored


class FewShotSegmenter(nn.Module):
    """A backbone, a head, and the maths of the paper between them."""

    Options: ClassVar[type[MethodOptions]] = MethodOptions
    LOSS_WEIGHTS: ClassVar[Mapping[str, float]] = {"segmentation": 1.0}
    MOMENTUM: ClassVar[Mapping[str, float]] = {"sgd": 0.9}
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    RESULT_VERSION: ClassVar[int] = 1
    TRAINED: ClassVar[bool] = True
    SHOTS_SHARE_TRAINING: ClassVar[bool] = True
    # Options that only `segment` reads: neither the layers nor the training depend on them
    SCORING_OPTIONS: ClassVar[frozenset[str]] = frozenset()
    # Options that are newer than the first results: at their default they are no part of a trial's
    # id, so that earlier results keep theirs
    LATER_OPTIONS: ClassVar[frozenset[str]] = frozenset()
    # True: pixels labelled 255 are left out of the training loss; False: they are background
    LOSS_IGNORES_255: ClassVar[bool] = True
    # True: `encode_support` returns maps that have the size of their image, so all supports of an
    # episode need one size; False: it returns vectors alone
    SUPPORT_MAPS: ClassVar[bool] = True
    # How shots are combined: inside `segment` (network), or by fusing one segmentation per shot
    SHOT_FUSION: ClassVar[Literal["network", "vote", "mean-mask"]] = "network"

    options: MethodOptions

    def __init__(self, backbone: Backbone, options: MethodOptions) -> None:
        super().__init__()
        self.backbone = backbone
        self.options = options

    @property
    def shot_fusion(self) -> Fusion:
        """How segmentations of one shot each are fused, if shots are not combined inside."""
        assert self.SHOT_FUSION != "network"
        return self.SHOT_FUSION

    @classmethod
    def options_for(cls, dataset: str) -> Mapping[str, Any]:
        """Options that differ on this data set; the experiment file can change them again."""
        return {}

    @classmethod
    def backbone_layout(cls, backbone: str, options: MethodOptions) -> BackboneLayout:
        """The backbone that this method needs: its stages, stride, dilation and block outputs."""
        return BackboneLayout()

    @classmethod
    def fewest_episodes(cls, options: MethodOptions) -> int:
        """Fewest episodes per training pass; 2 if a BatchNorm would see single values otherwise."""
        return 1

    @classmethod
    def ways_of(cls, options: MethodOptions) -> int | None:
        """Number of classes in an episode; None if the method takes any number (`grid.way`)."""
        return 1

    @classmethod
    def check_files(cls, options: MethodOptions) -> None:
        """Raises InputError if a file that the method reads beside the data set is missing."""

    @classmethod
    def recipe(cls, dataset: str, backbone: str) -> Mapping[str, Any]:
        """TrainingSpec fields with which the paper trains on this data set."""
        raise NotImplementedError

    def encode(self, images: Tensor) -> Encoded:
        """[i, 3, H, W] -> features that depend on each image alone, for queries and supports."""
        raise NotImplementedError

    def encode_query(self, encoded: Encoded) -> Encoded:
        """The output of `encode` -> features of a query. Default: the same dict."""
        return encoded

    def encode_support(self, encoded: Encoded, images: Tensor, masks: Tensor) -> Encoded:
        """The output of `encode`, [i, 3, H, W], [i, H, W] -> features of an image and its mask."""
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
        """Loss terms by name, unweighted: `loss_weights.<name>` scales each, MLflow shows each."""

    # -------------------------------------------------------------- for pictures, all optional

    def views(self, query: Tensor, supports: Tensor, masks: Tensor) -> dict[str, View]:
        """Images of whole episodes, as in `forward` -> maps inside the network, by name.

        Called in eval mode, without gradients, and only when pictures are drawn. It must not change
        the network. A method with another `SHOT_FUSION` than network gets one shot. Default: none.
        """
        return {}

    def prototypes(self, supports: Encoded, masks: Tensor) -> tuple[str, Tensor] | None:
        """[b, n, k, ...], [b, n, k, H, W] -> a layer in words, its object vectors [b, n, k, c].

        A vector describes the object of one support. Default: the method has none.
        """
        return None

    def labelled_images(self, count: int) -> list[LabelledImage]:
        """At most `count` training images with labels that `prepare` computed. Default: none."""
        return []

    # -------------------------------------------------------------- shared by all

    def encode_episodes(
        self, query: Tensor, supports: Tensor, masks: Tensor
    ) -> tuple[Encoded, Encoded]:
        """[b, 3, H, W], [b, n, k, 3, H, W], [b, n, k, H, W] -> encoded query and supports.

        All images go through the backbone in one pass if their sizes agree and its statistics are
        fixed.
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
        for shot in range(lead[2]):  # like the public code: one pass per image of an episode
            # Indexing keeps the strides of one image; `flatten` would change its memory format.
            images = supports[:, 0, shot] if lead[1] == 1 else supports[:, :, shot].flatten(0, 1)
            shot_masks = masks[:, :, shot].flatten(0, 1)
            encoded = self.encode_support(self.encode(images), images, shot_masks)
            shots.append(grouped(encoded, lead[:2]))
        return of_query, {name: torch.stack([s[name] for s in shots], dim=2) for name in shots[0]}

    def training_losses(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """The unweighted losses of a batch of training episodes."""
        query, supports = self.encode_episodes(batch.query, batch.supports, batch.masks)
        return self.losses(query, supports, batch.masks, batch.target)

    def forward(self, query: Tensor, supports: Tensor, masks: Tensor) -> Tensor:
        """Images of whole episodes -> logits [b, p, H, W]. Nothing is cached."""
        encoded_query, encoded_supports = self.encode_episodes(query, supports, masks)
        size = (query.shape[-2], query.shape[-1])
        return self.segment(encoded_query, encoded_supports, masks, size)

    def prepare(self, source: BaseImages, artefacts: Artefacts) -> None:
        """Compute what the paper derives from the base images, e.g. prototypes. Default: nothing.

        Called once on a new network, before trained weights are loaded, also if the network is
        resumed or only scored.
        """

    def after_step(self, step: int, steps: int, momentum: Mapping[str, float]) -> None:
        """Update moving averages after optimiser step `step` (from 1) of `steps`. Default: nothing.

        `momentum` has the trial's value of every term in MOMENTUM.
        """

    def take_scoring_options(self, options: Mapping[str, Any]) -> None:
        """Use this trial's SCORING_OPTIONS; several trials can share the same weights."""
        fields = type(self.options).model_fields
        own = {name: fields[name].default for name in self.SCORING_OPTIONS & self.LATER_OPTIONS}
        own |= {name: options[name] for name in self.SCORING_OPTIONS if name in options}
        whole = {**self.options.model_dump(), **own}
        self.options = type(self.options).model_validate(whole)

    def before_evaluation(self) -> None:
        """Called once before episodes are scored, in eval mode, with weights. Default: nothing."""

    def evaluation_state(self) -> dict[str, Tensor]:
        """Tensors that scoring reads besides the weights. Default: none.

        Called after `before_evaluation`. An exported model needs them to score without the base
        images.
        """
        return {}

    def load_evaluation_state(self, state: dict[str, Tensor]) -> None:
        """Load the output of `evaluation_state` into a network that has the same weights."""

    def learnable(self) -> dict[str, nn.Parameter]:
        """Parameters that training changes, by name: the head, and the backbone if trained."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def prediction_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that the network keeps after training, to predict. Default: all.

        A method overrides it if layers of its own serve only its training.
        """
        return self.parameters()


def grouped(encoded: Encoded, lead: tuple[int, ...] | torch.Size) -> Encoded:
    """Split the first axis of every tensor into `lead`, e.g. images -> [b, n, k]."""
    return {name: value.reshape(*lead, *value.shape[1:]) for name, value in encoded.items()}


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """[b, c, h, w] -> [b, c, *size], bilinear with aligned corners as in all public codes."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)

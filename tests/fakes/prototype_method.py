"""A small method, backbone and training data for tests of the engine: milliseconds per step."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fssplat.backbones import Backbone, BackboneLayout, Features
from fssplat.data.batch import IGNORE, EpisodeBatch
from fssplat.engine.settings import RunSettings
from fssplat.experiment.protocols import PROTOCOLS
from fssplat.experiment.schema import (
    BackboneSpec,
    DatasetSpec,
    EvaluationSpec,
    MethodSpec,
    TrainingSpec,
)
from fssplat.experiment.trial import Trial
from fssplat.methods.base import Encoded, FewShotSegmenter, MethodOptions, resize

SIZE = 32


class TwoStageBackbone(Backbone):
    """Two strided convolutions with BatchNorm."""

    channels = (8, 16)
    strides = (2, 4)

    def __init__(self, layout: BackboneLayout) -> None:
        super().__init__(layout)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in ((3, 8), (8, 16))
        )
        self.images_seen = 0
        self.freeze()

    def stage(self, index: int, x: Tensor) -> Tensor:
        out: Tensor = self.stages[index - 1](x)
        return out

    def features(self, images: Tensor, upto: int) -> Features:
        self.images_seen += len(images)
        outputs = []
        for index in range(1, min(upto, 2) + 1):
            images = self.stage(index, images)
            outputs.append(images)
        return Features(tuple(outputs))


class PrototypeMethod(FewShotSegmenter):
    """Cosine with the mean foreground and background feature, after a learnable layer."""

    LOSS_WEIGHTS = {"segmentation": 1.0, "half": 0.5}

    def __init__(self, backbone: Backbone, options: MethodOptions | None = None) -> None:
        super().__init__(backbone, options or MethodOptions())
        self.head = nn.Sequential(nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.Dropout2d(0.2))
        self.register_buffer("average", torch.zeros(()))  # an EMA, as some methods keep

    def encode(self, images: Tensor) -> Encoded:
        return {"map": self.backbone(images).stages[-1]}

    def segment(
        self, query: Encoded, supports: Encoded, masks: Tensor, size: tuple[int, int]
    ) -> Tensor:
        b, n, k = masks.shape[:3]
        features = F.normalize(self.head(query["map"]), dim=1)
        shots = self.head(supports["map"].flatten(0, 2)).unflatten(0, (b, n, k))
        centres = [
            self._centre(shots, masks == 0).mean(1),
            *self._centre(shots, masks == 1).unbind(1),
        ]
        prototypes = F.normalize(torch.stack(centres, dim=1), dim=2)
        return resize(10 * torch.einsum("bchw,bpc->bphw", features, prototypes), size)

    def _centre(self, shots: Tensor, inside: Tensor) -> Tensor:
        """[b, n, k, c, h, w], [b, n, k, H, W] -> [b, n, c]."""
        weight = resize(inside.float().flatten(0, 1), (shots.shape[-2], shots.shape[-1]))
        weight = weight.unflatten(0, inside.shape[:2])
        total = torch.einsum("bnkchw,bnkhw->bnc", shots, weight)
        return total / weight.sum(dim=(2, 3, 4)).clamp(min=1e-3).unsqueeze(-1)

    def losses(
        self, query: Encoded, supports: Encoded, masks: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        logits = self.segment(query, supports, masks, (target.shape[-2], target.shape[-1]))
        loss = F.cross_entropy(logits, target, ignore_index=IGNORE)
        return {"segmentation": loss, "half": loss.square()}

    def after_step(self, step: int, steps: int, momentum: Mapping[str, float]) -> None:
        self.average.mul_(0.9).add_(0.1 * self.head[0].weight.detach().mean())


def prototype_network(seed: int = 0, **layout: Any) -> PrototypeMethod:
    """The backbone's weights are always the same; `seed` sets those of the head."""
    torch.manual_seed(0)
    backbone = TwoStageBackbone(BackboneLayout(stages=2, **layout))
    torch.manual_seed(seed)
    return PrototypeMethod(backbone)


def squares_batch(number: int, batch: int = 4, shot: int = 1, size: int = SIZE) -> EpisodeBatch:
    """Episodes of bright squares on noise, a pure function of the number."""
    draw = torch.Generator().manual_seed(number)
    images = torch.randn(batch, 1 + shot, 3, size, size, generator=draw)
    masks = torch.zeros(batch, 1 + shot, size, size, dtype=torch.int64)
    corners = torch.randint(0, size // 2, (batch, 1 + shot, 2), generator=draw)
    for b in range(batch):
        for i in range(1 + shot):
            y, x = corners[b, i].tolist()
            images[b, i, :, y : y + size // 2, x : x + size // 2] += 2
            masks[b, i, y : y + size // 2, x : x + size // 2] = 1
    return EpisodeBatch(
        query=images[:, 0],
        target=masks[:, 0],
        supports=images[:, 1:].unsqueeze(1),
        masks=masks[:, 1:].unsqueeze(1),
    )


class SquaresData:
    """Batches from `squares_batch`; starting the stream draws random numbers, as a loader may."""

    def steps(self, trial: Trial) -> int:
        assert trial.training.steps is not None
        return trial.training.steps

    def batches(
        self, trial: Trial, first_step: int, steps: int, settings: RunSettings
    ) -> Iterator[EpisodeBatch]:
        torch.rand(3)
        for step in range(first_step, steps):
            yield squares_batch(step, trial.training.batch)


def prototype_trial(**training: Any) -> Trial:
    """A trial of the small method; the keywords are settings of its training."""
    chosen = {"steps": 14, "batch": 4, "size": SIZE, "lr": 0.1, "schedule": "poly", **training}
    return Trial(
        dataset=DatasetSpec(name="synthetic"),
        train_on=DatasetSpec(name="synthetic"),
        fold=0,
        shot=1,
        method=MethodSpec(
            name="tiny", loss_weights=dict(PrototypeMethod.LOSS_WEIGHTS), momentum={"sgd": 0.9}
        ),
        backbone=BackboneSpec(name="small", weights="random"),
        training=TrainingSpec(**chosen),
        protocol=PROTOCOLS["fssplat"],
        evaluation=EvaluationSpec(),
        method_version=1,
    )

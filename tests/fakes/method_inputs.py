"""A backbone of four small convolutions, random episodes and base images, for tests of methods."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fssplat.backbones import Backbone, BackboneLayout, Features
from fssplat.data.batch import EpisodeBatch
from fssplat.methods.base import FewShotSegmenter


class FourStageBackbone(Backbone):
    """Stages of 6, 8, 10 and 12 channels at strides 4, 8, 8, 8."""

    channels = (6, 8, 10, 12)
    strides = (4, 8, 8, 8)

    def __init__(self, layout: BackboneLayout) -> None:
        super().__init__(layout)
        widths, steps = (3, *self.channels), (4, 2, 1, 1)
        convs = [
            nn.Conv2d(widths[i], widths[i + 1], 3, stride=steps[i], padding=1)
            for i in range(layout.stages)
        ]
        self.convs = nn.ModuleList(convs)
        self.channels = self.channels[: layout.stages]
        self.strides = self.strides[: layout.stages]
        self.freeze()

    def features(self, images: Tensor, upto: int) -> Features:
        found = []
        for index in range(1, upto + 1):
            images = self.stage(index, images)
            found.append(images)
        return Features(tuple(found))

    def stage(self, index: int, x: Tensor) -> Tensor:
        return self.convs[index - 1](x).relu()


def random_episodes(
    b: int = 2,
    n: int = 1,
    k: int = 1,
    side: int = 41,
    seed: int = 0,
    values: tuple[int, ...] = (0, 1, 255),
) -> EpisodeBatch:
    """Random images; each mask consists of 4 x 4 blocks with a random one of `values`."""
    draw = torch.Generator().manual_seed(seed)
    masks = torch.zeros(b, n, k, side, side, dtype=torch.long)
    chosen = torch.tensor(values)
    blocks = chosen[torch.randint(len(values), (b, n, k, 4, 4), generator=draw)]
    pixel = torch.arange(side) * 4 // side
    masks = blocks[..., pixel, :][..., pixel]
    target = masks[:, :, 0].amax(dim=1) if values == (0, 1) else masks[:, 0, 0].clone()
    return EpisodeBatch(
        query=torch.randn(b, 3, side, side, generator=draw),
        target=target,
        supports=torch.randn(b, n, k, 3, side, side, generator=draw),
        masks=masks,
    )


def check_finite(built: FewShotSegmenter, batch: EpisodeBatch) -> None:
    """Assert that every named loss and the gradient of every learnable parameter are finite."""
    losses = built.training_losses(batch)
    assert set(losses) == set(built.LOSS_WEIGHTS)
    torch.stack(list(losses.values())).sum().backward()
    assert all(loss.isfinite() for loss in losses.values())
    for name, parameter in built.learnable().items():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


class BaseImages:
    """Four base images for `prepare`, in place of the engine's stream."""

    key = "tiny"
    classes = (3, 7, 9)

    def __init__(self, side: int = 41) -> None:
        draw = torch.Generator().manual_seed(5)
        self.images = torch.randn(4, 3, side, side, generator=draw)
        self.labels = torch.zeros(4, side, side, dtype=torch.long)
        self.labels[0, :20], self.labels[1, :, 10:] = 3, 7
        self.labels[2, 5:15, 5:15], self.labels[2, 30:] = 3, 7
        self.labels[3] = 255  # no image shows class 9

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Tensor:
        return (self.images[index].clamp(0, 1) * 255).to(torch.uint8)

    def label(self, index: int) -> Tensor:
        return self.labels[index]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.images[:3], self.labels[:3]
        yield self.images[3:], self.labels[3:]

    def remaining(self) -> "BaseImages":
        return self


class MemoryArtefacts:
    """Artefacts in a dict; each is computed once."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Tensor]] = {}

    def get(self, key, compute):  # type: ignore[no-untyped-def]
        if key not in self.kept:
            self.kept[key] = compute()
        return self.kept[key]

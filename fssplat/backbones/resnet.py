"""ResNet-50 and -101 with bottlenecks, as torchvision builds them or with the deep stem.

Source   He et al., CVPR 2016; the stride of a stage sits in its first 3x3 convolution (v1.5).
Stems    plain: 7x7 to 64 channels. v2: three 3x3 convolutions to 64, 64 and 128 channels, the
         stem that PFENet, MM-Net and MiningFSS use. Both end in a 3x3 max pool of stride 2.
Names    stem.0, stem.1, ... then layer1 to layer4 with torchvision's names inside.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fssplat.backbones.base import Backbone, BackboneLayout, Features

RESIDUAL = 0.25  # scale of what a block with random weights adds to its input
EXPANSION = 4  # output channels of a bottleneck, in multiples of its width
DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
WIDTHS = (64, 128, 256, 512)


class Bottleneck(nn.Module):
    """1x1 convolution, 3x3 with stride and dilation, 1x1, added to the input; without last ReLU."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> the sum before its ReLU, [b, 4 width, h / stride, w / stride]."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.add(y, shortcut)


class ResNet(Backbone):
    """`depth` 50 or 101; `deep_stem` for the v2 variants."""

    def __init__(self, layout: BackboneLayout, depth: int, deep_stem: bool) -> None:
        super().__init__(layout)
        self.stem, inputs = _deep_stem() if deep_stem else _plain_stem()
        reduction, dilation, strides = 4, 1, []
        for index in range(layout.stages):
            stride = 1 if index == 0 else 2
            first_dilation = dilation
            if reduction * stride > layout.output_stride:
                dilation, stride = dilation * 2, 1
            if layout.dilate_first:
                first_dilation = dilation
            reduction *= stride
            strides.append(reduction)
            width = WIDTHS[index]
            blocks = [Bottleneck(inputs, width, stride, first_dilation)]
            inputs = width * EXPANSION
            blocks += [
                Bottleneck(inputs, width, 1, dilation) for _ in range(DEPTHS[depth][index] - 1)
            ]
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
        self.strides = tuple(strides)
        self.channels = tuple(width * EXPANSION for width in WIDTHS[: layout.stages])
        counts = zip(self.channels, DEPTHS[depth], strict=False)
        self.block_channels = tuple((channels,) * count for channels, count in counts)
        _initialise(self)

    def features(self, images: Tensor, upto: int) -> Features:
        x = self.stem(images)
        stages: list[Tensor] = []
        blocks: list[tuple[Tensor, ...]] = []
        for index in range(1, upto + 1):
            x, sums = self._run(index, x)
            stages.append(x)
            blocks.append(sums)
        return Features(tuple(stages), tuple(blocks) if self.layout.blocks else ())

    def stage(self, index: int, x: Tensor) -> Tensor:
        return self._run(index, x)[0]

    def _run(self, index: int, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run one stage; return its output and, if requested, its blocks' sums before the ReLU."""
        layout = self.layout
        layer = self.get_submodule(f"layer{index}")
        assert isinstance(layer, nn.Sequential)
        sums = []
        for number, block in enumerate(layer, start=1):
            x = block(x)
            if layout.blocks:
                sums.append(x)
            very_last = index == layout.stages and number == len(layer)
            if layout.last_relu or not very_last:
                x = F.relu(x, inplace=not layout.blocks)
        return x, tuple(sums)


def _plain_stem() -> tuple[nn.Sequential, int]:
    conv = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(64), nn.ReLU(inplace=True), pool), 64


def _deep_stem() -> tuple[nn.Sequential, int]:
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((3, 64, 2), (64, 64, 1), (64, 128, 1)):
        layers.append(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False))
        layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.MaxPool2d(3, stride=2, padding=1)), 128


def _initialise(network: nn.Module) -> None:
    """He's normal initialisation by fan-out as in torchvision; BatchNorm starts at 1 and 0.

    Only the last BatchNorm of a block starts at `RESIDUAL`. Fixed statistics do not rescale, and
    with a scale of 1 the variance would double at each of 33 blocks, until products overflow.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, Bottleneck):
            nn.init.constant_(module.bn3.weight, RESIDUAL)


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's entries, PFENet's `layer0.*`, and semseg's and MiningFSS's stems."""
    three = {"conv1": "0", "bn1": "1", "conv2": "3", "bn2": "4", "conv3": "6", "bn3": "7"}
    nested = any(name.startswith("conv1.0.") for name in state)
    deep = "conv3.weight" in state
    result = {}
    for name, value in state.items():
        head, _, rest = name.partition(".")
        if head == "layer0":
            name = f"stem.{rest}"
        elif nested and head in ("conv1", "bn1"):
            name = f"stem.{rest}" if head == "conv1" else f"stem.7.{rest}"
        elif head in (three if deep else ("conv1", "bn1")):
            name = f"stem.{three[head]}.{rest}"
        result[name] = value
    return result

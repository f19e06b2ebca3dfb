"""VGG-16 with and without BatchNorm, divided into stages as in PFENet and HSNet.

Source   Simonyan and Zisserman, ICLR 2015; layers as torchvision's `features`.
Stages   The five groups end after the first four pools and after the last convolution block: the
         first is the stem, the others are stages 1 to 4 at strides 4, 8, 16, 16; PANet's pools
         are 3 x 3, as in its code, the fourth of stride 1, and its last group is dilated by 2.
Blocks   Convolution outputs before their ReLU, grouped by stride: 4, 8, 16, and the fifth pool at
         32, as in HSNet. They are one stage later than the stages.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from fssplat.backbones.base import Backbone, BackboneLayout, Features

GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(Backbone):
    """`layout.output_stride` is ignored: methods such as PFENet use VGG at stride 16.

    `layout.dilate_vgg` gives PANet's variant.
    """

    def __init__(self, layout: BackboneLayout, batch_norm: bool) -> None:
        super().__init__(layout)
        inputs = 3
        self.strides = ((4, 8, 8, 8) if layout.dilate_vgg else (4, 8, 16, 16))[: layout.stages]
        for index in range(layout.stages + 1):
            layers: list[nn.Module] = []
            for outputs in GROUPS[index]:
                wide = 2 if index == 4 and layout.dilate_vgg else 1
                layers.append(nn.Conv2d(inputs, outputs, 3, padding=wide, dilation=wide))
                layers += [nn.BatchNorm2d(outputs)] if batch_norm else []
                layers.append(nn.ReLU())
                inputs = outputs
            if index < 4 and layout.dilate_vgg:
                layers.append(nn.MaxPool2d(3, stride=1 if index == 3 else 2, padding=1))
            elif index < 4:
                layers.append(nn.MaxPool2d(2, stride=2, ceil_mode=layout.ceil_pools))
            self.add_module(group_name(index), nn.Sequential(*layers))
        self.channels = tuple(group[-1] for group in GROUPS[1 : layout.stages + 1])
        self.block_channels = (*GROUPS[2:], (512,))[: layout.stages]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def features(self, images: Tensor, upto: int) -> Features:
        stages: list[Tensor] = []
        blocks: list[tuple[Tensor, ...]] = []
        x = images
        for index in range(upto + 1):
            x, outputs = self._run(index, x)
            stages.append(x)
            blocks.append(outputs)
        if not self.layout.blocks:
            return Features(tuple(stages[1:]))
        fifth = F.max_pool2d(x, 2, 2, ceil_mode=self.layout.ceil_pools)
        per_stride = (*blocks[2:], (fifth,)) if upto == 4 else tuple(blocks[2:])
        return Features(tuple(stages[1:]), per_stride)

    def stage(self, index: int, x: Tensor) -> Tensor:
        return self._run(index, x)[0]

    def _run(self, index: int, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run a group (0 is the stem); return its output and the inputs of its ReLUs."""
        group = self.get_submodule(group_name(index))
        assert isinstance(group, nn.Sequential)
        relus = [number for number, layer in enumerate(group) if isinstance(layer, nn.ReLU)]
        very_last = relus[-1] if index == self.layout.stages and not self.layout.last_relu else -1
        outputs = []
        for number, layer in enumerate(group):
            if number in relus:
                outputs.append(x)
            x = x if number == very_last else layer(x)
        return x, tuple(outputs)


def group_name(index: int) -> str:
    return f"layer{index}" if index else "stem"


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's `features.N.*` and PFENet's `layerG.N.*`, not the classifier."""
    batch_norm = any(name.endswith("running_mean") for name in state)
    places = {}  # torchvision counts layers through all groups
    number = 0
    for index, group in enumerate(GROUPS):
        for inside in range(len(group) * (3 if batch_norm else 2) + 1):
            places[str(number)] = f"{group_name(index)}.{inside}"
            number += 1
    result = {}
    for name, value in state.items():
        head, _, rest = name.partition(".")
        layer, _, leaf = rest.partition(".")
        if head == "features":
            name = f"{places[layer]}.{leaf}"
        elif head == "layer0":
            name = f"stem.{rest}"
        result[name] = value
    return result

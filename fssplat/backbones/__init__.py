"""Where do features come from? Backbones by name, and any `timm:<name>`."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fssplat.backbones import resnet, timm_models, vgg, weights
from fssplat.backbones.base import Backbone, BackboneLayout, Features
from fssplat.common.errors import InputError
from fssplat.common.similar import known
from fssplat.experiment.schema import BackboneSpec

__all__ = [
    "BACKBONES", "Backbone", "BackboneLayout", "Features", "build_backbone", "known_backbone",
    "require_backbone",
]  # fmt: skip

BACKBONES: dict[str, Callable[[BackboneLayout], Backbone]] = {
    "resnet50": lambda layout: resnet.ResNet(layout, depth=50, deep_stem=False),
    "resnet101": lambda layout: resnet.ResNet(layout, depth=101, deep_stem=False),
    "resnet50_v2": lambda layout: resnet.ResNet(layout, depth=50, deep_stem=True),
    "resnet101_v2": lambda layout: resnet.ResNet(layout, depth=101, deep_stem=True),
    "vgg16": lambda layout: vgg.VGG16(layout, batch_norm=False),
    "vgg16_bn": lambda layout: vgg.VGG16(layout, batch_norm=True),
    "efficientnet_lite0": lambda layout: timm_models.TimmBackbone(layout, timm_models.LITE0),
}

# The first ImageNet weights of torchvision, which the papers' code downloads.
URLS = {
    "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    "resnet101": "https://download.pytorch.org/models/resnet101-63fe2227.pth",
    "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "vgg16_bn": "https://download.pytorch.org/models/vgg16_bn-6c64b313.pth",
}
PREFIX = "timm:"


def known_backbone(name: str) -> bool:
    """Whether `build_backbone` accepts the name; builds nothing."""
    return name in BACKBONES or (
        name.startswith(PREFIX) and timm_models.known(name.removeprefix(PREFIX))
    )


def require_backbone(name: str, where: str = "grid.backbone") -> None:
    """Raises InputError, with the most similar known name, if the name is unknown."""
    if known_backbone(name):
        return
    raise InputError(
        f"{where}: backbone {name!r} is unknown. {known(name, [*BACKBONES, 'timm:<name>'])}"
    )


def build_backbone(spec: BackboneSpec, layout: BackboneLayout) -> Backbone:
    """The backbone with its weights; the frozen part needs no gradient and is in eval mode.

    Raises InputError for an unknown name, or for weights that are missing or of another network.
    """
    require_backbone(spec.name)
    on_meta = (
        torch.get_default_device().type == "meta"
    )  # only shapes, for example to count parameters
    if on_meta or spec.weights == "random":
        backbone = _random(spec.name, layout)
    elif spec.name.startswith(PREFIX) or spec.name == "efficientnet_lite0":
        backbone = _timm(spec, layout)
    else:
        state, where = _state(spec)
        with torch.device("meta"):  # do not initialise values that are replaced
            backbone = BACKBONES[spec.name](layout)
        renamed = vgg.renamed if spec.name.startswith("vgg") else resnet.renamed
        weights.fill(backbone, renamed(state), where)
    backbone.freeze()
    return backbone


def _random(name: str, layout: BackboneLayout) -> Backbone:
    """Random values that depend only on the current seed, not on numbers drawn since it was set.

    So the values of the head are the same whether the backbone is random or loaded.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch.initial_seed())
        if name in BACKBONES:
            return BACKBONES[name](layout)
        return timm_models.TimmBackbone(layout, name.removeprefix(PREFIX))


def weight_content(spec: BackboneSpec) -> str:
    """First digits of the SHA-256 of the weight file of a spec; see `weights.content`."""
    return weights.content(spec.name, spec.weights, URLS.get(spec.name, ""))


def _state(spec: BackboneSpec) -> tuple[dict[str, Tensor], str]:
    """A public state_dict and where it was found."""
    if spec.weights != "auto":
        return weights.read_state(Path(spec.weights)), spec.weights
    found = weights.local_file(spec.name)
    if found is not None:
        return weights.read_state(found), str(found)
    if spec.name not in URLS:
        raise weights.missing(spec.name, "its public weights have no stable address")
    return weights.download(spec.name, URLS[spec.name]), URLS[spec.name]


def _timm(spec: BackboneSpec, layout: BackboneLayout) -> Backbone:
    """A timm model; a local file is loaded by timm, since it has timm's names."""
    lite0 = spec.name == "efficientnet_lite0"
    name = timm_models.LITE0 if lite0 else spec.name.removeprefix(PREFIX)
    path = Path(spec.weights) if spec.weights != "auto" else weights.local_file(spec.name)
    state: dict[str, Tensor] | str
    if path is not None:
        state = timm_models.renamed_lite0(weights.read_state(path))
    else:
        state = timm_models.lite0_state() if lite0 else "pretrained"
    with torch.random.fork_rng(devices=[]):
        try:
            return timm_models.TimmBackbone(layout, name, state)
        except InputError:
            raise
        except (OSError, RuntimeError, ValueError) as error:
            if path is not None:
                raise InputError(
                    f"{path}: not weights of {spec.name}. Give the file of the same architecture."
                ) from error
            raise weights.missing(spec.name, "timm cannot fetch its weights") from error

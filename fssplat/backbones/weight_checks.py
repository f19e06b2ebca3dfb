"""Checks the weights of a backbone before a job needs them: names and shapes, no values."""

import os
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from fssplat.backbones import BACKBONES, PREFIX, URLS, require_backbone, resnet, vgg, weights
from fssplat.backbones.base import BackboneLayout
from fssplat.common.errors import InputError
from fssplat.experiment.schema import BackboneSpec

LITE0 = "efficientnet_lite0"


def check_weights(spec: BackboneSpec, layout: BackboneLayout) -> str:
    """Raises InputError for weights that `build_backbone` would refuse.

    Returns a line if the weights will be downloaded, so that they were not checked; empty
    otherwise. Downloads nothing.
    """
    require_backbone(spec.name)
    if spec.weights == "random":
        return ""
    own = Path(spec.weights) if spec.weights != "auto" else weights.local_file(spec.name)
    path = own or file_on_disk(spec.name)
    if path is not None and own is None and spec.name == LITE0:
        _names(path)  # our own package's: only its name or a damage can be wrong
        return ""
    if path is not None:
        _check_file(spec.name, path, layout)
        return ""
    if spec.name.startswith(PREFIX):
        return _timm_download(spec.name, layout)
    if spec.name not in URLS:
        raise weights.missing(spec.name, "its public weights have no stable address")
    return _not_checked(spec.name, URLS[spec.name])


def file_on_disk(name: str) -> Path | None:
    """The file that `auto` weights are read from, or None if there is none on this machine.

    A file of the user, of an earlier download, or of a package. Raises InputError if that package
    is not installed.
    """
    path = weights.local_file(name)
    if path is None and name == LITE0:
        from fssplat.backbones.timm_models import lite0_file

        return lite0_file()
    if path is None and name in URLS:
        return weights.downloaded_file(URLS[name])
    return path


def _check_file(name: str, path: Path, layout: BackboneLayout) -> None:
    """Build the network without memory and compare its names and shapes with the file's."""
    state = _names(path)
    with torch.device("meta"):
        if name in BACKBONES and name != LITE0:
            renamed = vgg.renamed if name.startswith("vgg") else resnet.renamed
            weights.fill(BACKBONES[name](layout), renamed(state), str(path))
            return
        from fssplat.backbones import timm_models

        model = timm_models.LITE0 if name == LITE0 else name.removeprefix(PREFIX)
        try:
            timm_models.TimmBackbone(layout, model, timm_models.renamed_lite0(state))
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"{path}: not weights of {name}. Give the file of the same architecture."
            ) from error


def _timm_download(name: str, layout: BackboneLayout) -> str:
    """Where timm downloads the weights from. Raises InputError if it has none for this model."""
    import timm

    from fssplat.backbones import timm_models

    model = name.removeprefix(PREFIX)
    with torch.device("meta"):
        timm_models.TimmBackbone(layout, model)  # refuses models of other strides
    found = timm.get_pretrained_cfg(model)
    if found is None or not found.has_weights:
        raise weights.missing(name, "timm has no weights for it")
    source = f"https://huggingface.co/{found.hf_hub_id}" if found.hf_hub_id else str(found.url)
    return _not_checked(name, source)


def _not_checked(name: str, source: str) -> str:
    folder = os.environ.get("FSSPLAT_WEIGHTS") or "weights"
    stem = Path(folder) / weights.file_stem(name)
    return (
        f"backbone {name}: its weights were not checked; the first job that needs them downloads "
        f"{source}. Without a network, put the file at {stem}.pth."
    )


def _names(path: Path) -> dict[str, Tensor]:
    """Tensors without values, by the names in the file. Raises InputError as `read_state`."""
    weights.require_file(path)
    stat = path.stat()
    return dict(_read_names(path.absolute(), stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=16)
def _read_names(path: Path, size: int, changed: int) -> dict[str, Tensor]:
    return weights.read_state(path, values=False)

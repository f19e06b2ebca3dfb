"""Stack the features of single images into batches, and reorder them by shot."""

import torch
from torch import Tensor

from fssplat.common.errors import InputError
from fssplat.data.batch import IGNORE
from fssplat.engine.scoring.encoder import MASK
from fssplat.methods.base import Encoded


def stacked(encoded: list[Encoded]) -> Encoded:
    """Dicts of [1, ...] tensors -> one of [images, ...]; smaller masks are filled up with 255.

    Raises InputError if other features have different sizes.
    """
    if len(encoded) == 1:
        return dict(encoded[0])
    result = {}
    for name in encoded[0]:
        values = [one[name] for one in encoded]
        shapes = {tuple(value.shape) for value in values}
        if len(shapes) > 1 and name == MASK:
            values = padded(values)
        elif len(shapes) > 1:
            raise InputError(
                f"protocol.input original: this method's {name} has the size of its support "
                f"image, and one batch has {len(shapes)} sizes. Set protocol.input to pad."
            )
        result[name] = torch.cat(values)
    return result


def padded(masks: list[Tensor]) -> list[Tensor]:
    """[1, h, w] each -> all of the largest height and width, filled up with 255."""
    height, width = (max(mask.shape[axis] for mask in masks) for axis in (-2, -1))
    return [
        torch.nn.functional.pad(
            mask, (0, width - mask.shape[-1], 0, height - mask.shape[-2]), value=IGNORE
        )
        for mask in masks
    ]


def repeated(value: Tensor, times: int) -> Tensor:
    """[b, ...] -> [b * times, ...], each entry `times` times in a row; no copy for b = 1."""
    return value.unsqueeze(1).expand(-1, times, *value.shape[1:]).flatten(0, 1)


def shot_first(value: Tensor, lead: tuple[int, int, int]) -> Tensor:
    """[b * n * k, ...] -> [b * k * n, ...], so that the ways of one shot are neighbours."""
    if lead[1] == 1:
        return value
    return value.reshape(*lead, *value.shape[1:]).transpose(1, 2).flatten(0, 2)

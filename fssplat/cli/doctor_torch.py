"""Whether PyTorch computes on each GPU of this machine; prints JSON. Runs as its own process.

A driver that hangs, or a GPU that crashes the process, then costs one line of `fssplat doctor`.
"""

import json
from typing import TYPE_CHECKING, Any

from fssplat.common.errors import first_line
from fssplat.common.printing import say

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 256  # of the matrices


def report() -> dict[str, Any]:
    """Versions, the number of GPUs, and for each GPU an empty text or what went wrong."""
    import torch
    import torchvision

    gpus = {}
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        gpus[f"{index} {torch.cuda.get_device_name(index)}"] = trial(f"cuda:{index}")
    return {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": torch.version.cuda or "",
        "gpus": gpus,
    }


def trial(device: str) -> str:
    """Compare a matrix product and a convolution on `device` with the CPU; empty if they agree."""
    import torch

    draw = torch.Generator().manual_seed(0)
    matrix = torch.randn(SIDE, SIDE, generator=draw)
    image, kernel = matrix.view(1, 1, SIDE, SIDE), matrix[:3, :3].reshape(1, 1, 3, 3)
    try:
        on_device = matrix.to(device)
        product = (on_device @ on_device).cpu()
        there = torch.nn.functional.conv2d(on_device.view_as(image), kernel.to(device)).cpu()
    except RuntimeError as error:
        return first_line(error)
    here = torch.nn.functional.conv2d(image, kernel)
    same = near(product, matrix @ matrix) and near(there, here)
    return "" if same else "its results differ from those of the CPU"


def near(found: "Tensor", expected: "Tensor") -> bool:
    """Whether two results agree, with room for TF32, which is less exact."""
    return bool((found - expected).abs().max() < 0.01 * expected.abs().max())


if __name__ == "__main__":
    say(json.dumps(report()))

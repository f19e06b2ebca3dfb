"""Unlabelled images from a folder, e.g. the training images of ImageNet."""

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fssplat.common.errors import InputError
from fssplat.experiment.schema import digest

VARIABLE = "FSSPLAT_IMAGENET"
PER_CLASS = 10  # images, as MiningFSS samples ImageNet (Table 5)
SUFFIXES = {".jpg", ".jpeg", ".png"}


class ImageFolder:
    """A folder with one folder per class; `per_class` images of each, evenly spaced by name."""

    def __init__(self, root: Path, per_class: int = PER_CLASS) -> None:
        self.paths: list[Path] = []
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            inside = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
            kept = min(per_class, len(inside))
            self.paths += [inside[i * len(inside) // kept] for i in range(kept)]
        if not self.paths:
            raise InputError(
                f"{root}: no images in its folders. {VARIABLE} needs one folder per class."
            )
        listed = [(str(path.relative_to(root)), path.stat().st_size) for path in self.paths]
        self.key = digest("image-folder", listed)

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Tensor:
        """uint8 [3, H, W], RGB."""
        with Image.open(self.paths[index]) as opened:
            pixels = np.array(opened.convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1)


def imagenet() -> ImageFolder:
    """The images of `imagenet_root`. Raises InputError if there are none."""
    return ImageFolder(imagenet_root())


def imagenet_root() -> Path:
    """The folder in $FSSPLAT_IMAGENET. Raises InputError if there is none."""
    root = os.environ.get(VARIABLE, "")
    if not Path(root).is_dir() or not root:
        raise InputError(
            f"unlabelled: imagenet needs images, but ${VARIABLE} is {root or 'not set'}. Set it to "
            "a folder with one folder of images per class, or leave imagenet out."
        )
    return Path(root)

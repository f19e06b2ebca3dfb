"""Tiny data sets in the official layouts, small enough to check by hand."""

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.index import Dataset
from fssplat.data.labels import Label

SIZE = (24, 32)  # height, width of every picture here


def picture(number: int, size: tuple[int, int] = SIZE) -> npt.NDArray[np.uint8]:
    """Noise that differs from number to number."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8)


def jpeg(number: int, size: tuple[int, int] = SIZE, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(number, size)).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


def square(class_id: int, side: int = 8, size: tuple[int, int] = SIZE) -> Label:
    """A label with side x side pixels of the class, a row of 255 below it, background around."""
    label = np.zeros(size, dtype=np.uint8)
    label[:side, :side] = class_id
    label[side, :side] = 255
    return label


def save_pair(voc: Path, name: str, number: int, label: Label) -> None:
    """An image and its palette label in a VOC2012 folder."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True, exist_ok=True)
    (voc / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg(number))
    indexed = Image.fromarray(label).convert("P")
    indexed.save(voc / "SegmentationClass" / f"{name}.png")


def save_mat(path: Path, label: Label) -> None:
    """SBD's nesting: a struct GTcls with a field Segmentation."""
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"GTcls": {"Segmentation": label}})


def voc_layout(folder: Path, train: int = 5, val: int = 3) -> Path:
    """VOC2012 with `train` + `val` images t0.., v0.. and SBD with one more, x0, and v0 again."""
    voc, sbd = folder / "VOC2012", folder / "SBD" / "dataset"
    names = {
        "train": [f"t{number}" for number in range(train)],
        "val": [f"v{number}" for number in range(val)],
    }
    for split, of_split in names.items():
        for number, name in enumerate(of_split):
            save_pair(voc, name, number + 100 * (split == "val"), square(number % 20 + 1))
        (voc / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(of_split) + "\n")
    (sbd / "img").mkdir(parents=True)
    for number, name in enumerate(["x0", "v0", "t0"]):
        (sbd / "img" / f"{name}.jpg").write_bytes(jpeg(200 + number))
        save_mat(sbd / "cls" / f"{name}.mat", square(7, side=4))
    (sbd / "train.txt").write_text("x0\nt0\n")
    (sbd / "val.txt").write_text("v0\n")
    return folder


def coco_layout(
    folder: Path, instances: Mapping[str, Sequence[Mapping[str, Any]]], year: str = "2017"
) -> Path:
    """COCO with one image per split; `instances` of each, without their image."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    categories = [{"id": 2 * number, "name": f"thing {number}"} for number in range(80, 0, -1)]
    for number, split in enumerate(("train", "val"), start=1):
        prefix = f"COCO_{split}{year}_" if year == "2014" else ""
        name = f"{prefix}{number:012d}.jpg"
        (folder / f"{split}{year}").mkdir(exist_ok=True)
        (folder / f"{split}{year}" / name).write_bytes(jpeg(number))
        content = {
            "images": [{"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]}],
            "annotations": [
                {"image_id": number, "iscrowd": 0, **instance}
                for instance in instances.get(split, ())
            ],
            "categories": categories,
        }
        path = folder / "annotations" / f"instances_{split}{year}.json"
        path.write_text(json.dumps(content))
    return folder


def fss_layout(folder: Path, classes: Mapping[str, Sequence[str]], images: int = 2) -> Path:
    """FSS-1000 with class lists; the object is SIZE's upper left 6 x 6 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in classes.items():
        (folder / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            (folder / name).mkdir(parents=True)
            for number in range(1, images + 1):
                (folder / name / f"{number}.jpg").write_bytes(jpeg(number))
                mask = np.full((*SIZE, 3), 127, dtype=np.uint8)
                mask[:6, :6] = 128
                Image.fromarray(mask).save(folder / name / f"{number}.png")
    return folder


def tiny_voc(folder: Path, **options: Any) -> Dataset:
    """The layout of `voc_layout`, built."""
    source = voc_layout(folder / "official")
    build("pascal-5i", source, folder / "built", BuildSettings(**options))
    return Dataset.open(folder / "built")


@dataclass(frozen=True)
class DeadlyLabel:
    """Kills the process that reads it, as the kernel does when memory runs out."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self) -> Label:
        os._exit(9)

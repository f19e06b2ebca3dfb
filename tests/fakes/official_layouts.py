"""Small data sets in the official layouts; a reader can check them by hand."""

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
from fssplat.data.masks.labels import Label
from fssplat.experiment.protocols import Protocol, resolve_protocol

SIZE = (24, 32)  # height, width of every image here
SIDE = 10  # of a square: 100 pixels


def noise_image(number: int, size: tuple[int, int] = SIZE) -> npt.NDArray[np.uint8]:
    """Noise that differs from number to number."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8)


def noise_jpeg(number: int, size: tuple[int, int] = SIZE, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise_image(number, size)).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


def square_label(class_id: int, side: int = 8, size: tuple[int, int] = SIZE) -> Label:
    """A label with side x side pixels of the class, a row of 255 below it, background around."""
    label = np.zeros(size, dtype=np.uint8)
    label[:side, :side] = class_id
    label[side, :side] = 255
    return label


def save_voc_pair(voc: Path, name: str, number: int, label: Label) -> None:
    """An image and its palette label in a VOC2012 folder."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True, exist_ok=True)
    (voc / "JPEGImages" / f"{name}.jpg").write_bytes(noise_jpeg(number))
    indexed = Image.fromarray(label).convert("P")
    indexed.save(voc / "SegmentationClass" / f"{name}.png")


def save_sbd_label(path: Path, label: Label) -> None:
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
            save_voc_pair(voc, name, number + 100 * (split == "val"), square_label(number % 20 + 1))
        (voc / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(of_split) + "\n")
    (sbd / "img").mkdir(parents=True)
    for number, name in enumerate(["x0", "v0", "t0"]):
        (sbd / "img" / f"{name}.jpg").write_bytes(noise_jpeg(200 + number))
        save_sbd_label(sbd / "cls" / f"{name}.mat", square_label(7, side=4))
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
        (folder / f"{split}{year}" / name).write_bytes(noise_jpeg(number))
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
                (folder / name / f"{number}.jpg").write_bytes(noise_jpeg(number))
                mask = np.full((*SIZE, 3), 127, dtype=np.uint8)
                mask[:6, :6] = 128
                Image.fromarray(mask).save(folder / name / f"{number}.png")
    return folder


def two_squares(left: int, right: int) -> Label:
    """A label with a square of each class and a column of 255 beside the left one; 0: no square."""
    label = np.zeros(SIZE, dtype=np.uint8)
    label[2 : 2 + SIDE, 2 : 2 + SIDE] = left
    label[2 : 2 + SIDE, 2 + SIDE] = 255
    label[2 : 2 + SIDE, 20 : 20 + SIDE] = right
    return label


def built_voc_of_pairs(folder: Path, plan: Mapping[str, Sequence[tuple[int, int]]]) -> Dataset:
    """A data set of images t000.., v000.. from split -> (left class, right class) of each image."""
    voc, sbd = folder / "VOC2012", folder / "SBD" / "dataset"
    for split, pairs in plan.items():
        names = [f"{split[0]}{number:03d}" for number in range(len(pairs))]
        for number, (name, pair) in enumerate(zip(names, pairs, strict=True)):
            save_voc_pair(voc, name, number + 100 * (split == "val"), two_squares(*pair))
        (voc / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")
    for part in ("img", "cls"):
        (sbd / part).mkdir(parents=True)
    for split in ("train", "val"):
        (sbd / f"{split}.txt").write_text("")
    build("pascal-5i", folder, folder / "built")
    return Dataset.open(folder / "built")


def small_area_protocol(name: str = "fssplat", **changes: Any) -> Protocol:
    """A protocol whose area rule accepts the squares of 100 pixels."""
    return resolve_protocol({"name": name, "min_area": 50, "min_area_query": 50, **changes})


def built_voc(folder: Path, **options: Any) -> Dataset:
    """The data set that is built from `voc_layout`."""
    source = voc_layout(folder / "official")
    build("pascal-5i", source, folder / "built", BuildSettings(**options))
    return Dataset.open(folder / "built")


@dataclass(frozen=True)
class KillingLabel:
    """Kills the process that reads it, as the kernel does when memory runs out."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self) -> Label:
        os._exit(9)

"""PASCAL VOC 2012 and its extension SBD (Hariharan et al., ICCV 2011).

Training  VOC train, and the images of SBD's train and val lists that are not in VOC val. For an
          image in both, VOC's label is used; it has borders of 255, SBD's labels have none.
Test      VOC val.

Many copies pass SBD's labels on as PNG in VOC2012/SegmentationClassAug. They are read if there is
no SBD folder.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fssplat.common.errors import InputError
from fssplat.common.file_kinds import regular
from fssplat.common.plain_names import plain_name
from fssplat.data.masks.labels import UNREADABLE, Label
from fssplat.data.readers.voc import CLASSES
from fssplat.data.sources.record import (
    BadSampleError,
    Record,
    Source,
    SourceOptions,
    names_in,
    safe_key,
)

VOC_PLACES = ("VOC2012", "VOCdevkit/VOC2012", ".")
AUG = "SegmentationClassAug"
SBD_PLACES = ("SBD/dataset", "benchmark_RELEASE/dataset", "sbd/dataset", "SBD", "sbd", "dataset")


@dataclass(frozen=True)
class PngLabel:
    """A palette or grey PNG whose values are class indices."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self) -> Label:
        try:
            with Image.open(regular(self.path)) as picture:
                if picture.mode not in ("P", "L"):
                    raise BadSampleError(
                        f"{self.path}: the label is a {picture.mode} picture; a class-index PNG "
                        f"(palette or grey) is needed"
                    )
                label = np.array(picture, dtype=np.uint8)
                self._check_palette(picture, label)
                return label
        except UNREADABLE as error:
            raise BadSampleError(f"{self.path}: the label cannot be read ({error})") from error

    def _check_palette(self, picture: Image.Image, label: Label) -> None:
        """Raises BadSampleError if a palette gives one class the colour that VOC gives another.

        Image editors save palettes in another order: then the values are no class indices.
        """
        if picture.mode != "P":
            return
        palette = np.array(picture.convert("RGB")).reshape(-1, 3)
        values, places = np.unique(label, return_index=True)
        classes = {colour: index for index, colour in enumerate(_voc_colours()) if index}
        for value, place in zip(values.tolist(), places.tolist(), strict=True):
            shown = classes.get(tuple(palette[place].tolist()), value)
            if value and shown != value:
                raise BadSampleError(
                    f"{self.path}: the palette gives the value {value} the colour of class {shown} "
                    f"({CLASSES[shown - 1]}): it was saved with another palette than VOC's"
                )


@dataclass(frozen=True)
class MatLabel:
    """SBD's MATLAB file: GTcls.Segmentation contains class indices."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self) -> Label:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError

        try:
            content = loadmat(regular(self.path), variable_names=["GTcls"])
            segmentation = content["GTcls"]["Segmentation"][0, 0]
        except (OSError, ValueError, KeyError, TypeError, IndexError, MatReadError) as error:
            raise BadSampleError(f"{self.path}: the label cannot be read ({error})") from error
        except NotImplementedError as error:
            raise BadSampleError(f"{self.path}: MATLAB 7.3, SBD's files are 5.0") from error
        except (zlib.error, EOFError) as error:
            raise BadSampleError(f"{self.path}: the label is cut short ({error})") from error
        return self._as_bytes(np.asarray(segmentation))

    def _as_bytes(self, values: npt.NDArray[Any]) -> Label:
        """The same values as uint8 [H, W]. Raises BadSampleError for values outside 0..255."""
        if values.ndim != 2 or values.dtype.kind not in "biuf":
            raise BadSampleError(f"{self.path}: the label is not an array of numbers [H, W]")
        with np.errstate(invalid="ignore"):
            label: Label = values.astype(np.uint8)
        if (label != values).any():
            raise BadSampleError(f"{self.path}: the label has values other than 0, 1, 2, .. 255")
        return label


def read(folder: Path, options: SourceOptions) -> Source:
    """PASCAL-5i from a folder with VOC2012 and SBD, or with SegmentationClassAug in its place."""
    voc = find(folder, VOC_PLACES, "ImageSets/Segmentation", "VOC2012")
    aug = (voc / AUG).is_dir() and not any(
        (folder / place / "cls").is_dir() for place in SBD_PLACES
    )
    val, train = voc_list(voc, "val"), voc_list(voc, "train")
    records = [voc_record(voc, name, "val") for name in val]
    records += [voc_record(voc, name, "train") for name in train if name not in set(val)]
    sbd = voc if aug else find(folder, SBD_PLACES, "cls", f"SBD or VOC2012/{AUG}")
    of_sbd = set(aug_list(voc) if aug else sbd_list(sbd))
    record = aug_record if aug else sbd_record
    records += [record(sbd, voc, name) for name in sorted(of_sbd - set(val) - set(train))]
    what = AUG if aug else "SBD"
    return Source(
        "pascal-5i",
        CLASSES,
        tuple(records),
        f"VOC2012 train and val, {what}",
        "2012",
        notes=(f"{len(of_sbd & set(val))} {what} images are in VOC val and stay out of training",),
    )


def find(folder: Path, places: tuple[str, ...], inside: str, what: str) -> Path:
    """The first of the usual folders that contains `inside`. Raises InputError if none does."""
    for place in places:
        if (folder / place / inside).is_dir():
            return folder / place
    raise InputError(
        f"{folder}: no {what} there; looked for {inside} under {', '.join(places)}. Give --source "
        f"the folder that contains it, or run `fssplat data download pascal`."
    )


def voc_list(voc: Path, split: str) -> list[str]:
    """Image names of a segmentation list, in its order. Raises InputError if there is none."""
    path = voc / "ImageSets" / "Segmentation" / f"{split}.txt"
    names = _lines(path)
    if not names:
        raise InputError(f"{path}: this list is empty. Unpack the official archive again.")
    return names


def sbd_list(sbd: Path) -> list[str]:
    return _lines(sbd / "train.txt") + _lines(sbd / "val.txt")


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"{path}: this list is missing. Unpack the official archive again.")
    return list(dict.fromkeys(names_in(path)))


def aug_list(voc: Path) -> list[str]:
    """Image names of the labels in SegmentationClassAug. Raises InputError if there is none."""
    labels = [path for path in (voc / AUG).iterdir() if path.suffix.lower() == ".png"]
    if not labels:
        raise InputError(f"{voc / AUG}: no PNG labels there. Unpack it again, or give SBD.")
    return sorted(plain_name(path.stem, str(voc / AUG)) for path in labels)


def voc_record(voc: Path, name: str, split: str) -> Record:
    """The label is in SegmentationClass; in SegmentationClassAug if only that folder is there."""
    image = voc / "JPEGImages" / f"{name}.jpg"
    labels = voc / "SegmentationClass"
    if not labels.is_dir() and (voc / AUG).is_dir():
        labels = voc / AUG
    return Record(safe_key(name), split, image, PngLabel(labels / f"{name}.png"), "voc")


def aug_record(_: Path, voc: Path, name: str) -> Record:
    image = voc / "JPEGImages" / f"{name}.jpg"
    return Record(safe_key(name), "train", image, PngLabel(voc / AUG / f"{name}.png"), "sbd")


def sbd_record(sbd: Path, voc: Path, name: str) -> Record:
    image = sbd / "img" / f"{name}.jpg"
    if not image.is_file():  # SBD's images are VOC's; some copies of SBD have no images
        image = voc / "JPEGImages" / f"{name}.jpg"
    return Record(safe_key(name), "train", image, MatLabel(sbd / "cls" / f"{name}.mat"), "sbd")


def voc_palette() -> list[int]:
    """VOC's colours: the lowest bits of a class index become the highest bits of R, G and B."""
    colours = []
    for index in range(256):
        for channel in range(3):
            bits = [(index >> (3 * place + channel)) & 1 for place in range(3)]
            colours.append(sum(bit << (7 - place) for place, bit in enumerate(bits)))
    return colours


def _voc_colours() -> list[tuple[int, ...]]:
    """The colours of background and of each class."""
    values = voc_palette()
    return [tuple(values[3 * index : 3 * index + 3]) for index in range(len(CLASSES) + 1)]

"""Read the support images of a model from any layout, by class, before anything is encoded."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fssplat.common.errors import InputError
from fssplat.common.printing import counted
from fssplat.data.masks.labels import Label
from fssplat.data.readers.class_choice import EVERY_CLASS, ClassChoice, is_value
from fssplat.data.readers.layouts import LAYOUTS, find_layout, read_layout
from fssplat.data.readers.mask_files import MaskFile
from fssplat.data.readers.record import AnnotatedImage, LoadedImage, load
from fssplat.engine.predicting.prepared import Support


@dataclass(frozen=True)
class SupportSet:
    """Support images by class, and what was found where."""

    classes: Mapping[str, tuple[Support, ...]]
    notes: tuple[str, ...] = ()  # for a person: layouts, numbers of images, values of masks
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # the images, by class

    @property
    def key(self) -> str:
        """Digest of classes, images and masks: equal for two sets with equal content."""
        content = hashlib.sha256()
        for name, supports in self.classes.items():
            content.update(f"{name}\0{len(supports)}\0".encode())
            for one in supports:
                content.update(repr(one.pixels.shape).encode())
                content.update(one.pixels.tobytes())
                content.update(one.mask.tobytes())
        return content.hexdigest()[:16]


def read_supports(
    places: Path | str | Sequence[Path | str],
    choice: ClassChoice = EVERY_CLASS,
    layout: str = "",
    images: Sequence[Path] = (),
    shots: int | None = None,
    within: Path | None = None,
) -> SupportSet:
    """The supports at one path or several; each may have another layout.

    `images` are folders that may have the pictures, beside the usual ones; `shots` is the most
    supports of a class, and the first ones are taken. `within` is the folder of an archive of
    others, whose annotations may name no file outside of it. Raises InputError if nothing is
    found, an image cannot be used, or no pixel of a chosen class is marked.
    """
    paths = [Path(places)] if isinstance(places, str | Path) else [Path(one) for one in places]
    if not paths:
        raise InputError("no supports. Give --support a folder or a file with annotations.")
    found: list[AnnotatedImage] = []
    notes = []
    for path in paths:
        name = find_layout(path, layout)
        records = read_layout(path, name, images)
        if within is not None:
            _check_within(records, within)
        notes.append(f"{path}: {LAYOUTS[name].description}, {counted(len(records), 'image')}")
        found += records
    loaded = [(one, _marked(one)) for one in found]
    return _by_class(loaded, choice, ", ".join(map(str, paths)), notes, shots)


def _check_within(records: Sequence[AnnotatedImage], folder: Path) -> None:
    """Raises InputError for a file outside of a folder, with the same text if there is none."""
    whole = folder.resolve()
    for one in records:
        pictures = () if one.embedded else (one.image,)
        for file in (*pictures, *one.annotation.files):
            if not file.resolve().is_relative_to(whole):
                raise InputError(
                    f"{one.annotation.where}: it names {file.name}, which is outside of the "
                    "archive. Put the picture into it."
                )


def _marked(record: AnnotatedImage) -> LoadedImage:
    """The image with the classes of which it has a pixel.

    Raises InputError for a mask file in which nothing is marked; an image that an annotation file
    lists without a region is no error.
    """
    pixels, masks = load(record)
    marked = {name: mask for name, mask in masks.items() if (mask == 1).any()}
    annotation = record.annotation
    if not marked and isinstance(annotation, MaskFile) and not annotation.names:
        raise InputError(
            f"{annotation.path}: the mask has only the value 0 (no object). Mark the object with "
            "another value, or leave the image out."
        )
    return LoadedImage(pixels, marked)


def _by_class(
    loaded: Sequence[tuple[AnnotatedImage, LoadedImage]],
    choice: ClassChoice,
    where: str,
    notes: list[str],
    shots: int | None,
) -> SupportSet:
    seen = [name for _, (_, masks) in loaded for name in masks]
    if not seen:
        raise InputError(f"{where}: no image has a region. Mark the object in at least one.")
    chosen = choice.resolved(seen, where)
    classes: dict[str, list[Support]] = {name: [] for name in chosen.values()}
    names: dict[str, list[str]] = {name: [] for name in chosen.values()}
    for record, (pixels, masks) in loaded:
        for name, mask in _merged(masks, chosen).items():
            if shots is None or len(classes[name]) < shots:
                classes[name].append(Support(pixels, mask))
                names[name].append(record.image.name)
    notes += [_note(name, chosen, len(supports)) for name, supports in classes.items()]
    return SupportSet(
        {name: tuple(supports) for name, supports in classes.items()},
        tuple(notes),
        {name: tuple(images) for name, images in names.items()},
    )


def _merged(masks: Mapping[str, Label], chosen: Mapping[str, str]) -> dict[str, Label]:
    """The masks by the names of their classes; values of one name are joined."""
    merged: dict[str, Label] = {}
    for value, mask in masks.items():
        name = chosen.get(value)
        if name is not None:
            other = merged.get(name, mask)
            both = np.where((mask == 1) | (other == 1), 1, np.maximum(mask, other))
            merged[name] = both.astype(np.uint8)
    return merged


def _note(name: str, chosen: Mapping[str, str], supports: int) -> str:
    values = [value for value, called in chosen.items() if called == name and is_value(value)]
    rule = f"; in the masks 0 is background and {', '.join(values)} is {name}" if values else ""
    return f"{name}: {counted(supports, 'support')}{rule}"

"""Sets of supports with a name, each in one file that is whole or absent.

FOLDER/NAME.zip has supports.json, images/N.png and masks/N-M.png: pixels as they were decoded.
"""

import hashlib
import io
import json
import re
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fssplat.common.errors import InputError
from fssplat.common.json_files import json_object
from fssplat.common.whole_files import remove_unfinished, write_bytes
from fssplat.data.masks.labels import UNREADABLE, Label, decode_label, encode_label
from fssplat.data.transforms import Pixels
from fssplat.engine.predicting.prepared import Support
from fssplat.serving.server.refusals import RefusedError, not_found
from fssplat.serving.server.settings import Limits
from fssplat.serving.supports import SupportSet

FORMAT = 1
INDEX = "supports.json"
SUFFIX = ".zip"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
CACHED = 8  # sets whose pixels are kept in memory
FIXED_TIME = (2020, 1, 1, 0, 0, 0)  # in archives, so that equal sets have equal bytes


@dataclass(frozen=True)
class MarkedImage:
    """A support picture with the masks of its classes."""

    name: str  # unique in its set
    pixels: Pixels
    masks: Mapping[str, Label]  # class -> uint8 [H, W]: 1 the class, 0 other, 255 ignored


@dataclass(frozen=True)
class RegisteredSet:
    """The supports of one name."""

    name: str
    key: str  # digest of the content
    images: tuple[MarkedImage, ...]

    @cached_property
    def classes(self) -> dict[str, tuple[Support, ...]]:
        """The supports of each class, in the order of the pictures."""
        names = dict.fromkeys(name for image in self.images for name in image.masks)
        return {
            name: tuple(Support(i.pixels, i.masks[name]) for i in self.images if name in i.masks)
            for name in names
        }


class RegisteredSupports:
    """The folder of all sets; every method may be called by several threads."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        """Raises InputError if the folder cannot be written."""
        self.folder, self.limits = folder, limits
        self._lock = threading.RLock()
        self._cached: OrderedDict[str, RegisteredSet] = OrderedDict()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".probe"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise InputError(
                f"{folder}: cannot be written ({error.strerror}). Choose another --supports."
            ) from error
        for path in folder.glob(f".*{SUFFIX}.*.tmp"):
            remove_unfinished(folder / path.name[1:].rsplit(".", 2)[0])

    def names(self) -> list[str]:
        """The names of all sets, sorted."""
        found = (path.name.removesuffix(SUFFIX) for path in self.folder.glob(f"*{SUFFIX}"))
        return sorted(name for name in found if NAME.fullmatch(name))

    def get(self, name: str) -> RegisteredSet:
        """The set of a name. Raises RefusedError if there is none, InputError for damage."""
        path = self._path(name)
        with self._lock:
            if name in self._cached:
                self._cached.move_to_end(name)
                return self._cached[name]
            try:
                found = _read(name, path)
            except FileNotFoundError:
                known = ", ".join(self.names()[:8]) or "none"
                raise not_found(
                    f"supports {name}: no set has this name. Known: {known}. Register it with PUT "
                    f"/v1/supports/{name}."
                ) from None
            self._keep(found)
            return found

    def put(self, name: str, images: Sequence[MarkedImage]) -> RegisteredSet:
        """Replace a set. Raises InputError if it is empty or too large."""
        path = self._path(name)
        with self._lock:
            if not path.is_file() and len(self.names()) >= self.limits.sets:
                raise RefusedError(
                    409, "TOO_MANY", f"there are {self.limits.sets} sets. Delete one before."
                )
            self._check(name, images)
            data = _packed(images)
            write_bytes(path, data)
            found = RegisteredSet(name, _digest(data), tuple(images))
            self._keep(found)
            return found

    def add(self, name: str, image: MarkedImage) -> RegisteredSet:
        """Add a picture to a set, which is made if needed; one of the same name is replaced."""
        with self._lock:
            others = [one for one in self._images(name) if one.name != image.name]
            return self.put(name, [*others, image])

    def remove(self, name: str, image: str) -> None:
        """Remove a picture; a set without pictures is deleted."""
        with self._lock:
            kept = [one for one in self._images(name) if one.name != image]
            if kept:
                self.put(name, kept)
            elif self._path(name).is_file():
                self.delete(name)

    def delete(self, name: str) -> None:
        """Raises RefusedError if there is no such set."""
        with self._lock:
            if not self._path(name).is_file():
                raise not_found(f"supports {name}: no set has this name.")
            self._path(name).unlink()
            self._cached.pop(name, None)

    def _images(self, name: str) -> tuple[MarkedImage, ...]:
        return self.get(name).images if self._path(name).is_file() else ()

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise InputError(
                f"supports {ascii(name)[:80]}: a name has 1 to 64 letters, digits, and . _ - and "
                "starts with a letter or a digit."
            )
        return self.folder / f"{name}{SUFFIX}"

    def _keep(self, found: RegisteredSet) -> None:
        self._cached[found.name] = found
        self._cached.move_to_end(found.name)
        while len(self._cached) > CACHED:
            self._cached.popitem(last=False)

    def _check(self, name: str, images: Sequence[MarkedImage]) -> None:
        limits = self.limits
        classes = {one for image in images for one in image.masks}
        marked = all(
            (mask == 1).any() for image in images for mask in image.masks.values()
        ) and all(image.masks for image in images)
        if not images or not marked:
            raise InputError(f"supports {name}: mark at least one pixel in each picture.")
        if len(images) > limits.supports or len(classes) > limits.classes:
            raise InputError(
                f"supports {name}: {len(images)} pictures with {len(classes)} classes; at most "
                f"{limits.supports} and {limits.classes} are kept. Leave some out."
            )


def images_of(given: SupportSet) -> list[MarkedImage]:
    """The pictures of supports that were read from files, each once."""
    by_pixels: dict[int, tuple[str, Pixels, dict[str, Label]]] = {}
    for class_name, supports in given.classes.items():
        names = given.names.get(class_name, ())
        for place, support in enumerate(supports):
            name = names[place] if place < len(names) else str(len(by_pixels))
            entry = by_pixels.setdefault(id(support.pixels), (name, support.pixels, {}))
            entry[2][class_name] = support.mask
    images = [MarkedImage(*entry) for entry in by_pixels.values()]
    return with_unique_names(images)


def with_unique_names(images: Iterable[MarkedImage]) -> list[MarkedImage]:
    """The same pictures; a name that was used before gets a number."""
    seen: set[str] = set()
    found = []
    for image in images:
        name, number = image.name, 2
        while name in seen:
            name, number = f"{image.name} ({number})", number + 1
        seen.add(name)
        found.append(MarkedImage(name, image.pixels, image.masks))
    return found


# ------------------------------------------------------------------ the file


def _packed(images: Sequence[MarkedImage]) -> bytes:
    buffer = io.BytesIO()
    index: list[dict[str, Any]] = []
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for number, image in enumerate(images):
            picture = io.BytesIO()
            Image.fromarray(image.pixels).save(picture, format="PNG", compress_level=1)
            _add(archive, f"images/{number}.png", picture.getvalue())
            masks = {}
            for place, (name, mask) in enumerate(image.masks.items()):
                masks[name] = f"masks/{number}-{place}.png"
                _add(archive, masks[name], encode_label(mask))
            index.append({"name": image.name, "image": f"images/{number}.png", "masks": masks})
        _add(archive, INDEX, json.dumps({"format": FORMAT, "images": index}, indent=1).encode())
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, FIXED_TIME), data)


def _read(name: str, path: Path) -> RegisteredSet:
    """Raises FileNotFoundError, or InputError for a damaged file."""
    data = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            index = json_object(archive.read(INDEX))
            if index.get("format") != FORMAT:
                raise ValueError(f"format {index.get('format')}")
            images = tuple(_image(archive, entry) for entry in index["images"])
    except (*UNREADABLE, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: the supports cannot be read ({error}). Delete the file and register them "
            "again."
        ) from error
    return RegisteredSet(name, _digest(data), images)


def _image(archive: zipfile.ZipFile, entry: Mapping[str, Any]) -> MarkedImage:
    with Image.open(io.BytesIO(archive.read(entry["image"]))) as picture:
        pixels = np.array(picture.convert("RGB"))
    masks = {str(n): decode_label(archive.read(file)) for n, file in entry["masks"].items()}
    return MarkedImage(str(entry["name"]), pixels, masks)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]

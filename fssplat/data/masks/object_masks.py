"""Read a mask that a person gives: one object in an image, as an array or a picture.

One rule for all of fssplat. The values of the mask are its grey values, or its colours:

    0 and one more value     that value is the object: 0/1, 0/255, 0/17, black/red
    0, 1 and 255             1 is the object, 255 is its border, which is ignored
    transparent and opaque   what is opaque is the object, if the colours do not say it already
    anything else            refused; no 0, only 0, and several objects too

In a palette picture black is 0; if no pixel is black, index 0 is. With `pick`, a mask of several
objects can be read too: its values by number, its colours as #rrggbb.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fssplat.common.errors import InputError
from fssplat.common.file_kinds import regular
from fssplat.data.masks.labels import IGNORE, UNREADABLE, Label

THRESHOLD = 128  # least grey or opaque value of an object with soft edges
SHOWN = 6  # number of values in a message
MOST_OBJECTS = 64  # values of a mask of several objects; more are soft edges


@dataclass(frozen=True)
class MaskValues:
    """The pixels of a mask as numbers of its values."""

    numbers: npt.NDArray[np.intp]  # [H, W], position in `names`
    names: tuple[str, ...]  # "0", "17" or "#ff0000", background first if there is one
    background: bool  # whether the first value is the background


def object_mask(given: Any, where: str, pick: str = "", soft: bool = False) -> Label:
    """A mask as uint8 [H, W]: 1 the object, 0 other, 255 ignored.

    `given` is an array [H, W] of whole numbers, [H, W, 3] RGB or [H, W, 4] RGBA, a Pillow image or
    the Path of a picture (text is refused: it may come from a server's client). `pick` names the
    value of the object, if there are several. With `soft`, a grey picture of many values is an
    object from THRESHOLD on, as in FSS-1000's public code. Raises InputError, which starts with
    `where`, if the values are not those of one object.
    """
    mode, array = _array(given, where)
    opaque = None if pick else _opaque(mode, array, where)
    if opaque is not None:
        return opaque.astype(np.uint8)
    if mode in ("LA", "RGBA"):
        array = array[..., 0] if mode == "LA" else array[..., :3]
    label = _soft_label(array) if soft and not pick else None
    if label is not None:
        return label
    values = _values(array, where)
    return _picked(values, pick, where) if pick else _one_object(values, where)


def objects_in(given: Any, where: str) -> dict[str, Label]:
    """Every object of a mask by its value ("255") or colour ("#ff0000"), each as `object_mask` has
    it; {} if all is background.

    Beside other grey values, 255 is ignored. Raises InputError as `object_mask` does, and for more
    than MOST_OBJECTS values, as soft edges give.
    """
    mode, array = _array(given, where)
    opaque = _opaque(mode, array, where)
    if opaque is not None:
        return {"opaque": opaque.astype(np.uint8)}
    if mode in ("LA", "RGBA"):
        array = array[..., 0] if mode == "LA" else array[..., :3]
    values = _values(array, where)
    if not values.background or len(values.names) > MOST_OBJECTS:
        _one_object(values, where)  # raises InputError
    names = values.names[1:]
    border = len(names) > 1 and str(IGNORE) in names
    ignored = values.numbers == values.names.index(str(IGNORE)) if border else None
    found = {}
    for number, name in enumerate(names, start=1):
        if not (border and name == str(IGNORE)):
            label = (values.numbers == number).astype(np.uint8)
            found[name] = label if ignored is None else np.where(ignored, IGNORE, label)
    return {name: label.astype(np.uint8) for name, label in found.items()}


def _one_object(values: MaskValues, where: str) -> Label:
    names = values.names
    if names == ("0", "1", str(IGNORE)):
        return np.array([0, 1, IGNORE], dtype=np.uint8)[values.numbers]
    if values.background and len(names) == 2:
        return values.numbers.astype(np.uint8)
    fault = "several objects, or soft edges" if values.background else "no background"
    if names == ("0",):
        fault = "no object"
    raise InputError(
        f"{where}: the mask has the value{'s'[: len(names) > 1]} {_shown(names)} ({fault}). Needed "
        f"is 0 for background and one more value for the object; 255 beside 0 and 1 is ignored."
    )


def _picked(values: MaskValues, pick: str, where: str) -> Label:
    if pick not in values.names:
        raise InputError(
            f"{where}: no pixel of the mask is {pick!a}. Its values: {_shown(values.names)}."
        )
    label: Label = (values.numbers == values.names.index(pick)).astype(np.uint8)
    return label


def _shown(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


# ---------------------------------------------------------------- pixels to values


def _array(given: Any, where: str) -> tuple[str, npt.NDArray[Any]]:
    """(Pillow's mode, pixels); colours for a palette whose used entries are all different."""
    if isinstance(given, Path):
        try:
            with Image.open(regular(given)) as opened:
                opened.load()
                return _array(opened, where)
        except UNREADABLE as error:
            raise InputError(f"{where}: the mask cannot be read ({error}).") from error
    if isinstance(given, Image.Image):
        if given.mode in ("P", "PA"):
            return _palette_array(given)
        modes = ("1", "L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16B", "I;16L")
        picture = given if given.mode in modes else given.convert("RGB")
        return picture.mode, np.array(picture)
    try:
        array = np.asarray(given)
    except ValueError:
        array = np.empty(0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    channels = array.shape[2] if array.ndim == 3 else 1
    known = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"} if array.ndim in (2, 3) else {}
    mode = known.get(channels, "")
    if not mode or not array.size or array.dtype.kind not in "biuf":
        raise InputError(
            f"{where}: the mask is {array.dtype} {list(array.shape)}; needed are whole numbers "
            f"[H, W], or RGB [H, W, 3], or RGBA [H, W, 4]."
        )
    return mode, array


def _palette_array(picture: Image.Image) -> tuple[str, npt.NDArray[Any]]:
    indices = np.array(picture.convert("P") if picture.mode == "PA" else picture)
    clear = picture.info.get("transparency") is not None or picture.mode == "PA"
    colours = np.array(picture.convert("RGBA" if clear else "RGB"))
    used = np.unique(indices)
    places = [np.argwhere(indices == index)[0] for index in used]
    distinct = {tuple(colours[y, x][:3]) for y, x in places}
    grey = all(
        tuple(colours[y, x][:3]) == (i, i, i) for i, (y, x) in zip(used, places, strict=True)
    )
    border = set(used.tolist()) == {0, 1, IGNORE}
    indexed = grey or border or len(distinct) < len(used) or (0, 0, 0) not in distinct
    if clear and not border and len(distinct) > 1:
        return "RGBA", colours
    return ("L", indices) if indexed else ("RGB", colours[..., :3])


def _opaque(mode: str, array: npt.NDArray[Any], where: str) -> npt.NDArray[np.bool_] | None:
    """Where a cut-out object is opaque; None if alpha is missing or says nothing.

    Raises InputError if alpha and colours both show an object.
    """
    if mode not in ("LA", "RGBA"):
        return None
    opaque: npt.NDArray[np.bool_] = array[..., -1] >= THRESHOLD
    if opaque.all() or not opaque.any():
        return None
    seen = _colours(array[..., :-1])[opaque]
    if len(np.unique(seen)) == 2 and (seen == 0).any():
        raise InputError(
            f"{where}: both the colours of the mask and its alpha show an object. Save it without "
            f"alpha."
        )
    return opaque


def _values(array: npt.NDArray[Any], where: str) -> MaskValues:
    """Of [H, W], or of RGB [H, W, 3], where equal channels are a grey value."""
    low, high = array.min(), array.max()
    whole = array.dtype.kind != "f" or bool((array == np.floor(array)).all())  # NaN: not equal
    if not whole or low < 0 or high > (255 if array.ndim == 3 else 65_535):
        raise InputError(
            f"{where}: the mask has values from {low} to {high}, or fractions. Needed are whole "
            f"numbers: 0 for background and one more value for the object."
        )
    if array.ndim == 3 and (array == array[..., :1]).all():
        array = array[..., 0]
    coloured = array.ndim == 3
    found, numbers = np.unique(_colours(array) if coloured else array, return_inverse=True)
    names = tuple(f"#{int(v):06x}" if coloured else str(int(v)) for v in found)
    return MaskValues(numbers.reshape(array.shape[:2]), names, int(found[0]) == 0)


def _colours(array: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """[H, W, 1 or 3] -> [H, W], red, green and blue in one number."""
    total = np.zeros(array.shape[:2], dtype=np.int64)
    for channel in range(array.shape[2]):
        total = total * 256 + array[..., channel].astype(np.int64)
    return total


# ---------------------------------------------------------------- soft edges


def _soft_label(array: npt.NDArray[Any]) -> Label | None:
    """The object of a grey or RGB picture with soft edges; None if its values are exact.

    A border of 255 around an object of 1 covers no more pixels than the object. Where 255 covers
    more, the 1 is noise beside black.
    """
    if array.dtype != np.uint8:
        return None
    grey = np.array(Image.fromarray(array).convert("L"))
    inside = grey >= THRESHOLD
    if inside.all() or not inside.any():
        return None
    if set(np.unique(grey).tolist()) == {0, 1, IGNORE} and (grey == 1).sum() >= inside.sum():
        return None
    return inside.astype(np.uint8)

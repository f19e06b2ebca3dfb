"""Labels as arrays and as PNG: uint8 [H, W], 0 background, 1.. classes, 255 counts for nobody."""

import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image

from fssplat.data.batch import IGNORE

Label = npt.NDArray[np.uint8]


def encode_label(label: Label) -> bytes:
    """A grey PNG whose grey value is the class index."""
    buffer = io.BytesIO()
    Image.fromarray(label).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def decode_label(png: bytes) -> Label:
    """The label of a PNG; a palette's colours do not matter, its indices do."""
    with Image.open(io.BytesIO(png)) as picture:
        return np.array(picture, dtype=np.uint8)


def decode_image(jpeg: bytes) -> npt.NDArray[np.uint8]:
    """RGB uint8 [H, W, 3] from a grey, colour or CMYK JPEG.

    An EXIF turn is not applied: annotations were drawn on the pixels as stored.
    """
    with Image.open(io.BytesIO(jpeg)) as picture:
        return np.array(picture.convert("RGB"))


def image_size(jpeg: bytes) -> tuple[int, int]:
    """(height, width) after decoding every pixel.

    Raises OSError for bytes that are cut short, are not an image, or are not a JPEG.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd EXIF blocks say nothing about the pixels
        with Image.open(io.BytesIO(jpeg)) as picture:
            if picture.format not in ("JPEG", "MPO"):  # MPO: a JPEG with a second picture behind
                raise OSError(f"the image is {picture.format}, not JPEG")
            picture.load()
            return picture.height, picture.width


def class_pixels(label: Label) -> dict[int, int]:
    """Class id -> pixels, without background and ignored pixels, in order of the id."""
    counts = np.bincount(label.ravel(), minlength=IGNORE + 1)
    return {int(c): int(counts[c]) for c in np.flatnonzero(counts) if c not in (0, IGNORE)}

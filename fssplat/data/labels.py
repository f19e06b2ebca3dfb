"""Labels as arrays and as PNG: uint8 [H, W], 0 background, 1.. classes, 255 counts for nobody."""

import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image

IGNORE = 255  # label value that counts for nobody, in masks and targets alike
Label = npt.NDArray[np.uint8]
# What Pillow raises for a file that it cannot decode, or for one of too many pixels to try.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def encode_label(label: Label) -> bytes:
    """A grey PNG whose grey value is the class index."""
    buffer = io.BytesIO()
    Image.fromarray(label).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def decode_label(png: bytes | memoryview) -> Label:
    """The label that `encode_label` wrote.

    By Pillow: torchvision's PNG decoder is a little faster, but ends the process on broken bytes.
    """
    with Image.open(io.BytesIO(png)) as picture:
        return np.array(picture, dtype=np.uint8)


def decode_image(jpeg: bytes | memoryview) -> npt.NDArray[np.uint8]:
    """RGB uint8 [H, W, 3] from a grey, colour or CMYK JPEG.

    An EXIF turn is not applied: annotations were drawn on the pixels as stored. torchvision gives
    the very pixels of Pillow and is faster; CMYK stays with Pillow, which knows Adobe's inversion.
    Raises one of UNREADABLE for bytes that it cannot decode.
    """
    import torch
    from torchvision.io import decode_jpeg

    try:
        stored = decode_jpeg(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8))
    except RuntimeError as error:  # after the names of a function and a C++ file
        raise OSError(str(error).splitlines()[0].rsplit(", ", 1)[-1]) from error
    if stored.shape[0] == 4:
        with Image.open(io.BytesIO(jpeg)) as picture:
            return np.array(picture.convert("RGB"))
    pixels: npt.NDArray[np.uint8] = stored.permute(1, 2, 0).numpy()
    return pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2)


def image_size(jpeg: bytes) -> tuple[int, int]:
    """(height, width) after decoding every pixel as training will: Pillow accepts broken files.

    Raises one of UNREADABLE for bytes that are cut short, are not an image, or are not a JPEG.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd EXIF blocks say nothing about the pixels
        with Image.open(io.BytesIO(jpeg)) as picture:  # reads the header alone
            if picture.format not in ("JPEG", "MPO"):  # MPO: a JPEG with a second picture behind
                raise OSError(f"the image is {picture.format}, not JPEG")
        height, width, _ = decode_image(jpeg).shape
    return height, width


def class_pixels(label: Label) -> dict[int, int]:
    """Class id -> pixels, without background and ignored pixels, in order of the id."""
    counts = np.bincount(label.ravel(), minlength=IGNORE + 1)
    return {int(c): int(counts[c]) for c in np.flatnonzero(counts) if c not in (0, IGNORE)}

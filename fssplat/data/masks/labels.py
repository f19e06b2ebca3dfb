"""Labels as arrays and as PNG: uint8 [H, W], 0 background, 1.. classes, 255 ignored."""

import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from fssplat.common.errors import first_line

IGNORE = 255  # label value of ignored pixels, also in masks and targets
Label = npt.NDArray[np.uint8]
# Errors of Pillow for a file that it cannot decode, or that has too many pixels.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def encode_label(label: Label) -> bytes:
    """A grey PNG whose grey value is the class index."""
    buffer = io.BytesIO()
    Image.fromarray(label).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def decode_label(png: bytes | memoryview) -> Label:
    """Inverse of `encode_label`. Raises one of UNREADABLE for damaged bytes.

    Pillow is used because torchvision's PNG decoder, a little faster, crashes on damaged bytes.
    """
    with Image.open(io.BytesIO(png)) as picture:
        return np.array(picture, dtype=np.uint8)


def decode_image(jpeg: bytes | memoryview) -> npt.NDArray[np.uint8]:
    """RGB uint8 [H, W, 3] from a grey, colour or CMYK JPEG.

    EXIF rotation is not applied, because annotations refer to the pixels as stored. torchvision
    gives the same pixels as Pillow and is faster; CMYK is decoded by Pillow, which handles Adobe's
    inverted values. Raises one of UNREADABLE for bytes that cannot be decoded.
    """
    import torch
    from torchvision.io import decode_jpeg

    try:
        stored = decode_jpeg(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8))
    except RuntimeError as error:  # the message starts with a function and a C++ file
        raise OSError(first_line(error).rsplit(", ", 1)[-1]) from error
    if stored.shape[0] == 4:
        with Image.open(io.BytesIO(jpeg)) as picture:
            return np.array(picture.convert("RGB"))
    pixels: npt.NDArray[np.uint8] = stored.permute(1, 2, 0).numpy()
    return pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2)


def image_size(jpeg: bytes) -> tuple[int, int]:
    """(height, width), after decoding every pixel as training does.

    Raises one of UNREADABLE for bytes that are cut short or are not a JPEG. Reading the size alone
    is not enough: Pillow accepts some files that training cannot decode.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about EXIF blocks do not concern the pixels
        try:
            with Image.open(io.BytesIO(jpeg)) as picture:  # reads the header alone
                # MPO: a JPEG followed by a second picture
                if picture.format not in ("JPEG", "MPO"):
                    raise OSError(f"the image is {picture.format}, not JPEG")
        except UnidentifiedImageError:  # its text names an object in memory
            raise OSError("the file is empty" if not jpeg else "it is no picture") from None
        height, width, _ = decode_image(jpeg).shape
    return height, width


def class_pixels(label: Label) -> dict[int, int]:
    """Class id -> number of pixels, without background and ignored pixels, sorted by id."""
    counts = np.bincount(label.ravel(), minlength=IGNORE + 1)
    return {int(c): int(counts[c]) for c in np.flatnonzero(counts) if c not in (0, IGNORE)}

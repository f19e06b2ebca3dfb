"""Pictures of a request: base64 or a data URI, decoded under a limit that all requests share."""

import base64
import binascii
import io
import threading
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from fssplat.common.errors import InputError
from fssplat.common.plain_names import is_plain_path
from fssplat.data.masks.labels import UNREADABLE, Label
from fssplat.data.masks.object_masks import object_mask
from fssplat.data.readers.pictures import Picture, read_picture
from fssplat.serving.server.refusals import busy
from fssplat.serving.server.settings import Limits


class Memory:
    """Pixels of all pictures that are decoded and not yet predicted."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._pixels = 0

    @contextmanager
    def held(self, pixels: int) -> Iterator[None]:
        """Count pixels for the length of the block. Raises RefusedError for too many."""
        with self._lock:
            if self._pixels + pixels > self.limits.waiting_pixels:
                raise busy("too many pictures wait for the network")
            self._pixels += pixels
        try:
            yield
        finally:
            with self._lock:
                self._pixels -= pixels


def from_text(text: str, where: str) -> bytes:
    """The bytes of base64, or of a data URI with it. Raises InputError."""
    start = text[:100].lstrip()
    if start.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InputError(f"{where}: needed is a data URI with ;base64, before its bytes.")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{where}: it is not base64. Send the bytes of a picture.") from None
    if not data:
        raise InputError(f"{where}: it is empty. Send the bytes of a picture.")
    return data


def pixels_in(data: bytes, where: str, limits: Limits) -> int:
    """Pixels of a picture by its header. Raises InputError for too many, or for no picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes, which are checked here
            with Image.open(io.BytesIO(data)) as opened:
                width, height = opened.size
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{where}: the image has far over {limits.pixels:,} pixels, which is the most that is "
            "read. Make it smaller."
        ) from error
    except UNREADABLE as error:
        reason = "it is no picture" if "cannot identify" in str(error) else str(error)
        raise InputError(f"{where}: the image cannot be read ({reason}). Replace it.") from error
    if width * height > limits.pixels:
        raise InputError(
            f"{where}: the image has {width} x {height} pixels; at most {limits.pixels:,} are "
            "read. Make it smaller."
        )
    return width * height


def decoded(data: bytes, where: str, limits: Limits) -> Picture:
    """A picture, turned by EXIF. Raises InputError."""
    pixels_in(data, where, limits)
    return read_picture(data, where, limits.pixels)


def decoded_mask(data: bytes, picture: Picture, where: str, limits: Limits) -> Label:
    """The mask of a picture, uint8 [H, W] as `object_mask` has it.

    A mask of the stored pixels is turned as the picture is. Raises InputError.
    """
    pixels_in(data, where, limits)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            mask = object_mask(opened, where)
    except UNREADABLE as error:
        raise InputError(f"{where}: the mask cannot be read ({error}).") from error
    if mask.shape == picture.size:
        return mask
    if mask.shape == picture.stored_size:
        return picture.turn(mask)
    raise InputError(
        f"{where}: the mask has {mask.shape[0]} x {mask.shape[1]} (height x width), its picture "
        f"{picture.size[0]} x {picture.size[1]}. Send a mask of that size."
    )


def unpacked(data: bytes, folder: Path, limits: Limits) -> None:
    """The files of a ZIP archive below a folder.

    Raises InputError for a damaged archive, for names that leave the folder, and for more files or
    bytes than a request with plain pictures could have.
    """
    most_files, most_bytes = 4 * limits.supports, 4 * limits.body_bytes
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            if len(members) > most_files or sum(one.file_size for one in members) > most_bytes:
                raise InputError(
                    f"the archive is too large: at most {most_files} files and "
                    f"{most_bytes // 2**20} MiB are unpacked. Send fewer pictures."
                )
            for one in members:
                if not is_plain_path(one.filename) or one.external_attr >> 28 == 0xA:  # a link
                    raise InputError(
                        f"the archive has {ascii(one.filename)[:80]}, which is no plain path in it."
                    )
                target = folder / one.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(one) as source:
                    content = source.read(one.file_size + 1)
                if len(content) != one.file_size:
                    raise InputError("the archive is damaged. Pack it again.")
                target.write_bytes(content)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise InputError(f"the archive cannot be unpacked ({error}). Pack it again.") from error

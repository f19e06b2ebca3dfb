"""Read pictures of people: any format of Pillow, turned as their EXIF data say, as RGB.

Shards keep pixels as stored (`labels.decode_image`). Photographs of a camera or a telephone are
often stored sideways, and every annotation tool shows them turned.
"""

import io
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from fssplat.common.errors import InputError
from fssplat.common.file_kinds import regular
from fssplat.data.masks.labels import UNREADABLE, decode_image
from fssplat.data.transforms import Pixels

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MOST_PIXELS = 100_000_000  # of a picture; more is refused before it is decoded
ORIENTATION = 0x0112  # EXIF tag
Array = npt.NDArray[Any]

# EXIF orientation -> what turns the stored pixels [H, W, ...] upright
TURNS: dict[int, Callable[[Array], Array]] = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


class Picture(NamedTuple):
    """A decoded picture."""

    pixels: Pixels  # uint8 RGB [H, W, 3], turned
    orientation: int  # 1 to 8, as in EXIF; 1: stored as it is shown

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as shown."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def stored_size(self) -> tuple[int, int]:
        """(height, width) in the file, before it is turned."""
        return self.size[::-1] if self.orientation >= 5 else self.size

    def turn(self, stored: Array) -> Array:
        """[H, W] with the stored pixels' orientation -> as shown."""
        return np.ascontiguousarray(TURNS[self.orientation](stored))


def read_picture(source: Path | bytes, where: str, most: int = MOST_PIXELS) -> Picture:
    """A picture from a file or from its bytes, with at most `most` pixels.

    Raises InputError, which starts with `where`, if it is missing, damaged or too large.
    """
    try:
        data = source if isinstance(source, bytes) else regular(source).read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about EXIF blocks and sizes that are checked here
            return _decoded(data, where, most)
    except FileNotFoundError:
        raise InputError(f"{where}: the image is missing. Put it there.") from None
    except UnidentifiedImageError:  # its text names an object in memory
        reason = "it is empty" if not data else "it is no picture"
    except (*UNREADABLE, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise InputError(f"{where}: the image cannot be read ({reason}). Replace it.")


def _decoded(data: bytes, where: str, most: int) -> Picture:
    with Image.open(io.BytesIO(data)) as opened:  # reads the header alone
        width, height = opened.size
        if width * height > most:
            raise InputError(
                f"{where}: the image has {width} x {height} pixels; at most {most:,} are read. "
                "Make it smaller."
            )
        orientation = opened.getexif().get(ORIENTATION, 1)
        orientation = orientation if orientation in TURNS else 1
        if opened.format in ("JPEG", "MPO"):
            stored = decode_image(data)
        else:
            opened.load()
            stored = np.array(_eight_bits(opened).convert("RGB"))
    return Picture(np.ascontiguousarray(TURNS[orientation](stored)), orientation)


def upright_jpeg(data: bytes, where: str) -> bytes:
    """A picture of any format as JPEG; one that is an upright JPEG already keeps its bytes.

    Raises InputError if it cannot be decoded.
    """
    picture = read_picture(data, where)
    with Image.open(io.BytesIO(data)) as opened:
        if opened.format in ("JPEG", "MPO") and picture.orientation == 1:
            return data
    buffer = io.BytesIO()
    Image.fromarray(picture.pixels).save(buffer, format="JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A picture of 16 or 32 bits per pixel with its highest bits; others unchanged."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture).astype(np.float64)
    largest = 255 if values.max(initial=0) <= 255 else 65_535
    return Image.fromarray((values.clip(0, largest) * 255 / largest).astype(np.uint8))


# ------------------------------------------------------------------ find them


def is_picture(path: Path) -> bool:
    """Whether the name is that of a picture, and not a hidden one."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def pictures_in(folder: Path, deep: bool = False) -> list[Path]:
    """The pictures of a folder in the order of their names; with `deep`, of folders in it too."""
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(path for path in found if is_picture(path) and path.is_file())


def find_picture(name: str, folders: Iterable[Path]) -> Path:
    """The picture that an annotation names, in the first of the folders that has it.

    The name is tried as a path below each folder, then its last part alone: annotations are often
    moved without their folders. Returns the first place tried if no folder has it.
    """
    asked = name.replace("\\", "/").removeprefix("file://").lstrip("/")
    last = asked.rsplit("/", 1)[-1]
    places = [folder / one for one in dict.fromkeys((asked, last)) for folder in folders]
    return next((place for place in places if place.is_file()), places[0])

"""A procedural few-shot set in the VOC layout: 20 classes, each a form with its texture.

Images hold several objects of several classes that may hide one another, on a cluttered
background with small unlabelled pieces of the same forms and textures. A class's two hues wander
from object to object, as do size, angle, aspect and light; so its look tells a class, and no
single colour does. Every picture is a pure function of (seed, split, number).
"""

import colorsys
import json
import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from fssplat.common.errors import InputError
from fssplat.data.labels import IGNORE, Label
from fssplat.data.sources.record import Source, SourceOptions
from fssplat.data.sources.shapes import FORMS, TEXTURES, Plane
from fssplat.data.sources.voc import voc_list, voc_record

VERSION = 1  # raised when the pictures change
RECIPE_FILE = "synthetic.json"
CLASSES = tuple(f"{texture} {form}" for texture, form in zip(TEXTURES, FORMS, strict=True))
HUES = tuple(((7 * c) % 20) / 20 for c in range(20))  # of a class's first colour, in turns
SIDES = (160, 176, 192)  # pixels
MAIN_AREA = (0.09, 0.6)  # share of the image that an image's main object covers, about
OTHER_AREA = (0.02, 0.25)
VISIBLE = 0.07  # share of the image that must be left of the main object

Picture = npt.NDArray[np.float32]  # [H, W, 3] in [0, 1]


@dataclass(frozen=True)
class Recipe:
    """What decides the pictures."""

    version: int
    seed: int
    train: int  # images
    val: int


@dataclass(frozen=True)
class Piece:
    """An object or a bit of clutter, ready to be drawn. Lengths in pixels, angles in radians."""

    form: str
    texture: str
    centre: tuple[float, float]
    radii: tuple[float, float]
    angle: float
    period: float  # of the texture, in radii
    phase: tuple[float, float]
    colours: tuple[tuple[float, float, float], tuple[float, float, float]]
    light: tuple[float, float]  # brightness added from edge to edge, along x and y


# ---------------------------------------------------------------- the source


def read(folder: Path, options: SourceOptions) -> Source:
    """The synthetic set from its VOC layout in `folder`, which is drawn first if need be."""
    recipe = _recipe(options)
    if _recipe_of(folder) != asdict(recipe):
        try:
            draw_set(folder, recipe, options.workers)
        except OSError as error:
            raise InputError(
                f"{folder}: synthetic pictures cannot be drawn there ({error.strerror or error}). "
                f"Give --source an empty folder that can be written, with room for them."
            ) from error
    records = [
        voc_record(folder, name, split)
        for split in ("train", "val")
        for name in voc_list(folder, split)
    ]
    source, _ = expected(options)
    return Source("synthetic", CLASSES, tuple(records), source, "")


def expected(options: SourceOptions) -> tuple[str, dict[str, int]]:
    """What the set is called, and its images per split, before anything is drawn."""
    recipe = _recipe(options)
    counts = {
        split: count for split, count in (("train", recipe.train), ("val", recipe.val)) if count
    }
    return f"synthetic pictures, version {recipe.version}, seed {recipe.seed}", counts


def _recipe(options: SourceOptions) -> Recipe:
    return Recipe(VERSION, options.seed, options.train_images, options.val_images)


def _recipe_of(folder: Path) -> object:
    """What the pictures in the folder were drawn from; None where there are none or not all."""
    path = folder / RECIPE_FILE
    if path.is_file():
        try:
            return json.loads(path.read_text())
        except ValueError:
            return None
    if folder.is_dir() and any(folder.iterdir()):
        if (folder / "JPEGImages").is_dir() and (folder / f"{RECIPE_FILE}.partial").is_file():
            return None
        raise InputError(
            f"{folder}: synthetic pictures would be drawn there, but it holds other files. Give "
            f"--source an empty folder."
        )
    return None


def draw_set(folder: Path, recipe: Recipe, workers: int = 1) -> None:
    """Draw every picture of the recipe into the folder, in the VOC layout."""
    for inner in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    (folder / RECIPE_FILE).unlink(missing_ok=True)
    partial = folder / f"{RECIPE_FILE}.partial"
    partial.write_text(json.dumps(asdict(recipe)))
    counts = {"train": recipe.train, "val": recipe.val}
    for split, count in counts.items():
        names = [_name(split, number) for number in range(count)]
        path = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.write_text("\n".join(names) + "\n")
    tasks = [(split, number) for split, count in counts.items() for number in range(count)]
    parts = [(folder, recipe.seed, tasks[first : first + 50]) for first in range(0, len(tasks), 50)]
    if workers <= 1:
        for part in parts:
            _draw_part(part)
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            list(pool.map(_draw_part, parts))
    partial.replace(folder / RECIPE_FILE)


def _name(split: str, number: int) -> str:
    return f"{split}_{number:06d}"


def _draw_part(part: tuple[Path, int, list[tuple[str, int]]]) -> None:
    folder, seed, tasks = part
    for split, number in tasks:
        picture, label = draw(seed, split, number)
        name = _name(split, number)
        Image.fromarray(picture).save(folder / "JPEGImages" / f"{name}.jpg", quality=92)
        indexed = Image.fromarray(label).convert("P")
        indexed.putpalette(voc_palette())
        indexed.save(folder / "SegmentationClass" / f"{name}.png")


def voc_palette() -> list[int]:
    """VOC's colours: the bits of an index, from the lowest, go to the channels' highest bits."""
    colours = []
    for index in range(256):
        for channel in range(3):
            bits = [(index >> (3 * place + channel)) & 1 for place in range(3)]
            colours.append(sum(bit << (7 - place) for place, bit in enumerate(bits)))
    return colours


# ---------------------------------------------------------------- one picture


def draw(seed: int, split: str, number: int) -> tuple[npt.NDArray[np.uint8], Label]:
    """RGB [H, W, 3] and label [H, W] with 255 along the objects' edges."""
    rng = np.random.default_rng([VERSION, seed, ("train", "val").index(split), number])
    height, width = (int(side) for side in rng.choice(SIDES, 2))
    picture = background(rng, height, width)
    for _ in range(rng.integers(4, 10)):
        _paint(picture, clutter(rng, height, width))
    main = number % len(CLASSES) + 1  # every class is the main one equally often
    while True:  # until enough of the main object is left to be seen
        pieces = arrangement(rng, height, width, main)
        scene, label = picture.copy(), np.zeros((height, width), dtype=np.uint8)
        for class_id, piece in pieces:
            _stamp(label, class_id, _paint(scene, piece))
        if (label == main).mean() >= VISIBLE:
            return _photographed(rng, scene), label


def arrangement(
    rng: np.random.Generator, height: int, width: int, main: int
) -> list[tuple[int, Piece]]:
    """Class id and piece of every object, from the back to the front."""
    objects = [(main, instance(rng, height, width, main, MAIN_AREA))]
    if rng.random() < 0.2:
        objects.append((main, instance(rng, height, width, main, OTHER_AREA)))
    for _ in range(rng.integers(1, 4)):
        other = int(rng.integers(1, len(CLASSES) + 1))
        objects.append((other, instance(rng, height, width, other, OTHER_AREA)))
    return [objects[i] for i in rng.permutation(len(objects))]


def instance(
    rng: np.random.Generator, height: int, width: int, class_id: int, area: tuple[float, float]
) -> Piece:
    """One object of a class: its form and texture are fixed, the rest varies."""
    form, texture = list(FORMS)[class_id - 1], list(TEXTURES)[class_id - 1]
    share = float(np.exp(rng.uniform(*np.log(area))))
    radius = float(
        np.sqrt(share * height * width / 2.2)
    )  # forms fill about 2.2 of their square's 4
    aspect = float(np.exp(rng.uniform(-0.25, 0.25)))
    hue = HUES[class_id - 1]
    return Piece(
        form,
        texture,
        (float(rng.uniform(0.2, 0.8)) * width, float(rng.uniform(0.2, 0.8)) * height),
        (radius * aspect, radius / aspect),
        float(rng.uniform(-0.7, 0.7)),
        float(np.exp(rng.uniform(-0.2, 0.2))) * 0.42,
        (float(rng.uniform(0, 1)), float(rng.uniform(0, 1))),
        (
            colour(rng, hue + rng.normal(0, 0.05), (0.5, 0.9), (0.55, 1.0)),
            colour(rng, hue + 0.3 + rng.normal(0, 0.08), (0.3, 0.8), (0.1, 0.5)),
        ),
        (float(rng.uniform(-0.2, 0.2)), float(rng.uniform(-0.2, 0.2))),
    )


def clutter(rng: np.random.Generator, height: int, width: int) -> Piece:
    """A small piece of any form, texture and colour that belongs to no class."""
    radius = float(rng.uniform(0.03, 0.1)) * min(height, width)
    hue = float(rng.random())
    return Piece(
        str(rng.choice(list(FORMS))),
        str(rng.choice(list(TEXTURES))),
        (float(rng.uniform(0, width)), float(rng.uniform(0, height))),
        (radius, radius),
        float(rng.uniform(-np.pi, np.pi)),
        float(rng.uniform(0.5, 1.5)),
        (0.0, 0.0),
        (
            colour(rng, hue, (0.1, 0.9), (0.3, 1.0)),
            colour(rng, hue + 0.2, (0.1, 0.9), (0.1, 0.7)),
        ),
        (0.0, 0.0),
    )


def colour(
    rng: np.random.Generator,
    hue: float,
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> tuple[float, float, float]:
    return colorsys.hsv_to_rgb(
        float(hue) % 1, float(rng.uniform(*saturation)), float(rng.uniform(*value))
    )


def background(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Patches of faint texture in two or three muted colours, crossed by a few lines."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    picture = np.empty((height, width, 3), dtype=np.float32)
    picture[:] = colour(rng, rng.random(), (0.05, 0.45), (0.3, 0.85))
    for _ in range(rng.integers(2, 4)):
        angle, period = rng.uniform(0, np.pi), rng.uniform(8, 28)
        u = (math.cos(angle) * x + math.sin(angle) * y) / period
        v = (math.cos(angle) * y - math.sin(angle) * x) / period
        tone = TEXTURES[str(rng.choice(list(TEXTURES)))](u, v)[..., None]
        tint = np.array(colour(rng, rng.random(), (0.05, 0.5), (0.2, 0.9)), dtype=np.float32)
        patch = (smooth_noise(rng, height, width, 3) > 0)[..., None]
        picture = np.where(patch, tint * (0.8 + rng.uniform(0.1, 0.5) * (tone - 0.5)), picture)
    for _ in range(rng.integers(2, 7)):
        angle, place = rng.uniform(0, np.pi), rng.uniform(-0.3, 1.0) * width
        distance = np.abs(math.cos(angle) * x + math.sin(angle) * y - place)
        line = colour(rng, rng.random(), (0.0, 0.6), (0.1, 1.0))
        picture[distance < rng.uniform(0.5, 2.0)] = line
    return np.clip(picture + 0.06 * smooth_noise(rng, height, width, 8)[..., None], 0, 1)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int) -> Plane:
    """Normal noise on a coarse grid, enlarged: [H, W], mean about 0, deviation below 1."""
    grid = rng.normal(size=(cells + 1, cells + 1)).astype(np.float32)
    enlarged = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(enlarged, dtype=np.float32)


# ---------------------------------------------------------------- drawing


def _paint(picture: Picture, piece: Piece) -> npt.NDArray[np.bool_]:
    """Draw the piece with soft edges; which pixels it covers by more than a half, bool [H, W]."""
    height, width = picture.shape[:2]
    covered = np.zeros((height, width), dtype=bool)
    reach = 1.5 * max(piece.radii)
    left, right = _span(piece.centre[0], reach, width)
    top, bottom = _span(piece.centre[1], reach, height)
    if left >= right or top >= bottom:
        return covered
    y, x = np.mgrid[top:bottom:0.5, left:right:0.5].astype(np.float32) + np.float32(0.25)
    dx, dy = x - piece.centre[0], y - piece.centre[1]
    px = (math.cos(piece.angle) * dx + math.sin(piece.angle) * dy) / piece.radii[0]
    py = (math.cos(piece.angle) * dy - math.sin(piece.angle) * dx) / piece.radii[1]
    tone = TEXTURES[piece.texture](
        px / piece.period + piece.phase[0], py / piece.period + piece.phase[1]
    )[..., None]
    first, second = (np.array(c, dtype=np.float32) for c in piece.colours)
    light = (1 + piece.light[0] * px + piece.light[1] * py)[..., None]
    drawn = np.clip((first * tone + second * (1 - tone)) * light, 0, 1)
    alpha = FORMS[piece.form](px, py).astype(np.float32)[..., None]
    share = _halved(alpha)
    patch = picture[top:bottom, left:right]
    patch *= 1 - share
    patch += _halved(drawn * alpha)
    covered[top:bottom, left:right] = share[..., 0] > 0.5
    return covered


def _span(centre: float, reach: float, limit: int) -> tuple[int, int]:
    return max(0, int(centre - reach)), min(limit, int(centre + reach) + 1)


def _halved(fine: Picture) -> Picture:
    """Means over 2 x 2 fine pixels."""
    rows = fine[0::2] + fine[1::2]
    return np.asarray((rows[:, 0::2] + rows[:, 1::2]) / 4, dtype=np.float32)


def _stamp(label: Label, class_id: int, covered: npt.NDArray[np.bool_]) -> None:
    """Put an object over the label; two pixels along its edge become 255."""
    label[covered] = class_id
    mask = Image.fromarray(covered.astype(np.uint8))
    wide, narrow = mask.filter(ImageFilter.MaxFilter(3)), mask.filter(ImageFilter.MinFilter(3))
    label[np.asarray(wide) != np.asarray(narrow)] = IGNORE


def _photographed(rng: np.random.Generator, scene: Picture) -> npt.NDArray[np.uint8]:
    """A colour cast, exposure and grain over everything."""
    cast = rng.normal(1.0, 0.05, 3) * np.exp(rng.normal(0, 0.12))
    grain = rng.normal(0, rng.uniform(0.005, 0.03), scene.shape)
    return np.asarray(np.clip(255 * (scene * cast + grain), 0, 255).round(), dtype=np.uint8)

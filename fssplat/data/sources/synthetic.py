"""The synthetic few-shot data set in the VOC layout: 20 classes, drawn by a program.

The options decide every picture, and `synthetic.json` in the folder records which ones were drawn.
"""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from fssplat.common.errors import InputError
from fssplat.data.sources.record import Source, SourceOptions
from fssplat.data.sources.synthetic_pictures import CLASSES, VERSION, draw
from fssplat.data.sources.voc import voc_list, voc_palette, voc_record

RECIPE_FILE = "synthetic.json"
PICTURES_PER_CALL = 50  # of a worker process


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the pictures."""

    version: int
    seed: int
    train: int  # images
    val: int


def read(folder: Path, options: SourceOptions) -> Source:
    """The synthetic set from its VOC layout in `folder`, which is drawn first if it is missing.

    Raises InputError if the folder contains other files or cannot be written.
    """
    recipe = _recipe(options)
    if _recorded_recipe(folder) != asdict(recipe):
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
    """dataset.json's `source` and `counts` for these options, without drawing a picture."""
    recipe = _recipe(options)
    counts = {
        split: count for split, count in (("train", recipe.train), ("val", recipe.val)) if count
    }
    return f"synthetic pictures, version {recipe.version}, seed {recipe.seed}", counts


def _recipe(options: SourceOptions) -> Recipe:
    return Recipe(VERSION, options.seed, options.train_images, options.val_images)


def _recorded_recipe(folder: Path) -> object:
    """The recipe of the pictures in the folder, or None if pictures are missing."""
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
            f"{folder}: synthetic pictures would be drawn there, but it contains other files. Give "
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
    (folder / "labelmap.txt").write_text(_labelmap())
    pictures = [(split, number) for split, count in counts.items() for number in range(count)]
    parts = [
        (folder, recipe.seed, pictures[i : i + PICTURES_PER_CALL])
        for i in range(0, len(pictures), PICTURES_PER_CALL)
    ]
    if workers <= 1:
        for part in parts:
            _draw_part(part)
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            list(pool.map(_draw_part, parts))
    partial.replace(folder / RECIPE_FILE)


def _labelmap() -> str:
    """The names of the classes for other programs: a line `name:red,green,blue::` for each."""
    colours = voc_palette()
    lines = [
        f"{name}:{','.join(map(str, colours[3 * place : 3 * place + 3]))}::"
        for place, name in enumerate(CLASSES, start=1)
    ]
    return "\n".join(["# label:color_rgb:parts:actions", "background:0,0,0::", *lines]) + "\n"


def _name(split: str, number: int) -> str:
    return f"{split}_{number:06d}"


def _draw_part(part: tuple[Path, int, list[tuple[str, int]]]) -> None:
    folder, seed, pictures = part
    for split, number in pictures:
        picture, label = draw(seed, split, number)
        name = _name(split, number)
        Image.fromarray(picture).save(folder / "JPEGImages" / f"{name}.jpg", quality=92)
        indexed = Image.fromarray(label).convert("P")
        indexed.putpalette(voc_palette())
        indexed.save(folder / "SegmentationClass" / f"{name}.png")

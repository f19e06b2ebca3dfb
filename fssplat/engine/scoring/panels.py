"""Pictures of a few episodes: supports with their mask, query, prediction with its IoU, truth."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fssplat.common.whole_files import write_whole
from fssplat.data.batch import IGNORE
from fssplat.data.episodes.training import Episode
from fssplat.engine.scoring.inputs import Inputs
from fssplat.engine.scoring.scorer import ManifestEpisode

Pixels = npt.NDArray[np.uint8]  # [H, W, 3]

Mask = npt.NDArray[Any]  # [H, W]: 0 background, 1 to n the ways, 255 ignored

HEIGHT = (96, 320)  # lowest and highest tile, pixels
PIXELS = 270_000  # of a whole picture; a file has at most a byte for each, so it is below 300 kB
GAP = 4  # between two tiles, pixels
FONT_SIZE = 15
CAPTION = 20  # height of the line above a tile, pixels
COLOURS = ((230, 60, 60), (60, 120, 230), (60, 180, 80), (230, 160, 40), (160, 80, 200))
TINT = 0.35  # share of a way's colour on its pixels
LIGHT, DARK = (255, 255, 255), (0, 0, 0)  # of a contour: one of them is visible on any colour
GREY, VEIL = 128, 0.7  # pixels with label 255 are grey, with a trace of the image


def chosen(episodes: list[ManifestEpisode], count: int) -> list[ManifestEpisode]:
    """`count` episodes of the first manifest, evenly spaced: the same for every method."""
    first = [episode for episode in episodes if episode.seed == episodes[0].seed]
    count = min(count, len(first))
    return [first[index * len(first) // count] for index in range(count)]


def draw(
    inputs: Inputs, episode: Episode, shot: int, prediction: Mask, ious: Sequence[float]
) -> Image.Image:
    """One row of tiles; `prediction` [h, w] may have any size with the query's aspect or square.

    `ious` has a value per way, 0 to 1, NaN if neither truth nor prediction has a pixel.
    """
    dataset, names = inputs.dataset, inputs.dataset.info.classes
    tiles = []
    for number, row in enumerate(episode.supports):
        way = number // shot
        mask = dataset.mask(row, episode.classes[way])
        mask = np.where(mask == 1, way + 1, mask)
        tiles.append((f"support: {names[episode.classes[way] - 1]}", dataset.image(row), mask))
    query = dataset.image(episode.query)
    truth = dataset.target(episode.query, episode.classes)
    size = (query.shape[1], query.shape[0])
    predicted = Image.fromarray(prediction.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    scores = ", ".join("-" if math.isnan(iou) else f"{100 * iou:.1f}" for iou in ious)
    tiles.append((f"query {dataset.keys[episode.query]}", query, np.zeros_like(truth)))
    tiles.append((f"prediction, IoU {scores}", query, np.asarray(predicted)))
    tiles.append(("truth", query, truth))
    return side_by_side(tiles)


def way_ious(counts: Tensor) -> list[float]:
    """Counts of `metrics.overlap`, [ways + 2, 2], -> IoU of each way."""
    return [
        intersection / union if union else math.nan for intersection, union in counts[1:-1].tolist()
    ]


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG with 256 colours; equal pictures give equal bytes."""
    small = picture.quantize(256)
    write_whole(path, lambda temporary: small.save(temporary, format="png", optimize=True))


def overlaid(image: Pixels, mask: Mask) -> Pixels:
    """The image with a tint and a contour for each way, and ignored pixels grey.

    The contour is a light line inside the object and a dark line outside.
    """
    result = image.astype(np.float32)
    ways = range(1, int(mask[mask != IGNORE].max(initial=0)) + 1)
    for way in ways:
        colour = np.array(COLOURS[(way - 1) % len(COLOURS)], dtype=np.float32)
        result[mask == way] = (1 - TINT) * result[mask == way] + TINT * colour
    result[mask == IGNORE] = (1 - VEIL) * result[mask == IGNORE] + VEIL * GREY
    for way in ways:
        own = mask == way
        result[grown(own) & ~own] = DARK
        result[own & grown(~own)] = LIGHT
    return result.round().astype(np.uint8)


def grown(area: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The area [H, W] and all pixels that touch it at a side or a corner."""
    padded = np.pad(area, 1)
    tall = padded[:-2] | padded[1:-1] | padded[2:]
    return tall[:, :-2] | tall[:, 1:-1] | tall[:, 2:]


def side_by_side(tiles: Sequence[tuple[str, Pixels, Mask]]) -> Image.Image:
    """All images at one height in a row, each with its mask, and with its title below it."""
    height = tile_height([(image.shape[1], image.shape[0]) for _, image, _ in tiles])
    pictures = []
    for _, image, mask in tiles:
        size = (max(1, round(image.shape[1] * height / image.shape[0])), height)
        shown = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
        small = Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
        pictures.append(Image.fromarray(overlaid(np.asarray(shown), np.asarray(small))))
    width = sum(picture.width + GAP for picture in pictures) - GAP
    sheet = Image.new("RGB", (width, height + CAPTION), "white")
    pen, font, left = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE), 0
    for (title, _, _), picture in zip(tiles, pictures, strict=True):
        while title and pen.textlength(title, font) > picture.width:
            title = title[:-1]
        pen.text((left, 0), title, fill="black", font=font)
        sheet.paste(picture, (left, CAPTION))
        left += picture.width + GAP
    return sheet


def tile_height(sizes: Sequence[tuple[int, int]]) -> int:
    """The height of all tiles, in pixels, for images of these widths and heights."""
    aspect = sum(width / height for width, height in sizes)
    lowest, highest = HEIGHT
    return max(lowest, min(highest, int(math.sqrt(PIXELS / aspect))))

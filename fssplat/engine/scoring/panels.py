"""Pictures of a few episodes: supports with their mask, query, prediction, truth."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from fssplat.common.whole_files import write_whole
from fssplat.data.batch import IGNORE
from fssplat.data.episodes.training import Episode
from fssplat.engine.scoring.inputs import Inputs
from fssplat.engine.scoring.scorer import ManifestEpisode

Pixels = npt.NDArray[np.uint8]  # [H, W, 3]

HEIGHT = 192  # of every tile, pixels
CAPTION = 14  # height of the line above a tile, pixels
COLOURS = ((230, 60, 60), (60, 120, 230), (60, 180, 80), (230, 160, 40), (160, 80, 200))
BORDER = (255, 255, 255)  # colour of pixels with label 255


def chosen(episodes: list[ManifestEpisode], count: int) -> list[ManifestEpisode]:
    """`count` episodes of the first manifest, evenly spaced: the same for every method."""
    first = [episode for episode in episodes if episode.seed == episodes[0].seed]
    count = min(count, len(first))
    return [first[index * len(first) // count] for index in range(count)]


def draw(inputs: Inputs, episode: Episode, shot: int, prediction: npt.NDArray[Any]) -> Image.Image:
    """One row of tiles; `prediction` [h, w] may have any size with the query's aspect or square."""
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
    tiles.append((f"query {dataset.keys[episode.query]}", query, np.zeros_like(truth)))
    tiles.append(("prediction", query, np.asarray(predicted)))
    tiles.append(("truth", query, truth))
    return side_by_side([(title, overlaid(image, mask)) for title, image, mask in tiles])


def save(picture: Image.Image, path: Path) -> None:
    write_whole(path, lambda temporary: picture.save(temporary, format="png"))


def overlaid(image: Pixels, mask: npt.NDArray[Any]) -> Pixels:
    """The image with half of each way's colour on its pixels, and ignored pixels white."""
    result = image.astype(np.float32)
    for way in range(1, int(mask[mask != IGNORE].max(initial=0)) + 1):
        colour = np.array(COLOURS[(way - 1) % len(COLOURS)], dtype=np.float32)
        result[mask == way] = 0.5 * result[mask == way] + 0.5 * colour
    result[mask == IGNORE] = BORDER
    return result.round().astype(np.uint8)


def side_by_side(tiles: list[tuple[str, Pixels]]) -> Image.Image:
    """All tiles at one height in a row, each below its title."""
    pictures = []
    for _, pixels in tiles:
        picture = Image.fromarray(pixels)
        width = max(1, round(picture.width * HEIGHT / picture.height))
        pictures.append(picture.resize((width, HEIGHT), Image.Resampling.BILINEAR))
    sheet = Image.new("RGB", (sum(p.width + 4 for p in pictures), HEIGHT + CAPTION), "white")
    pen, left = ImageDraw.Draw(sheet), 0
    for (title, _), picture in zip(tiles, pictures, strict=True):
        pen.text((left, 1), title[: max(1, picture.width // 6)], fill="black")
        sheet.paste(picture, (left, CAPTION))
        left += picture.width + 4
    return sheet

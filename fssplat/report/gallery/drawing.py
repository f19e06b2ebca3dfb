"""Draws one way of an episode from the data set and the predictions that the store keeps."""

from collections.abc import Mapping
from dataclasses import dataclass

from fssplat.common.errors import InputError
from fssplat.data.index import Dataset
from fssplat.engine.job_data import open_dataset
from fssplat.report.evidence.counts import Counts
from fssplat.report.evidence.gather import Evidence
from fssplat.report.gallery.tiles import Drawn, Labels, judged, labelled, plain
from fssplat.results.episodes.predictions import Prediction


@dataclass(frozen=True)
class Shown:
    """The pictures of an episode, and what is known of it."""

    tiles: tuple[Drawn, ...]
    class_name: str
    seed: int  # episode seed
    episode: int  # position in its manifest
    way: int
    object_share: float  # of the query, 0 to 1


def episode_tiles(
    evidence: Evidence, predictions: Mapping[str, tuple[str, Prediction | None]], index: int
) -> Shown:
    """The pictures of the episode and way at row `index` of the trials' counts.

    `predictions`: trial id -> its title and its mask, None if the store has not kept it. All
    trials have the same episodes. Raises InputError if the data set is away or has changed.
    """
    first = next(iter(predictions))
    counts = evidence.counts(first)
    if counts is None:
        raise InputError(evidence.problems[-1])
    trial = evidence.trials[first]
    dataset = open_dataset(trial.dataset)
    way, class_id = int(counts.way[index]), int(counts.class_id[index])
    shot, name = trial.shot, counts.names[class_id]
    supports = counts.supports[index][(way - 1) * shot : way * shot]
    tiles = []
    for number, key in enumerate(supports, 1):
        row = _row(dataset, key)
        title = "support" if shot == 1 else f"support {number}"
        tiles.append(labelled(title, dataset.image(row), dataset.mask(row, class_id)))
    query = _row(dataset, str(counts.query[index]))
    image, truth = dataset.image(query), _truth(dataset, query, counts, index)
    tiles += [plain("query", image), labelled("truth", image, truth)]
    for title, prediction in predictions.values():
        if prediction is not None:
            tiles.append(judged(title, image, truth, _mask(prediction)))
    share = float((truth == 1).mean())
    seed, episode = int(counts.seed[index]), int(counts.episode[index])
    return Shown(tuple(tiles), name, seed, episode, way, share)


def _truth(dataset: Dataset, query: int, counts: Counts, index: int) -> Labels:
    """1 for the way's object, 255 for pixels that are not scored."""
    same = (counts.seed == counts.seed[index]) & (counts.episode == counts.episode[index])
    order = sorted(zip(counts.way[same].tolist(), counts.class_id[same].tolist(), strict=True))
    target = dataset.target(query, tuple(class_id for _, class_id in order)).copy()
    way = int(counts.way[index])
    target[(target != way) & (target != 255)] = 0
    target[target == way] = 1
    return target


def _row(dataset: Dataset, key: str) -> int:
    if not dataset.has(key):
        raise InputError(
            f"{dataset.root}: has no image {key}, which the episode names. It is not the data set "
            "of this result."
        )
    return dataset.row_of(key)


def _mask(prediction: Prediction) -> Labels:
    try:
        return prediction.mask()
    except ValueError as error:
        raise InputError(f"a predicted mask is damaged: {error}") from error

"""Segment one image with a trained network, exactly as an evaluation would."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from fssplat.common.errors import InputError
from fssplat.common.printing import counted
from fssplat.data.episodes.training import Episode
from fssplat.data.index import Dataset
from fssplat.data.masks.object_masks import object_mask
from fssplat.data.transforms import Label, Pixels
from fssplat.engine.device import best_device, deterministic
from fssplat.engine.predicting.model_files import load_network
from fssplat.engine.scoring.inputs import Inputs, Score
from fssplat.engine.scoring.scorer import ManifestEpisode, Rules, Scorer
from fssplat.experiment.trial import Trial
from fssplat.methods.base import FewShotSegmenter

Mask = npt.NDArray[Any] | Path  # of one object, as `object_mask` reads it


class Predictor:
    """A trained network; every call is one episode."""

    def __init__(
        self, network: FewShotSegmenter, trial: Trial, device: torch.device | None = None
    ) -> None:
        self.network, self.trial = network, trial
        self.device = device or best_device()
        network.to(self.device).eval()
        network.before_evaluation()

    @classmethod
    def load(cls, folder: Path, device: torch.device | None = None) -> "Predictor":
        """From the files of a finished training.

        Raises InputError if one is missing or damaged, the backbone has other weights here, or
        the results of the method or the engine have changed since.
        """
        network, trial = load_network(folder)
        return cls(network, trial, device)

    def __call__(
        self, query: Pixels, supports: Sequence[Pixels], masks: Sequence[Mask]
    ) -> npt.NDArray[np.uint8]:
        """uint8 RGB [H, W, 3], K of [h, w, 3], K masks of [h, w] -> uint8 [H, W], 1 for each pixel
        of the object in the query.

        A mask has 0 and one more value, which is the object (0/1, 0/255, ...); beside 0 and 1, 255
        is ignored. `fssplat.data.masks.object_masks` has the whole rule.

        Images have any size. With n ways the supports are K of the first, K of the second, ...,
        and the result has values 0 to n. Raises InputError for shapes that do not fit each other,
        and for a mask of no object or of several.
        """
        way = self.trial.way
        episode = _checked_images(query, supports, masks, way)
        inputs = Inputs(
            cast(Dataset, episode),
            self.trial.protocol.input,
            input_size(self.trial),
        )
        score = score_at_image_size(self.trial)
        ignored = self.trial.protocol.ignores_border(self.trial.dataset.name)
        rules = Rules(len(supports) // way, (score,), ignored)
        settings = self.trial.evaluation.model_copy(update={"workers": 0})
        scorer = Scorer(self.network, inputs, rules, settings, self.device)
        drawn = Episode(0, tuple(range(1, len(supports) + 1)), tuple(range(1, way + 1)))
        with deterministic():
            (scored,) = scorer.score([ManifestEpisode(0, 0, drawn)])
        prediction: npt.NDArray[np.uint8] = scored.predictions[score].byte().cpu().numpy()
        return prediction


def input_size(trial: Trial) -> int:
    """Side of the square input in pixels: the protocol's, else that of the training."""
    return trial.protocol.size_on(trial.dataset.name) or trial.training.size


def score_at_image_size(trial: Trial) -> Score:
    """The first of the protocol's scores at the image's own size; `original` if there is none."""
    return next((score for score in trial.protocol.score if isinstance(score, str)), "original")


class EpisodeImages:
    """The images of one episode as rows of a data set: the query, then the supports."""

    def __init__(self, images: Sequence[Pixels], masks: Sequence[Label]) -> None:
        self.images, self.masks = images, masks
        self.sizes = np.array([image.shape[:2] for image in images], dtype=np.int32)

    def image(self, row: int) -> Pixels:
        return self.images[row]

    def mask(self, row: int, class_id: int) -> Label:
        return self.masks[row - 1]

    def target(self, row: int, classes: tuple[int, ...]) -> Label:
        """All background: the query has no label."""
        return np.zeros(self.images[row].shape[:2], dtype=np.uint8)


def _checked_images(
    query: Pixels, supports: Sequence[Pixels], masks: Sequence[Mask], way: int
) -> EpisodeImages:
    """The input as one episode's images. Raises InputError if shapes or values are wrong."""
    images = [np.ascontiguousarray(image) for image in (query, *supports)]
    names = ["query", *(f"support {index}" for index in range(len(supports)))]
    for name, image in zip(names, images, strict=True):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(
                f"{name}: {image.dtype} {list(image.shape)}; expected uint8 [H, W, 3], RGB."
            )
    if not supports or len(supports) % way or len(masks) != len(supports):
        raise InputError(
            f"{counted(len(supports), 'support')} and {counted(len(masks), 'mask')} for "
            f"{counted(way, 'way')}: give K images per way and one mask for each."
        )
    labels = [object_mask(mask, f"mask {index}") for index, mask in enumerate(masks)]
    for index, (label, image) in enumerate(zip(labels, images[1:], strict=True)):
        if label.shape != image.shape[:2]:
            raise InputError(
                f"mask {index}: {list(label.shape)}; expected {list(image.shape[:2])}, as its "
                f"support."
            )
    return EpisodeImages(images, labels)

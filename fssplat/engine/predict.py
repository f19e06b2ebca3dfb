"""Segment one image with a trained network, exactly as an evaluation would.

A finished training leaves three files in its folder, and they are the whole model:

    model.json              the trial as resolved, versions, and a checksum of the frozen weights
    weights.safetensors     the weights that training changed
    evaluation.safetensors  other tensors that the method reads when it scores (rare)

The frozen backbone is not copied: it is built again by name and must have the same checksum.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from fssplat.common.errors import InputError
from fssplat.common.whole_files import write_json, write_whole
from fssplat.data.episodes.training import Episode
from fssplat.data.index import Dataset
from fssplat.data.object_masks import object_mask
from fssplat.data.transforms import Label, Pixels
from fssplat.engine import checkpoint
from fssplat.engine.checkpoint import Header
from fssplat.engine.device import CPU, best_device, deterministic
from fssplat.engine.network import fresh_network
from fssplat.engine.random_state import kept_random_state
from fssplat.engine.scoring.inputs import Inputs, Score
from fssplat.engine.scoring.scorer import ManifestEpisode, Rules, Scorer
from fssplat.experiment.trial import ENGINE_RESULT_VERSION, Trial
from fssplat.methods import method_named
from fssplat.methods.base import FewShotSegmenter

MODEL, WEIGHTS, EVALUATION = "model.json", "weights.safetensors", "evaluation.safetensors"
FILES = (MODEL, WEIGHTS, EVALUATION)
FORMAT = 1
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
        record = _read_model_json(folder / MODEL)
        trial = Trial.model_validate(record["trial"])
        _check_versions(trial, record, folder)
        with kept_random_state(CPU):
            network = fresh_network(trial)
        found = checkpoint.load(folder / WEIGHTS)
        names = Header(found.header.key, trial.method.name, trial.backbone.name, 0, 0)
        checkpoint.check_owner(found.header, names, str(folder / WEIGHTS))
        if frozen_crc32(network) != record["frozen_crc32"]:
            raise InputError(
                f"{folder / MODEL}: backbone {trial.backbone.name} ({trial.backbone.weights}) has "
                "other weights here than in the training. Put the same file into $FSSPLAT_WEIGHTS."
            )
        checkpoint.load_weights(network, found, str(folder / WEIGHTS))
        network.eval()
        if (folder / EVALUATION).is_file():
            network.load_evaluation_state(load_file(folder / EVALUATION))
        return cls(network, trial, device)

    def __call__(
        self, query: Pixels, supports: Sequence[Pixels], masks: Sequence[Mask]
    ) -> npt.NDArray[np.uint8]:
        """uint8 RGB [H, W, 3], K of [h, w, 3], K masks of [h, w] -> uint8 [H, W], 1 for each pixel
        of the object in the query.

        A mask has 0 and one more value, which is the object (0/1, 0/255, ...); beside 0 and 1, 255
        is ignored. `fssplat.data.object_masks` has the whole rule.

        Images have any size. With n ways the supports are K of the first, K of the second, ...,
        and the result has values 0 to n. Raises InputError for shapes that do not fit each other,
        and for a mask of no object or of several.
        """
        way = self.trial.way
        episode = _checked_images(query, supports, masks, way)
        inputs = Inputs(
            cast(Dataset, episode),
            self.trial.protocol.input,
            self.trial.protocol.size_on(self.trial.dataset.name) or self.trial.training.size,
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
            f"{len(supports)} supports and {len(masks)} masks for {way} way(s): give K images per "
            "way and one mask for each."
        )
    labels = [object_mask(mask, f"mask {index}") for index, mask in enumerate(masks)]
    for index, (label, image) in enumerate(zip(labels, images[1:], strict=True)):
        if label.shape != image.shape[:2]:
            raise InputError(
                f"mask {index}: {list(label.shape)}; expected {list(image.shape[:2])}, as its "
                f"support."
            )
    return EpisodeImages(images, labels)


# ------------------------------------------------------------------ the files


def save_model(network: FewShotSegmenter, trial: Trial, folder: Path) -> None:
    """Write model.json and evaluation.safetensors of a trained network in eval mode."""
    if (folder / MODEL).is_file():
        return
    network.before_evaluation()
    state = network.evaluation_state()
    if state:
        kept = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        write_whole(folder / EVALUATION, lambda temporary: save_file(kept, temporary))
    record = {
        "format": FORMAT,
        "engine_version": ENGINE_RESULT_VERSION,
        "frozen_crc32": frozen_crc32(network),
        "trial": portable(trial).model_dump(mode="json"),
    }
    write_json(folder / MODEL, record)


def model_json(folder: Path, trial: Trial) -> str:
    """`model.json` for another trial that shares the training: with its own scoring options."""
    record = {**_read_model_json(folder / MODEL), "trial": portable(trial).model_dump(mode="json")}
    return json.dumps(record, indent=1, sort_keys=True) + "\n"


def portable(trial: Trial) -> Trial:
    """The trial without the folders of this machine, which do not belong to a model."""
    nowhere = {"root": ""}
    changes = {
        "dataset": trial.dataset.model_copy(update=nowhere),
        "train_on": trial.train_on.model_copy(update=nowhere),
        "training": trial.training.model_copy(update={"checkpoint": ""}),
    }
    return trial.model_copy(update=changes)


def frozen_crc32(network: FewShotSegmenter) -> int:
    """Checksum of the tensors that a checkpoint leaves out: the frozen backbone."""
    trained = checkpoint.weights(network)
    rest = {name: v for name, v in network.state_dict().items() if name not in trained}
    return checkpoint.crc32(dict(sorted(rest.items())))


def _read_model_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file. A model is the folder of a finished training.")
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{path}: not a model of this program (format {FORMAT}).")
    return record


def _check_versions(trial: Trial, record: dict[str, Any], folder: Path) -> None:
    made = (trial.method_version, record["engine_version"])
    here = (method_named(trial.method.name).RESULT_VERSION, ENGINE_RESULT_VERSION)
    if made != here:
        raise InputError(
            f"{folder / MODEL}: made by version {made[0]} of {trial.method.name} and {made[1]} of "
            f"the engine, here are {here[0]} and {here[1]}, which predict differently. Install the "
            "commit that the model names, or train again."
        )

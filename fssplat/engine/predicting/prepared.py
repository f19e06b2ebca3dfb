"""Support images of one or several classes, encoded once, for any number of queries.

Every class is segmented by itself: an episode of one way with the class's own supports, as an
evaluation has it. Among the classes that a pixel belongs to, the most probable one wins. A query is
encoded once for all classes.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fssplat.common.errors import InputError
from fssplat.data.index import Dataset
from fssplat.data.transforms import Label, Pixels, fit_label, normalise
from fssplat.engine.device import autocast, deterministic
from fssplat.engine.predicting.predictor import Predictor, input_size, score_at_image_size
from fssplat.engine.scoring.encoder import MASK
from fssplat.engine.scoring.inputs import Inputs
from fssplat.engine.scoring.scorer import Rules, Scorer
from fssplat.engine.scoring.stacking import stacked
from fssplat.experiment.schema import EvaluationSpec
from fssplat.methods.base import Encoded

HALF = 0.5  # the threshold at which a method decides itself


class Support(NamedTuple):
    """A support image with the mask of its class."""

    pixels: Pixels  # uint8 RGB [H, W, 3]
    mask: Label  # uint8 [H, W]: 1 the class, 0 other, 255 ignored


@dataclass(frozen=True)
class Segmented:
    """What was found in one query."""

    labels: npt.NDArray[np.uint8]  # [H, W] at the query's own size: 0, or the class's place from 1
    classes: tuple[str, ...]  # in the order of their places
    pixels: Mapping[str, int]  # of each class, 0 if it is absent
    confidence: Mapping[str, float]  # mean probability over these pixels; 0 if it is absent

    def mask(self, name: str) -> npt.NDArray[np.uint8]:
        """uint8 [H, W], 1 for each pixel of a class."""
        inside: npt.NDArray[np.uint8] = (self.labels == self.classes.index(name) + 1).astype(
            np.uint8
        )
        return inside


@dataclass(frozen=True)
class EncodedQuery:
    """An image as a query; its pixels are no longer needed."""

    features: Encoded
    inputs: Inputs
    size: tuple[int, int]  # (height, width)


class OneImage:
    """An image as the only row of a data set, for `Inputs`."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self.sizes = np.array([pixels.shape[:2]], dtype=np.int32)

    def image(self, row: int) -> Pixels:
        return self.pixels


class PreparedSupports:
    """A model that looks for the classes of its supports."""

    def __init__(
        self,
        predictor: Predictor,
        supports: Mapping[str, Sequence[Support]],
        threshold: float = HALF,
    ) -> None:
        """Encode the supports, class -> K of them. Raises InputError if the model cannot use them.

        `threshold` is the least probability of a pixel of a class; at 0.5 the method decides.
        """
        self.predictor, self.threshold = predictor, threshold
        trial = predictor.trial
        if trial.way != 1:
            raise InputError(
                f"{trial.title}: this model was trained for {trial.way} classes at once; needed is "
                "one with way 1, which is asked for each class."
            )
        if not supports or not all(supports.values()):
            raise InputError("no support images. Give at least one for each class.")
        if len(supports) > 254:
            raise InputError(f"{len(supports)} classes; at most 254 can be told apart.")
        self.classes = tuple(supports)
        self.spec: EvaluationSpec = trial.evaluation.model_copy(update={"workers": 0})
        self.score = score_at_image_size(trial)
        self.supports = {name: tuple(given) for name, given in supports.items()}
        self._encoded = {  # of each class, its supports stacked
            name: stacked([self._encoded_support(one) for one in given])
            for name, given in self.supports.items()
        }

    def at(self, threshold: float) -> Self:
        """The same supports with another threshold; nothing is encoded again."""
        other = copy.copy(self)
        other.threshold = threshold
        return other

    # ------------------------------------------------------------------ encode

    @torch.no_grad()
    def query(self, pixels: Pixels) -> EncodedQuery:
        """Encode uint8 RGB [H, W, 3] as a query. Raises InputError for another shape."""
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise InputError(
                f"query: {pixels.dtype} {list(pixels.shape)}; expected uint8 [H, W, 3], RGB."
            )
        inputs = self.inputs(pixels)
        with deterministic(), autocast(self.predictor.device, self.spec.precision):
            features = self.predictor.network.encode_query(self._encode(inputs)[0])
        return EncodedQuery(features, inputs, (pixels.shape[0], pixels.shape[1]))

    def inputs(self, pixels: Pixels) -> Inputs:
        """The image at the protocol's input size."""
        trial = self.predictor.trial
        rows = cast(Dataset, OneImage(pixels))
        return Inputs(rows, trial.protocol.input, input_size(trial))

    def _encode(self, inputs: Inputs) -> tuple[Encoded, Tensor]:
        image = normalise(inputs.image(0).to(self.predictor.device)).unsqueeze(0)
        return self.predictor.network.encode(image), image

    @torch.no_grad()
    def _encoded_support(self, support: Support) -> Encoded:
        """The features with the mask, as `scoring.encoder` keeps them."""
        inputs = self.inputs(support.pixels)
        label = fit_label(support.mask, inputs.size, inputs.mode)
        mask = torch.from_numpy(label.astype(np.int64)).to(self.predictor.device).unsqueeze(0)
        with deterministic(), autocast(self.predictor.device, self.spec.precision):
            encoded, image = self._encode(inputs)
            features = self.predictor.network.encode_support(encoded, image, mask)
        return {**features, MASK: mask}

    # ------------------------------------------------------------------ segment

    def __call__(self, pixels: Pixels) -> Segmented:
        """uint8 RGB [H, W, 3] -> what is found in it. Raises InputError for another shape."""
        return self.segment(self.query(pixels))

    def segment(self, query: EncodedQuery) -> Segmented:
        """What is found in an encoded query."""
        return self.segment_all([query])[0]

    @torch.no_grad()
    def segment_all(self, queries: Sequence[EncodedQuery]) -> list[Segmented]:
        """What is found in each query. Neighbours of one network size share a pass, if memory
        allows it."""
        found: list[Segmented] = []
        for size, same in groupby(queries, key=lambda one: one.inputs.network_size(0)):
            group = list(same)
            logits = [self._logits(group, self._encoded[name], size) for name in self.classes]
            found += [
                self._combined(query, [of_class[place] for of_class in logits])
                for place, query in enumerate(group)
            ]
        return found

    def _combined(self, query: EncodedQuery, logits: Sequence[Tensor]) -> Segmented:
        """The most probable class of each pixel, from the logits of each class."""
        found = [self._inside(query, of_class) for of_class in logits]
        inside = torch.stack([one[0] for one in found])
        chances = torch.stack([one[1] for one in found])
        ranked = torch.where(inside, chances, -1.0)
        best, place = ranked.max(dim=0)
        labels = torch.where(best >= 0, place + 1, 0)
        pixels, confidence = {}, {}
        for number, name in enumerate(self.classes, start=1):
            own = labels == number
            pixels[name] = int(own.sum())
            confidence[name] = float(chances[number - 1][own].mean()) if pixels[name] else 0.0
        return Segmented(labels.byte().cpu().numpy(), self.classes, pixels, confidence)

    @torch.no_grad()
    def without(self, query: EncodedQuery, name: str, left_out: int) -> npt.NDArray[np.bool_]:
        """[H, W]: where a class is found by its supports but one."""
        kept = [place for place in range(len(self.supports[name])) if place != left_out]
        supports = {key: value[kept] for key, value in self._encoded[name].items()}
        logits = self._logits([query], supports, query.inputs.network_size(0))[0]
        inside: npt.NDArray[np.bool_] = self._inside(query, logits)[0].cpu().numpy()
        return inside

    def logits(self, query: EncodedQuery, name: str) -> Tensor:
        """Of a class [k, 2, h, w] at the size of the network's input, or [1, 2, h, w] if the
        network fuses shots."""
        return self._logits([query], self._encoded[name], query.inputs.network_size(0))[0]

    def _logits(
        self, queries: Sequence[EncodedQuery], supports: Encoded, size: tuple[int, int]
    ) -> list[Tensor]:
        """As `logits`, of each query, from the stacked supports of a class."""
        with deterministic():
            features = stacked([query.features for query in queries])
            scorer = self._scorer(queries[0], len(supports[MASK]))
            return scorer.segmented(features, supports, 1, size)

    def _inside(self, query: EncodedQuery, logits: Tensor) -> tuple[Tensor, Tensor]:
        """bool [H, W], whether a pixel is of the class, and its probability float32 [H, W]."""
        with deterministic():
            sized = query.inputs.scored(logits, 0, self.score, torch.Size(query.size))
            chance = (sized[:, 1] - sized[:, 0]).sigmoid().mean(dim=0)
            if self.threshold != HALF:
                return chance > self.threshold, chance
            return self._scorer(query, len(logits)).fuse(sized) > 0, chance

    def _scorer(self, query: EncodedQuery, shot: int) -> Scorer:
        rules = Rules(shot, (self.score,), ignore_border=True)
        return Scorer(self.predictor.network, query.inputs, rules, self.spec, self.predictor.device)

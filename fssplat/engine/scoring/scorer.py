"""Episodes in, one row of pixel counts per episode, way and scored size out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from fssplat.common.errors import InputError
from fssplat.data.batch import IGNORE
from fssplat.data.episodes.training import Episode
from fssplat.engine.device import autocast, images_per_pass
from fssplat.engine.scoring.encoder import MASK, Encoder, Role
from fssplat.engine.scoring.inputs import Inputs, Score
from fssplat.engine.scoring.metrics import Scores, overlap
from fssplat.experiment.schema import EvaluationSpec
from fssplat.methods.base import Encoded, FewShotSegmenter, grouped
from fssplat.methods.layers.fusion import fuse_shots, labels

Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One episode of one manifest."""

    seed: int  # of the manifest
    index: int  # in the manifest
    episode: Episode

    def roles(self, shot: int) -> list[Role]:
        """The query, then every support, way by way."""
        ways = [class_id for class_id in self.episode.classes for _ in range(shot)]
        supports = [Role(*pair) for pair in zip(self.episode.supports, ways, strict=True)]
        return [Role(self.episode.query), *supports]


@dataclass(frozen=True)
class Scored:
    """What an episode gave: its predictions, and [classes + 1, 2] pixel counts, by scored size."""

    task: Task
    predictions: Mapping[Score, Tensor]  # int64 [h, w] on the device
    counts: Mapping[Score, Tensor]  # int64, see `metrics.overlap`


@dataclass(frozen=True)
class Rules:
    """The protocol's axes that scoring reads."""

    shot: int
    scores: tuple[Score, ...]  # the first is the headline
    ignore_border: bool


def locality(task: Task) -> tuple[Any, ...]:
    """Sorting by this brings episodes together that share images; it changes no count."""
    return task.episode.classes, task.episode.query, task.episode.supports


class Scorer:
    """A network in eval mode over a data set's episodes."""

    def __init__(
        self,
        network: FewShotSegmenter,
        inputs: Inputs,
        rules: Rules,
        spec: EvaluationSpec,
        device: torch.device,
    ) -> None:
        self.network, self.inputs, self.rules = network, inputs, rules
        self.spec, self.device = spec, device
        self.encoded_images = 0
        self.limit = spec.batch  # segmentations at once; halved where memory runs out

    @torch.no_grad()  # not inference_mode: what a method caches here may meet a gradient later
    def score(self, tasks: list[Task]) -> Iterator[Scored]:
        """Every task once, in an order that suits the cache."""
        assert not self.network.training, "evaluation needs eval mode"
        tasks = sorted(tasks, key=locality)
        batches = self._batches(tasks)
        uses = [role for task in tasks for role in task.roles(self.rules.shot)]
        encoder = Encoder(self.network, self.inputs, self.spec, uses, self.device)
        try:
            for batch, following in pairwise([*batches, []]):
                encoder.read_ahead(r for task in batch for r in task.roles(self.rules.shot))
                encoder.read_ahead(r for task in following for r in task.roles(self.rules.shot))
                yield from self._score_batch(batch, encoder)
        finally:
            encoder.close()
            self.encoded_images += encoder.encoded_images

    def together(self, size: tuple[int, int]) -> int:
        """How many segmentations of this size one pass computes."""
        return images_per_pass(self.device, self.limit, size)

    def _batches(self, tasks: list[Task]) -> list[list[Task]]:
        """Neighbours with one network size; where shots are segmented apart, each counts."""
        apart = self.network.SHOT_FUSION != "network"
        batches: list[list[Task]] = []
        for task in tasks:
            size = self.inputs.network_size(task.episode.query)
            most = max(1, self.together(size) // (self.rules.shot if apart else 1))
            full = not batches or len(batches[-1]) == most
            if full or self.inputs.network_size(batches[-1][0].episode.query) != size:
                batches.append([])
            batches[-1].append(task)
        return batches

    def _score_batch(self, tasks: list[Task], encoder: Encoder) -> Iterator[Scored]:
        encoded = [encoder.get(task.roles(self.rules.shot)) for task in tasks]
        size = self.inputs.network_size(tasks[0].episode.query)
        for task, logits in zip(tasks, self._in_memory(encoded, tasks, size), strict=True):
            row, classes = task.episode.query, task.episode.classes
            predictions, counts = {}, {}
            for score in self.rules.scores:
                truth = self.inputs.truth(row, classes, score)
                at_score = self.inputs.scored(logits, row, score, truth.shape)
                prediction = self._fuse(at_score)
                counts[score] = overlap(
                    prediction, truth.to(self.device), logits.shape[1], self.rules.ignore_border
                )
                predictions[score] = prediction
            yield Scored(task, predictions, counts)

    def _fuse(self, logits: Tensor) -> Tensor:
        if self.network.SHOT_FUSION == "network":
            return labels(logits)[0]
        return fuse_shots(logits, self.network.SHOT_FUSION)

    def _in_memory(
        self, encoded: list[list[Encoded]], tasks: list[Task], size: tuple[int, int]
    ) -> list[Tensor]:
        """`_logits`; where memory runs out, in halves from then on."""
        while True:
            try:
                return self._logits(encoded, tasks, size)
            except torch.OutOfMemoryError:
                tried = self.together(size)
                if tried == 1:
                    raise
            self.limit = tried // 2  # outside `except`, where the failed pass is already free

    def _logits(
        self, encoded: list[list[Encoded]], tasks: list[Task], size: tuple[int, int]
    ) -> list[Tensor]:
        """Per episode float32 [1, p, H, W], or [k, p, H, W] where shots are fused afterwards."""
        b, n, k = len(tasks), len(tasks[0].episode.classes), self.rules.shot
        query = stacked([of_episode[0] for of_episode in encoded])
        supports = stacked([support for of_episode in encoded for support in of_episode[1:]])
        masks = supports.pop(MASK)
        if self.network.SHOT_FUSION != "network":  # every shot becomes an episode of its own
            query = {name: repeated(value, k) for name, value in query.items()}
            supports = {name: shot_first(value, (b, n, k)) for name, value in supports.items()}
            masks = shot_first(masks, (b, n, k))
            b, k = b * k, 1
        supports = grouped(supports, (b, n, k))
        masks = masks.reshape(b, n, k, *masks.shape[1:])
        passes = []
        for first in range(0, b, self.together(size)):
            part = slice(first, first + self.together(size))
            with autocast(self.device, self.spec.precision):
                logits = self.network.segment(
                    {name: value[part] for name, value in query.items()},
                    {name: value[part] for name, value in supports.items()},
                    masks[part],
                    size,
                )
            passes.append(logits.float())
        whole = passes[0] if len(passes) == 1 else torch.cat(passes)
        return list(torch.split(whole, b // len(tasks)))


def stacked(encoded: list[Encoded]) -> Encoded:
    """Dicts of [1, ...] tensors -> one of [images, ...]; masks of many sizes are padded by 255."""
    if len(encoded) == 1:
        return dict(encoded[0])
    result = {}
    for name in encoded[0]:
        values = [one[name] for one in encoded]
        shapes = {tuple(value.shape) for value in values}
        if len(shapes) > 1 and name == MASK:
            values = padded(values)
        elif len(shapes) > 1:
            raise InputError(
                f"protocol.input original: this method's {name} has the size of its support "
                f"image, and {len(shapes)} sizes meet in one batch. Set protocol.input to pad."
            )
        result[name] = torch.cat(values)
    return result


def padded(masks: list[Tensor]) -> list[Tensor]:
    """[1, h, w] each -> all of the largest height and width, 255 where there was nothing."""
    height, width = (max(mask.shape[axis] for mask in masks) for axis in (-2, -1))
    return [
        torch.nn.functional.pad(
            mask, (0, width - mask.shape[-1], 0, height - mask.shape[-2]), value=IGNORE
        )
        for mask in masks
    ]


def repeated(value: Tensor, times: int) -> Tensor:
    """[b, ...] -> [b * times, ...], each entry `times` in a row; no copy for b = 1."""
    return value.unsqueeze(1).expand(-1, times, *value.shape[1:]).flatten(0, 1)


def shot_first(value: Tensor, lead: tuple[int, int, int]) -> Tensor:
    """[b * n * k, ...] -> [b * k * n, ...]; the ways of one shot come together."""
    if lead[1] == 1:
        return value
    return value.reshape(*lead, *value.shape[1:]).transpose(1, 2).flatten(0, 2)


# ------------------------------------------------------------------ tables


SCHEMA = pa.schema(
    [
        ("trial_id", pa.string()),
        ("seed", pa.int64()),
        ("episode", pa.int64()),
        ("score", pa.string()),
        ("way", pa.int32()),
        ("class_id", pa.int32()),
        ("class", pa.string()),
        ("query", pa.string()),
        ("supports", pa.list_(pa.string())),
        ("intersection", pa.int64()),
        ("union", pa.int64()),
        ("background_intersection", pa.int64()),
        ("background_union", pa.int64()),
        ("foreground_intersection", pa.int64()),  # of all ways together
        ("foreground_union", pa.int64()),
        ("object_pixels", pa.int64()),  # of the class in the query, at original size
        ("image_pixels", pa.int64()),
    ]
)


def rows_of(scored: Scored, inputs: Inputs, trial_id: str) -> list[Row]:
    """The table's rows of one episode; waits for the device."""
    dataset, episode = inputs.dataset, scored.task.episode
    shared = {
        "trial_id": trial_id,
        "seed": scored.task.seed,
        "episode": scored.task.index,
        "query": dataset.keys[episode.query],
        "supports": [dataset.keys[row] for row in episode.supports],
        "image_pixels": int(np.prod(dataset.sizes[episode.query])),
    }
    rows = []
    for score, counts in scored.counts.items():
        table = counts.tolist()
        for way, class_id in enumerate(episode.classes, start=1):
            rows.append(
                {
                    **shared,
                    "score": str(score),
                    "way": way,
                    "class_id": class_id,
                    "class": dataset.info.classes[class_id - 1],
                    "intersection": table[way][0],
                    "union": table[way][1],
                    "background_intersection": table[0][0],
                    "background_union": table[0][1],
                    "foreground_intersection": table[-1][0],
                    "foreground_union": table[-1][1],
                    "object_pixels": dataset.area(episode.query, class_id),
                }
            )
    return rows


def table_of(rows: list[Row]) -> pa.Table:
    """All rows in the order of the manifests, whatever the order of scoring."""
    order = sorted(rows, key=lambda row: (row["seed"], row["episode"], row["score"], row["way"]))
    return pa.Table.from_pylist(order, schema=SCHEMA)


def sums_of(rows: list[Row], score: Score, classes: tuple[int, ...]) -> dict[int, Scores]:
    """Seed -> sums over its episodes at one scored size; works on rows read back from a file."""
    seeds: dict[int, Scores] = {}
    for row in rows:
        if row["score"] != str(score):
            continue
        sums = seeds.setdefault(row["seed"], Scores(classes))
        sums.add_class(row["class_id"], np.array([row["intersection"], row["union"]]))
        if row["way"] == 1:
            ground = [
                [row["background_intersection"], row["background_union"]],
                [row["foreground_intersection"], row["foreground_union"]],
            ]
            sums.add_grounds(np.array(ground))
    return seeds

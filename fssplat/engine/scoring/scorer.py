"""Segment the episodes of manifests in batches and count pixels per way and scored size."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from fssplat.data.episodes.training import Episode
from fssplat.engine.device import autocast, images_per_pass
from fssplat.engine.scoring.encoder import MASK, Encoder, Role
from fssplat.engine.scoring.inputs import Inputs, Score
from fssplat.engine.scoring.metrics import overlap
from fssplat.engine.scoring.stacking import repeated, shot_first, stacked
from fssplat.experiment.schema import EvaluationSpec
from fssplat.methods.base import Encoded, FewShotSegmenter, grouped
from fssplat.methods.layers.fusion import fuse_shots, labels


@dataclass(frozen=True)
class ManifestEpisode:
    """One episode of one manifest."""

    seed: int  # of the manifest
    index: int  # in the manifest
    drawn: Episode

    def roles(self, shot: int) -> list[Role]:
        """The query, then every support, way by way."""
        ways = [class_id for class_id in self.drawn.classes for _ in range(shot)]
        supports = [Role(*pair) for pair in zip(self.drawn.supports, ways, strict=True)]
        return [Role(self.drawn.query), *supports]


@dataclass(frozen=True)
class ScoredEpisode:
    """An episode with its predictions and its pixel counts, both by scored size."""

    episode: ManifestEpisode
    predictions: Mapping[Score, Tensor]  # int64 [h, w] on the device
    counts: Mapping[Score, Tensor]  # int64 [classes + 1, 2], see `metrics.overlap`


@dataclass(frozen=True)
class Rules:
    """The protocol's settings that scoring reads."""

    shot: int
    scores: tuple[Score, ...]  # the first is the headline
    ignore_border: bool


def locality(episode: ManifestEpisode) -> tuple[Any, ...]:
    """Sorting by this puts episodes that share images next to each other; it changes no count."""
    return episode.drawn.classes, episode.drawn.query, episode.drawn.supports


class Scorer:
    """Scores a network in eval mode on episodes of a data set."""

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
        self.limit = spec.batch  # segmentations per pass; halved if memory runs out

    @torch.no_grad()  # not inference_mode: a method may later need gradients of what it caches here
    def score(self, episodes: list[ManifestEpisode]) -> Iterator[ScoredEpisode]:
        """Every episode once, in an order that suits the cache."""
        assert not self.network.training, "evaluation needs eval mode"
        episodes = sorted(episodes, key=locality)
        batches = self._batches(episodes)
        uses = [role for episode in episodes for role in episode.roles(self.rules.shot)]
        encoder = Encoder(self.network, self.inputs, self.spec, uses, self.device)
        try:
            for batch, following in pairwise([*batches, []]):
                for soon in (batch, following):
                    encoder.read_ahead(r for e in soon for r in e.roles(self.rules.shot))
                yield from self._score_batch(batch, encoder)
        finally:
            encoder.close()
            self.encoded_images += encoder.encoded_images

    def per_pass(self, size: tuple[int, int]) -> int:
        """How many segmentations of this size one pass computes."""
        return images_per_pass(self.device, self.limit, size)

    def _batches(self, episodes: list[ManifestEpisode]) -> list[list[ManifestEpisode]]:
        """Neighbours whose images have one size; each shot counts if it is segmented by itself."""
        one_by_one = self.network.SHOT_FUSION != "network"
        batches: list[list[ManifestEpisode]] = []
        for episode in episodes:
            size = self.inputs.network_size(episode.drawn.query)
            most = max(1, self.per_pass(size) // (self.rules.shot if one_by_one else 1))
            full = not batches or len(batches[-1]) == most
            if full or self._sizes(batches[-1][0]) != self._sizes(episode):
                batches.append([])
            batches[-1].append(episode)
        return batches

    def _sizes(self, episode: ManifestEpisode) -> list[tuple[int, int]]:
        """The sizes of the images that the episodes of a batch must have in common."""
        drawn = episode.drawn
        rows = (drawn.query, *drawn.supports) if self.network.SUPPORT_MAPS else (drawn.query,)
        return [self.inputs.network_size(row) for row in rows]

    def _score_batch(
        self, episodes: list[ManifestEpisode], encoder: Encoder
    ) -> Iterator[ScoredEpisode]:
        encoded = [encoder.get(episode.roles(self.rules.shot)) for episode in episodes]
        size = self.inputs.network_size(episodes[0].drawn.query)
        ways = len(episodes[0].drawn.classes)
        every = self.logits(encoded, ways, size)
        for episode, logits in zip(episodes, every, strict=True):
            row, classes = episode.drawn.query, episode.drawn.classes
            predictions, counts = {}, {}
            for score in self.rules.scores:
                truth = self.inputs.truth(row, classes, score)
                at_score = self.inputs.scored(logits, row, score, truth.shape)
                prediction = self.fuse(at_score)
                counts[score] = overlap(
                    prediction, truth.to(self.device), logits.shape[1], self.rules.ignore_border
                )
                predictions[score] = prediction
            yield ScoredEpisode(episode, predictions, counts)

    def fuse(self, logits: Tensor) -> Tensor:
        """Logits of one episode -> classes int64 [H, W], 0 background."""
        if self.network.SHOT_FUSION == "network":
            return labels(logits)[0]
        return fuse_shots(logits, self.network.shot_fusion)

    def logits(
        self, encoded: list[list[Encoded]], ways: int, size: tuple[int, int]
    ) -> list[Tensor]:
        """Per episode float32 [1, p, H, W], or [k, p, H, W] if shots are fused afterwards.

        An episode is its query, then its supports, way by way. If memory runs out, half as many are
        computed per pass from then on.
        """
        query = stacked([of_episode[0] for of_episode in encoded])
        supports = stacked([support for of_episode in encoded for support in of_episode[1:]])
        return self.segmented(query, supports, ways, size)

    def segmented(
        self, query: Encoded, supports: Encoded, ways: int, size: tuple[int, int]
    ) -> list[Tensor]:
        """As `logits`, from the stacked features of b queries and of their b * n * k supports.

        Supports of one episode alone are those of every query.
        """
        while True:
            try:
                return self._segmented(query, supports, ways, size)
            except torch.OutOfMemoryError:
                tried = self.per_pass(size)
                if tried == 1:
                    raise
            self.limit = tried // 2  # outside `except`, where the failed pass is already free

    def _segmented(
        self, query: Encoded, supports: Encoded, ways: int, size: tuple[int, int]
    ) -> list[Tensor]:
        queries, n, k = len(next(iter(query.values()))), ways, self.rules.shot
        times = queries * n * k // len(supports[MASK])  # 1, or b if the queries share supports
        supports = {
            name: value if times == 1 else torch.cat([value] * times)
            for name, value in supports.items()
        }
        masks, b = supports.pop(MASK), queries
        if self.network.SHOT_FUSION != "network":  # every shot becomes an episode of its own
            query = {name: repeated(value, k) for name, value in query.items()}
            supports = {name: shot_first(value, (b, n, k)) for name, value in supports.items()}
            masks = shot_first(masks, (b, n, k))
            b, k = b * k, 1
        supports = grouped(supports, (b, n, k))
        masks = masks.reshape(b, n, k, *masks.shape[1:])
        passes = []
        for first in range(0, b, self.per_pass(size)):
            part = slice(first, first + self.per_pass(size))
            with autocast(self.device, self.spec.precision):
                logits = self.network.segment(
                    {name: value[part] for name, value in query.items()},
                    {name: value[part] for name, value in supports.items()},
                    masks[part],
                    size,
                )
            passes.append(logits.float())
        whole = passes[0] if len(passes) == 1 else torch.cat(passes)
        return list(torch.split(whole, b // queries))

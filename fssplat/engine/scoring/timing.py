"""Measures the time and the peak memory of one episode: one at a time, nothing cached.

The time is from images on the device to the predicted class of each query pixel, at the size of the
network's input. Reading, decoding and resizing files are not part of it, and neither is the score.
The images of an episode pass the backbone together if they have one size, otherwise one by one.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fssplat.data.episodes.training import Episode
from fssplat.data.transforms import normalise
from fssplat.engine.device import (
    autocast,
    images_per_pass,
    memory_in_use,
    peak_memory,
    reset_peak_memory,
)
from fssplat.engine.scoring.encoder import MASK
from fssplat.engine.scoring.inputs import Inputs
from fssplat.engine.scoring.stacking import repeated, shot_first, stacked
from fssplat.methods.base import Encoded, FewShotSegmenter, grouped
from fssplat.methods.layers.fusion import fuse_shots, labels

WARM_UP = 3  # episodes before the first that counts

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class LoadedEpisode:
    """An episode's images and masks on the device."""

    query: Tensor  # float32 [1, 3, H, W], normalised
    supports: tuple[Tensor, ...]  # n * k of [1, 3, h, w], the shots of a way are neighbours
    masks: tuple[Tensor, ...]  # n * k of int64 [1, h, w]
    way: int  # n


@dataclass(frozen=True)
class Measured:
    """What the episodes of one number of shots took."""

    seconds: tuple[float, ...]  # of each episode
    memory: int  # most bytes above the idle process; 0 if the system does not report it


def loaded(
    inputs: Inputs, episodes: Iterable[Episode], shot: int, device: torch.device
) -> list[LoadedEpisode]:
    """The episodes' images as the network gets them, fitted to the protocol's size."""

    def image(row: int) -> Tensor:
        return normalise(inputs.image(row).to(device)).unsqueeze(0)

    def of_one(episode: Episode) -> LoadedEpisode:
        classes = [class_id for class_id in episode.classes for _ in range(shot)]
        pairs = zip(episode.supports, classes, strict=True)
        return LoadedEpisode(
            image(episode.query),
            tuple(image(row) for row in episode.supports),
            tuple(inputs.mask(*pair).to(device).unsqueeze(0) for pair in pairs),
            len(episode.classes),
        )

    return [of_one(episode) for episode in episodes]


def measure(
    network: FewShotSegmenter,
    episodes: Sequence[LoadedEpisode],
    count: int,
    device: torch.device,
    idle: int,
    precision: Precision = "fp32",
) -> Measured:
    """Time `count` episodes of a network in eval mode, after WARM_UP others.

    If there are fewer, they take turns. `idle`: `memory_in_use` before the network was built.
    """

    def once(number: int) -> float:
        started = clock(device)
        predicted(network, episodes[number % len(episodes)], device, precision)
        return clock(device) - started

    for number in range(WARM_UP):
        once(number)
    reset_peak_memory(device)
    seconds = tuple(once(number) for number in range(count))
    peak = peak_memory(device) if memory_in_use(device) else 0
    return Measured(seconds, max(0, peak - idle))


@torch.no_grad()
def predicted(
    network: FewShotSegmenter, episode: LoadedEpisode, device: torch.device, precision: Precision
) -> Tensor:
    """The class of each query pixel, int64 [H, W]; the method's way to combine shots is applied."""
    size = (episode.query.shape[-2], episode.query.shape[-1])
    n, k = episode.way, len(episode.supports) // episode.way
    with autocast(device, precision):
        query, supports, masks = _encoded(network, episode)
        if network.SHOT_FUSION == "network":
            return labels(network.segment(query, supports, masks, size).float())[0]
        query = {name: repeated(value, k) for name, value in query.items()}
        supports = {name: _apart(value, n, k) for name, value in supports.items()}
        masks = _apart(masks, n, k)
        most = images_per_pass(device, k, size)
        passes = []
        for first in range(0, k, most):
            part = slice(first, first + most)
            of_query, of_supports = _rows(query, part), _rows(supports, part)
            passes.append(network.segment(of_query, of_supports, masks[part], size).float())
        return fuse_shots(torch.cat(passes), network.shot_fusion)


def _encoded(network: FewShotSegmenter, episode: LoadedEpisode) -> tuple[Encoded, Encoded, Tensor]:
    """Features of the query [1, ...], of the supports [1, n, k, ...], masks [1, n, k, H, W]."""
    lead = (1, episode.way, len(episode.supports) // episode.way)
    if len({image.shape for image in (episode.query, *episode.supports)}) == 1:
        images = torch.cat(episode.supports)
        masks = torch.cat(episode.masks)
        images, masks = (
            images.reshape(*lead, *images.shape[1:]),
            masks.reshape(*lead, *masks.shape[1:]),
        )
        return *network.encode_episodes(episode.query, images, masks), masks
    each = []
    for image, mask in zip(episode.supports, episode.masks, strict=True):
        each.append({**network.encode_support(network.encode(image), image, mask), MASK: mask})
    supports = grouped(stacked(each), lead)
    masks = supports.pop(MASK)
    return network.encode_query(network.encode(episode.query)), supports, masks


def _apart(value: Tensor, n: int, k: int) -> Tensor:
    """[1, n, k, ...] -> [k, n, 1, ...]: every shot is an episode of its own."""
    return shot_first(value.flatten(0, 2), (1, n, k)).reshape(k, n, 1, *value.shape[3:])


def _rows(encoded: Encoded, part: slice) -> Encoded:
    return {name: value[part] for name, value in encoded.items()}


def clock(device: torch.device) -> float:
    """Seconds, after all work on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()

"""Pseudo masks of MiningFSS, by clusters of base-class objects, and the regions in them.

Source   Yang et al., ICCV 2021, section 3.3.1; "Eq. 2" below is equation 2 there. K-means:
         Lloyd, IEEE Trans. Inf. Theory 1982; its starts: Arthur and Vassilvitskii, SODA 2007.
Shapes   I images, R regions, c channels, h x w feature cells (they differ by image), H x W pixels,
         K clusters. Labels: 0 background, 1..K a cluster.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fssplat.common.errors import InputError
from fssplat.methods.base import BaseImages, Images
from fssplat.methods.layers.photometric import normalised
from fssplat.methods.layers.prototypes import cosine_scores, mean_under_mask

Features = Callable[[Tensor], Tensor]  # uint8 [3, H, W] -> [c, h, w]
ITERATIONS = 300  # at most, of K-means; its assignments settle long before


class Pool:
    """Several sources of images joined, with at most `limit` of each, evenly spaced."""

    def __init__(self, sources: list[Images], limit: int | None) -> None:
        self.sources = sources
        self.key = "+".join(f"{source.key}/{limit}" for source in sources)
        self.places = [
            (number, index)
            for number, source in enumerate(sources)
            for index in evenly_spaced(len(source), limit)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def image(self, index: int) -> Tensor:
        """uint8 [3, H, W]."""
        number, inside = self.places[index]
        return self.sources[number].image(inside)

    def truth(self, index: int) -> Tensor | None:
        """int64 [H, W]: the labels of the base classes; None for an image without them."""
        number, inside = self.places[index]
        labels: Callable[[int], Tensor] | None = getattr(self.sources[number], "label", None)
        return labels(inside) if labels is not None else None


def evenly_spaced(count: int, limit: int | None) -> list[int]:
    """At most `limit` of the numbers below `count`, evenly spaced; all if it is None."""
    kept = count if limit is None else min(limit, count)
    return [number * count // kept for number in range(kept)]


def network_input(image: Tensor, device: torch.device) -> Tensor:
    """uint8 [3, H, W] -> normalised float32 [1, 3, H, W] on the device."""
    return normalised(image.to(device).float() / 255).unsqueeze(0)


# ------------------------------------------------------------------ clusters


@torch.no_grad()
def representatives(
    features: Features, source: BaseImages, clusters: int, limit: int | None
) -> Tensor:
    """P_rep: the mean background, then the K centres of the objects of base classes: [K + 1, c].

    An object is the pixels of one class in one image (Eq. 2).
    """
    objects: list[Tensor] = []
    backgrounds: list[Tensor] = []
    for index in evenly_spaced(len(source), limit):
        maps, label = features(source.image(index)), source.label(index)
        label = label.to(maps.device)
        for class_id in torch.unique(label).tolist():
            if class_id == 255:
                continue
            prototype = mean_under_mask(maps, label == class_id)
            (objects if class_id else backgrounds).append(prototype)
    if not objects:
        raise InputError(
            "no base image shows a base class at this training.size. Raise training.size, or build "
            "the data set from more images."
        )
    centres = kmeans(torch.stack(objects), clusters)
    none = torch.zeros_like(centres[0])
    background = torch.stack(backgrounds).mean(dim=0) if backgrounds else none
    return torch.cat([background.unsqueeze(0), centres])


def kmeans(points: Tensor, k: int, seed: int = 0) -> Tensor:
    """K-means with seeded k-means++ starts: n points [n, c] -> k centres [k, c].

    The same points give the same centres on every machine. Some centres are equal if there are
    fewer than `k` distinct points. A centre that loses all its points does not move.
    """
    assert len(points), "no point to group"
    centres = spread_out_starts(points, k, torch.Generator().manual_seed(seed))
    assigned: Tensor | None = None
    for _ in range(ITERATIONS):
        owners = nearest_centre(points, centres)
        if assigned is not None and torch.equal(owners, assigned):
            break
        assigned = owners
        sums = torch.zeros_like(centres).index_add_(0, owners, points)
        counts = torch.bincount(owners, minlength=k).unsqueeze(1)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres


def nearest_centre(points: Tensor, centres: Tensor) -> Tensor:
    """[n, c], [k, c] -> index of the nearest centre [n], the first if equal."""
    return torch.cdist(points, centres).argmin(dim=1)


def spread_out_starts(points: Tensor, k: int, draw: torch.Generator) -> Tensor:
    """k-means++ starts: points drawn with probability by squared distance to those chosen."""
    chosen = [int(torch.randint(len(points), (), generator=draw))]
    distance = torch.cdist(points, points[chosen]).square().squeeze(1).double().cpu()
    while len(chosen) < k:
        total = distance.cumsum(dim=0)
        at = torch.rand((), generator=draw, dtype=torch.float64) * total[-1]
        chosen.append(min(int(torch.searchsorted(total, at, right=True)), len(points) - 1))
        new = torch.cdist(points, points[chosen[-1:]]).square().squeeze(1).double().cpu()
        distance = torch.minimum(distance, new)
    return points[chosen].clone()


# ------------------------------------------------------------------ masks


class PseudoMasks:
    """One label grid per image of a pool; grids differ in size."""

    def __init__(self, labels: Tensor, sizes: Tensor) -> None:
        """`labels` uint8: all grids, flattened and concatenated; `sizes` int64 [I, 2]."""
        self.labels, self.sizes = labels, sizes
        self.starts: list[int] = [0, *sizes.prod(dim=1).cumsum(dim=0).tolist()]

    def __len__(self) -> int:
        return len(self.sizes)

    def grid(self, index: int) -> Tensor:
        """uint8 [h, w]."""
        start, end = self.starts[index : index + 2]
        height, width = self.sizes[index].tolist()
        return self.labels[start:end].view(height, width)

    def mask(self, index: int, size: tuple[int, int]) -> Tensor:
        """uint8 [H, W]: the grid enlarged to the image, by nearest cell."""
        grid = self.grid(index)[None, None].float()
        return F.interpolate(grid, size=size, mode="nearest")[0, 0].to(torch.uint8)


@torch.no_grad()
def pseudo_masks(features: Features, pool: Images, centres: Tensor) -> dict[str, Tensor]:
    """Eq. 3: label each feature cell by the most similar of the K + 1 representatives.

    Returns the arguments of `PseudoMasks`.
    """
    labels, sizes = [], []
    for index in range(len(pool)):
        grid = most_similar(features(pool.image(index)), centres)
        labels.append(grid.to("cpu", torch.uint8).flatten())
        sizes.append(torch.tensor(grid.shape))
    return {"labels": torch.cat(labels), "sizes": torch.stack(sizes)}


def most_similar(maps: Tensor, centres: Tensor) -> Tensor:
    """[c, h, w], [K + 1, c] -> index of the centre with the highest cosine [h, w]."""
    return cosine_scores(maps.unsqueeze(0), centres.unsqueeze(0))[0].argmax(dim=0)


# ------------------------------------------------------------------ regions


@dataclass(frozen=True)
class Regions:
    """Mean features of images and of their regions, the parts with the same pseudo label.

    Images that are all background are left out.
    """

    images: Tensor  # [I, c], mean feature of the whole image
    regions: Tensor  # [R, c], mean feature of each region, in the order of the images
    counts: Tensor  # [I], number of regions in each image, at least 1

    def rectified(self, prototypes: Tensor, embeddings: Tensor, count: int, share: float) -> Tensor:
        """Eqs. 8 and 9: move prototypes [i, c] by `share` towards their most similar regions.

        Each of the `count` images nearest to the embedding [i, c] of the support gives one region.
        """
        if not len(self.images):
            return prototypes
        similarity = cosines(embeddings, self.images)  # [i, I]
        near = similarity.topk(min(count, len(self.images)), dim=1).indices  # [i, N]
        found = self._best_regions(near, prototypes)  # [i, N, c]
        cosine = F.cosine_similarity(found, prototypes.unsqueeze(1), dim=2)
        total = cosine.sum(dim=1, keepdim=True)
        weights = torch.where(total.abs() > 1e-6, cosine / total, torch.zeros_like(cosine))
        return (1 - share) * prototypes + share * (weights.unsqueeze(2) * found).sum(dim=1)

    def _best_regions(self, near: Tensor, prototypes: Tensor) -> Tensor:
        """The region most similar to a prototype [i, c] in each of its images [i, N]: [i, N, c]."""
        starts = self.counts.cumsum(dim=0) - self.counts
        slots = torch.arange(int(self.counts.max()), device=near.device)
        used = slots < self.counts[near].unsqueeze(2)  # [i, N, K]
        places = (starts[near].unsqueeze(2) + slots).clamp(max=len(self.regions) - 1)
        candidates = self.regions[places].float()  # [i, N, K, c]
        cosine = F.cosine_similarity(candidates, prototypes[:, None, None], dim=3)
        best = cosine.masked_fill(~used, -2.0).argmax(dim=2)  # [i, N]
        return candidates.gather(
            2, best[:, :, None, None].expand(-1, -1, 1, candidates.shape[3])
        ).squeeze(2)

    def to(self, device: torch.device) -> "Regions":
        return Regions(self.images.to(device), self.regions.to(device), self.counts.to(device))


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of all pairs: [i, c], [j, c] -> float32 [i, j]."""
    return F.normalize(a.float(), dim=1) @ F.normalize(b.float(), dim=1).T


@torch.no_grad()
def regions(features: Features, pool: Images, masks: PseudoMasks) -> dict[str, Tensor]:
    """Compute the arguments of `Regions`, with vectors in half precision."""
    images: list[Tensor] = []
    found: list[Tensor] = []
    counts: list[int] = []
    for index in range(len(pool)):
        if not masks.grid(index).any():
            continue
        maps = features(pool.image(index)).float()
        parts = list(_region_means(maps, masks.grid(index).to(maps.device)))
        images.append(maps.mean(dim=(1, 2)))
        found += parts
        counts.append(len(parts))
    if not images:
        nothing = torch.zeros(0, 1, dtype=torch.float16)
        return {"images": nothing, "regions": nothing.clone(), "counts": torch.zeros(0).long()}
    return {
        "images": torch.stack(images).half().cpu(),
        "regions": torch.stack(found).half().cpu(),
        "counts": torch.tensor(counts),
    }


def _region_means(maps: Tensor, grid: Tensor) -> Iterator[Tensor]:
    """Yield the mean feature [c] of each region of an image."""
    for label in torch.unique(grid).tolist():
        if label:
            yield mean_under_mask(maps, grid == label)

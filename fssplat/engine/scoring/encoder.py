"""Encode each distinct image of an evaluation once, for all its uses as query or support."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from fssplat.data.transforms import normalise
from fssplat.engine.device import autocast
from fssplat.engine.scoring.feature_cache import FeatureCache
from fssplat.engine.scoring.inputs import Inputs
from fssplat.experiment.schema import EvaluationSpec
from fssplat.methods.base import Encoded, FewShotSegmenter

MASK = "support mask"  # kept beside a support's features; no method uses this name


class Role(NamedTuple):
    """How an episode uses an image: as its query (class 0), or as a support of a class."""

    row: int
    class_id: int = 0


class Encoder:
    """Query and support features by role, from the cache or from the network.

    When an image is encoded, its features for all later roles (query, or support of a class) are
    computed at once and cached if they fit; the raw `encode` output is not kept.
    """

    def __init__(
        self,
        network: FewShotSegmenter,
        inputs: Inputs,
        spec: EvaluationSpec,
        uses: Iterable[Role],
        device: torch.device,
    ) -> None:
        self.network, self.inputs, self.spec, self.device = network, inputs, spec, device
        uses = list(uses)
        self.cache: FeatureCache[Role] = FeatureCache(int(spec.cache_gb * 2**30), uses)
        self.roles: dict[int, list[Role]] = {}
        for role in sorted(set(uses)):
            self.roles.setdefault(role.row, []).append(role)
        self.encoded_images = 0  # how often an image went through the backbone
        self.pool = ThreadPoolExecutor(spec.workers) if spec.workers else None
        self.decoding: dict[int, Future[Tensor]] = {}

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def read_ahead(self, roles: Iterable[Role]) -> None:
        """Start decoding the images of later episodes in other threads."""
        if self.pool is None:
            return
        for role in roles:
            if role not in self.cache and role.row not in self.decoding:
                self.decoding[role.row] = self.pool.submit(self.inputs.image, role.row)

    def get(self, roles: Iterable[Role]) -> list[Encoded]:
        """The features of each role, every tensor with a leading axis of one image."""
        found = []
        for role in roles:
            cached = self.cache.use(role)
            found.append(self._encode(role) if cached is None else cached)
        return found

    def _encode(self, wanted: Role) -> Encoded:
        """Encode one image; return its features for the wanted role and cache those of its others.

        Images pass one by one, so that an image's features do not depend on which other images
        were not cached.
        """
        decoding = self.decoding.pop(wanted.row, None)
        pixels = decoding.result() if decoding else self.inputs.image(wanted.row)
        image = normalise(pixels.to(self.device, non_blocking=True)).unsqueeze(0)
        self.encoded_images += 1
        with autocast(self.device, self.spec.precision):
            encoded = self.network.encode(image)
            result = self._derive(wanted, encoded, image)
            self.cache.put(wanted, result)
            for role in self.roles[wanted.row]:
                if self.cache.wants(role):
                    self.cache.put(role, self._derive(role, encoded, image))
        return result

    def _derive(self, role: Role, encoded: Encoded, image: Tensor) -> Encoded:
        if not role.class_id:
            return self.network.encode_query(encoded)
        mask = self.inputs.mask(role.row, role.class_id).to(self.device).unsqueeze(0)
        return {**self.network.encode_support(encoded, image, mask), MASK: mask}

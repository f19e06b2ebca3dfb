"""Encoded images kept on the device: the least recently used go first, finished ones at once."""

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from torch import Tensor

from fssplat.methods.base import Encoded

K = TypeVar("K", bound=Hashable)


class FeatureCache(Generic[K]):
    """At most `capacity` bytes of encoded images.

    An evaluation's episodes are known beforehand, so the cache is told every use to come and
    drops an entry after its last one. A capacity of 0 keeps nothing.
    """

    def __init__(self, capacity: int, uses: Iterable[K]) -> None:
        self.capacity = capacity
        self.bytes = 0
        self.left = Counter(uses)
        self.entries: OrderedDict[K, Encoded] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self.entries

    def put(self, key: K, encoded: Encoded) -> None:
        """Keep an entry if it has a use to come; others make room for it."""
        size = size_of(encoded.values())
        if key in self.entries or not self.left[key] or size > self.capacity:
            return
        while self.bytes + size > self.capacity:
            self._drop(next(iter(self.entries)))
        self.entries[key] = encoded
        self.bytes += size

    def use(self, key: K) -> Encoded | None:
        """The entry, None where it is absent; counts as one of its uses."""
        self.left[key] -= 1
        encoded = self.entries.get(key)
        if encoded is not None:
            self.entries.move_to_end(key)
            if not self.left[key]:
                self._drop(key)
        return encoded

    def _drop(self, key: K) -> None:
        self.bytes -= size_of(self.entries.pop(key).values())


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors' elements."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

"""Encoded images kept on the device within a memory limit, until their last use.

An evaluation's episodes are given beforehand, so the next use of each entry is known. If room is
needed, the entry whose next use is latest is dropped: no other order of eviction encodes fewer
images (Belady, 1966; dropping the least recently used only approximates it). An entry is dropped
after its last use.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from torch import Tensor

from fssplat.methods.base import Encoded

K = TypeVar("K", bound=Hashable)
NEVER = 2**62  # the position of a use that does not exist


class FeatureCache(Generic[K]):
    """At most `capacity` bytes of encoded images; 0 keeps nothing.

    `uses` lists the keys in the order in which `use` will be called.
    """

    def __init__(self, capacity: int, uses: Iterable[K]) -> None:
        self.capacity = capacity
        self.bytes = 0
        self.typical = 0  # bytes of the largest entry so far
        self.entries: dict[K, Encoded] = {}
        self.ahead: dict[K, deque[int]] = {}
        for position, key in enumerate(uses):
            self.ahead.setdefault(key, deque()).append(position)

    def __contains__(self, key: K) -> bool:
        return key in self.entries

    def next_use(self, key: K) -> int:
        """Position of the use that comes next."""
        ahead = self.ahead.get(key)
        return ahead[0] if ahead else NEVER

    def wants(self, key: K) -> bool:
        """Whether an entry of the usual size would be kept, so that computing it early pays."""
        when = self.next_use(key)
        if key in self or when == NEVER or self.typical > self.capacity:
            return False
        fits = self.bytes + self.typical <= self.capacity
        return fits or when < max(map(self.next_use, self.entries))

    def put(self, key: K, encoded: Encoded) -> None:
        """Keep an entry, unless it would displace entries that are needed earlier."""
        size = size_of(encoded.values())
        self.typical = max(self.typical, size)
        when = self.next_use(key)
        if key in self or when == NEVER or size > self.capacity:
            return
        while self.bytes + size > self.capacity:
            last = max(self.entries, key=self.next_use)
            if self.next_use(last) < when:
                return
            self._drop(last)
        self.entries[key] = encoded
        self.bytes += size

    def use(self, key: K) -> Encoded | None:
        """Count one use of the key; return its entry, or None if it is absent."""
        self.ahead[key].popleft()
        encoded = self.entries.get(key)
        if encoded is not None and self.next_use(key) == NEVER:
            self._drop(key)
        return encoded

    def _drop(self, key: K) -> None:
        self.bytes -= size_of(self.entries.pop(key).values())


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors' elements."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

"""The cache of encoded images keeps its bound and forgets what nobody will ask for."""

import torch

from fssplat.engine.feature_cache import FeatureCache
from fssplat.methods.base import Encoded


def entry(value: float = 0.0) -> Encoded:
    return {"map": torch.full((10,), value)}  # 40 bytes


def test_the_least_recently_used_entry_makes_room() -> None:
    cache = FeatureCache(80, ["a", "a", "b", "c"])
    cache.put("a", entry())
    cache.put("b", entry())
    assert cache.use("a") is not None
    cache.put("c", entry())
    assert "a" in cache
    assert "b" not in cache
    assert cache.bytes == 80


def test_an_entry_goes_after_its_last_use() -> None:
    cache = FeatureCache(1000, ["a", "a"])
    cache.put("a", entry(7))
    for left in (True, False):
        found = cache.use("a")
        assert found is not None
        assert found["map"][0] == 7
        assert ("a" in cache) is left
    assert cache.bytes == 0


def test_what_has_no_use_to_come_is_not_kept() -> None:
    cache = FeatureCache(1000, ["a"])
    cache.put("b", entry())
    assert cache.use("a") is None
    cache.put("a", entry())
    assert not cache.entries


def test_a_cache_without_room_keeps_nothing() -> None:
    cache = FeatureCache(39, ["a"])
    cache.put("a", entry())
    assert cache.use("a") is None

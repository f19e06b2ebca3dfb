"""The cache of encoded images stays within its limit and drops entries after their last use."""

import torch

from fssplat.engine.scoring.feature_cache import FeatureCache
from fssplat.methods.base import Encoded


def entry(value: float = 0.0) -> Encoded:
    return {"map": torch.full((10,), value)}  # 40 bytes


def test_the_entry_that_is_needed_last_is_dropped_first() -> None:
    cache = FeatureCache(80, ["a", "b", "c", "a", "c", "b"])
    for key in "abc":
        assert cache.use(key) is None
        cache.put(key, entry())
    assert sorted(cache.entries) == ["a", "c"]
    assert cache.bytes == 80


def test_a_new_entry_that_is_needed_last_is_not_kept() -> None:
    cache = FeatureCache(80, ["a", "b", "c"])
    for key in "abc":
        assert cache.wants(key) is (key != "c")
        cache.put(key, entry())
    assert sorted(cache.entries) == ["a", "b"]


def test_an_entry_is_dropped_after_its_last_use() -> None:
    cache = FeatureCache(1000, ["a", "a"])
    cache.put("a", entry(7))
    for left in (True, False):
        found = cache.use("a")
        assert found is not None
        assert found["map"][0] == 7
        assert ("a" in cache) is left
    assert cache.bytes == 0


def test_an_entry_without_a_later_use_is_not_kept() -> None:
    cache = FeatureCache(1000, ["a"])
    cache.put("b", entry())
    assert cache.use("a") is None
    cache.put("a", entry())
    assert not cache.entries
    assert not cache.wants("a")


def test_a_cache_of_zero_bytes_keeps_nothing() -> None:
    cache = FeatureCache(39, ["a"])
    cache.put("a", entry())
    assert not cache.wants("a")
    assert cache.use("a") is None

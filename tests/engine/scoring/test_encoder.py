"""The encoder: one pass per image, from the cache for every later use."""

from typing import cast

import pytest
import torch

from fssplat.data.index import Dataset
from fssplat.engine.device import CPU
from fssplat.engine.scoring.encoder import MASK, Encoder, Role
from fssplat.engine.scoring.inputs import Inputs
from fssplat.experiment.schema import EvaluationSpec
from tests.fakes.memory_dataset import MemoryDataset
from tests.fakes.prototype_method import SIZE, prototype_network

INPUTS = Inputs(cast(Dataset, MemoryDataset()), "pad", SIZE)
USES = [Role(0), Role(1, 1), Role(1), Role(0, 1), Role(0)]


def encoder(uses: list[Role], **spec: float) -> Encoder:
    return Encoder(prototype_network().eval(), INPUTS, EvaluationSpec(**spec), uses, CPU)


@torch.no_grad()
def test_an_image_passes_once_for_all_its_roles() -> None:
    shared = encoder(USES)
    found = shared.get(USES)
    assert shared.encoded_images == 2
    assert torch.equal(found[0]["map"], found[4]["map"])
    assert [MASK in features for features in found] == [False, True, False, True, False]


@torch.no_grad()
def test_without_a_cache_every_use_is_a_pass_and_gives_the_same_features() -> None:
    uncached, shared = encoder(USES, cache_gb=0), encoder(USES)
    pairs = list(zip(uncached.get(USES), shared.get(USES), strict=True))
    assert uncached.encoded_images == 5
    for one, other in pairs:
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@torch.no_grad()
@pytest.mark.parametrize("workers", [0, 2])
def test_images_read_ahead_give_the_same_features(workers: int) -> None:
    ahead = encoder(USES, workers=workers)
    ahead.read_ahead(USES)
    assert len(ahead.decoding) == (2 if workers else 0)
    found = ahead.get(USES)
    ahead.close()
    assert not ahead.decoding
    assert torch.equal(found[0]["map"], encoder(USES).get(USES)[0]["map"])

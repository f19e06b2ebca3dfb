"""One episode as it is timed: predicted as in an evaluation, with nothing kept between episodes."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from fssplat.data.episodes.training import Episode
from fssplat.data.index import Dataset
from fssplat.engine.device import memory_in_use, return_memory
from fssplat.engine.scoring.inputs import Inputs
from fssplat.engine.scoring.scorer import ManifestEpisode, Rules, Scorer
from fssplat.engine.scoring.timing import WARM_UP, loaded, measure, predicted
from fssplat.experiment.schema import EvaluationSpec
from fssplat.methods.base import Encoded
from tests.fakes.memory_dataset import MemoryDataset, memory_episodes
from tests.fakes.prototype_method import PrototypeMethod, prototype_network

CPU = torch.device("cpu")
SIZE = 48


class Voting(PrototypeMethod):
    SHOT_FUSION = "vote"


def network_of(kind: type[PrototypeMethod]) -> PrototypeMethod:
    network = kind(prototype_network().backbone)
    network.load_state_dict(prototype_network().state_dict())
    return network.eval()


def inputs(mode: Any) -> Inputs:
    return Inputs(cast(Dataset, MemoryDataset()), mode, SIZE)


@pytest.mark.parametrize("kind", [PrototypeMethod, Voting])
@pytest.mark.parametrize(("mode", "way", "shot"), [("pad", 1, 1), ("pad", 2, 3), ("squash", 1, 5)])
def test_a_timed_episode_is_predicted_as_in_an_evaluation(
    kind: type[PrototypeMethod], mode: str, way: int, shot: int
) -> None:
    network, images = network_of(kind), inputs(mode)
    episodes = memory_episodes(cast(MemoryDataset, images.dataset), 3, way, shot)
    spec = EvaluationSpec(cache_gb=0, batch=1)
    rules = Rules(shot, (SIZE,), True)
    wanted = {
        scored.episode.index: scored.predictions[SIZE]
        for scored in Scorer(network, images, rules, spec, CPU).score(
            [ManifestEpisode(0, index, drawn) for index, drawn in enumerate(episodes)]
        )
    }
    for index, one in enumerate(loaded(images, episodes, shot, CPU)):
        found = predicted(network, one, CPU, "fp32")
        height, width = wanted[index].shape  # the padding is not scored
        assert (found[:height, :width] == wanted[index]).float().mean() > 0.99


def test_images_of_different_sizes_pass_one_by_one() -> None:
    network, images = network_of(PrototypeMethod), inputs("original")
    sizes = [tuple(size) for size in images.dataset.sizes[:3].tolist()]
    assert len(set(sizes)) == 3
    (one,) = loaded(images, [Episode(0, (1,), (1,))], 1, CPU)
    assert tuple(predicted(network, one, CPU, "fp32").shape) == sizes[0]


@pytest.mark.parametrize("shot", [1, 5])
def test_every_image_of_every_timed_episode_passes_the_backbone(shot: int) -> None:
    network, images = network_of(PrototypeMethod), inputs("pad")
    episodes = memory_episodes(cast(MemoryDataset, images.dataset), 2, shot=shot)
    one = loaded(images, episodes, shot, CPU)
    network.backbone.images_seen = 0
    found = measure(network, one, 7, CPU, memory_in_use(CPU))
    assert network.backbone.images_seen == (WARM_UP + 7) * (1 + shot)
    assert len(found.seconds) == 7
    assert min(found.seconds) > 0


class Large(PrototypeMethod):
    """Needs 60 MB while it segments."""

    def segment(
        self, query: Encoded, supports: Encoded, masks: Tensor, size: tuple[int, int]
    ) -> Tensor:
        block = torch.ones(15_000_000)
        logits = super().segment(query, supports, masks, size)
        return logits + 0 * block.sum()


def test_memory_is_the_peak_above_the_idle_process() -> None:
    images = inputs("pad")
    episodes = memory_episodes(cast(MemoryDataset, images.dataset), 2)
    one = loaded(images, episodes, 1, CPU)
    held = torch.ones(50_000_000)  # 200 MB of somebody else
    return_memory()
    idle = memory_in_use(CPU)
    if not idle:
        pytest.skip("this system does not report the memory of a process")
    large = measure(network_of(Large), one, 2, CPU, idle).memory
    del held
    assert 55e6 < large < 120e6

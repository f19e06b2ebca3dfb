"""Evaluation: the same numbers however it is cached, batched or ordered, and each image once."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor

from fssplat.data.episodes.training import Episode
from fssplat.data.index import Dataset
from fssplat.engine.events import EpisodesScored, Event, TrialScored
from fssplat.engine.scoring.evaluate import evaluate
from fssplat.engine.scoring.inputs import Inputs
from fssplat.engine.scoring.metrics import Metrics
from fssplat.engine.scoring.rows import sums_of
from fssplat.engine.scoring.scorer import ManifestEpisode, Rules, Scorer
from fssplat.engine.settings import Interrupted
from fssplat.experiment.schema import EvaluationSpec
from fssplat.experiment.trial import Trial
from fssplat.methods.base import Encoded
from tests.fakes.memory_dataset import MemoryDataset, memory_episodes
from tests.fakes.prototype_method import SIZE, PrototypeMethod, prototype_network, prototype_trial

CPU = torch.device("cpu")
DATA = MemoryDataset()
COST = {"episodes_per_s", "encoded_images", "peak_memory_bytes"}


class Apart(PrototypeMethod):
    """Segments shot by shot and votes, as HSNet does."""

    SHOT_FUSION = "vote"


def trial_of(shot: int = 1, way: int = 1, evaluation: Any = None, **protocol: Any) -> Trial:
    trial = prototype_trial()
    rules = trial.protocol.model_copy(update={"score": ("original", 32), **protocol})
    spec = EvaluationSpec(**(evaluation or {}))
    changes = {"shot": shot, "way": way, "protocol": rules, "evaluation": spec}
    return trial.model_copy(update=changes)


def run(
    folder: Path,
    trial: Trial,
    count: int = 20,
    method: type[PrototypeMethod] = PrototypeMethod,
    seeds: int = 2,
    **more: Any,
) -> tuple[Metrics, PrototypeMethod]:
    network = prototype_network()
    network.__class__ = method
    episodes = memory_episodes(DATA, count * seeds, trial.way, trial.shot)
    manifests = {
        seed: SimpleNamespace(episodes=tuple(episodes[seed::seeds]), dropped=("h",), notes=())
        for seed in range(seeds)
    }
    data = cast(Dataset, DATA)
    metrics = evaluate(network, trial, data, manifests, folder, "id", device=CPU, **more)  # type: ignore[arg-type]
    return metrics, network


def numbers(metrics: Metrics) -> Metrics:
    return {name: value for name, value in metrics.items() if name not in COST}


@pytest.mark.parametrize("method", [pytest.param(PrototypeMethod, marks=pytest.mark.slow), Apart])
@pytest.mark.parametrize(
    ("shot", "way"), [(1, 1), pytest.param(3, 1, marks=pytest.mark.slow), (2, 3)]
)
def test_the_cache_changes_no_number(
    tmp_path: Path, method: type[PrototypeMethod], shot: int, way: int
) -> None:
    tables = []
    for number, spec in enumerate(({}, {"cache_gb": 0.0}, {"cache_gb": 1e-4, "workers": 2})):
        folder = tmp_path / str(number)
        metrics, _ = run(folder, trial_of(shot, way, spec), count=6, method=method)
        tables.append((numbers(metrics), pq.read_table(folder / "episodes.parquet")))
    for metrics, table in tables[1:]:
        assert metrics == tables[0][0]
        assert table.equals(tables[0][1])


@pytest.mark.parametrize("method", [PrototypeMethod, Apart])
def test_the_batch_changes_numbers_by_rounding_alone(
    tmp_path: Path, method: type[PrototypeMethod]
) -> None:
    one, _ = run(tmp_path, trial_of(3, evaluation={"batch": 1}), count=8, method=method)
    many, _ = run(tmp_path, trial_of(3), count=8, method=method)
    assert one["miou"] == pytest.approx(many["miou"], abs=1e-3)


def test_a_batch_takes_episodes_whose_supports_have_one_size(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"input": "original", "score": ("original",)}
    one, _ = run(tmp_path, trial_of(evaluation={"batch": 1}, **changes))
    many, _ = run(tmp_path, trial_of(evaluation={"batch": 64}, **changes))
    assert one["miou"] == pytest.approx(many["miou"], abs=1e-6)


def test_every_distinct_image_is_encoded_once(tmp_path: Path) -> None:
    metrics, network = run(tmp_path, trial_of(shot=5))
    episodes = memory_episodes(DATA, 40, 1, 5)
    distinct = {row for e in episodes for row in (e.query, *e.supports)}
    assert metrics["encoded_images"] == len(distinct)
    assert network.backbone.images_seen == len(distinct)


def test_without_a_cache_every_use_is_encoded(tmp_path: Path) -> None:
    metrics, network = run(tmp_path, trial_of(shot=5, evaluation={"cache_gb": 0}), count=8)
    assert metrics["encoded_images"] == 6 * 16
    assert network.backbone.images_seen == 6 * 16


@pytest.mark.parametrize("method", [PrototypeMethod, Apart])
@pytest.mark.parametrize("mode", ["pad", "squash"])
def test_counts_equal_a_plain_loop_over_episodes(method: type[PrototypeMethod], mode: Any) -> None:
    """Encode everything anew, one episode at a time, in manifest order."""
    network = prototype_network().eval()
    network.__class__ = method
    inputs = Inputs(cast(Dataset, DATA), mode, SIZE)
    drawn = memory_episodes(DATA, 12, shot=3)
    episodes = [ManifestEpisode(0, index, one) for index, one in enumerate(drawn)]
    scorer = Scorer(network, inputs, Rules(3, ("original",), True), EvaluationSpec(), CPU)
    found = {scored.episode: scored.counts["original"] for scored in scorer.score(episodes)}
    for episode in episodes:
        expected = plain(network, inputs, episode.drawn, method)
        assert (found[episode][:2] - expected).abs().max() <= 2  # pixels on the very edge


def plain(
    network: PrototypeMethod, inputs: Inputs, episode: Episode, method: type[PrototypeMethod]
) -> Tensor:
    from fssplat.data.transforms import normalise

    def image(row: int) -> Tensor:
        return normalise(inputs.image(row))

    supports = torch.stack([image(row) for row in episode.supports])[None, None]
    masks = torch.stack([inputs.mask(row, episode.classes[0]) for row in episode.supports])
    query, height_width = image(episode.query)[None], DATA.labels[episode.query].shape
    height, width = inputs.box(episode.query)
    votes = torch.zeros(height_width)
    with torch.no_grad():
        shots = range(3) if method is Apart else [slice(None)]
        for shot in shots:
            chosen = slice(shot, shot + 1) if isinstance(shot, int) else shot
            logits = network(query, supports[:, :, chosen], masks[None, None, chosen])
            logits = logits[..., :height, :width]
            logits = torch.nn.functional.interpolate(
                logits, size=height_width, mode="bilinear", align_corners=True
            )
            votes += logits[0].argmax(0)
    prediction = (votes / max(1, votes.max())) >= 0.5
    label = torch.from_numpy(DATA.target(episode.query, episode.classes).astype(np.int64))
    valid = label != 255
    rows = []
    for value in (0, 1):
        p, t = (prediction == value) & valid, (label == value) & valid
        rows.append([int((p & t).sum()), int((p | t).sum())])
    return torch.tensor(rows)


def test_metrics_follow_from_the_table(tmp_path: Path) -> None:
    metrics, _ = run(tmp_path, trial_of(), seeds=3)
    rows = pq.read_table(tmp_path / "episodes.parquet").to_pylist()
    assert len(rows) == 3 * 20 * 2
    assert [row["episode"] for row in rows[:4]] == [0, 0, 1, 1]
    sums = sums_of(rows, "original", (1, 2, 3, 4, 5))
    by_seed = [scores.miou("skip") for scores in sums.values()]
    assert metrics["miou"] == pytest.approx(np.mean(by_seed))
    assert metrics["miou_std"] == pytest.approx(np.std(by_seed, ddof=1))
    assert metrics["iou/a"] == pytest.approx(np.mean([s.iou()[1] for s in sums.values()]))


def test_the_names_of_metrics_are_stable(tmp_path: Path) -> None:
    cost = {"train_seconds": 4.0}
    metrics, _ = run(tmp_path, trial_of(), training=cost)
    classes = {name for name in metrics if name.startswith("iou/")}
    assert set(metrics) - classes == {
        "miou", "miou_std", "fb_iou", "fb_iou_std",
        "miou_32", "miou_std_32", "fb_iou_32", "fb_iou_std_32",
        "episodes", "episodes_per_s", "encoded_images", "peak_memory_bytes",
        "learnable_parameters", "test_parameters", "total_parameters",
        "novel_classes", "train_seconds",
    }  # fmt: skip
    assert metrics["learnable_parameters"] == 16 * 16 + 16 + 32
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert json.loads((tmp_path / "notes.json").read_text()) == ["left out, too few images: h"]


def test_progress_and_the_result_are_emitted(tmp_path: Path) -> None:
    events: list[Event] = []
    metrics, _ = run(tmp_path, trial_of(), count=60, emit=events.append)
    assert [e.done for e in events if isinstance(e, EpisodesScored)] == [50, 100, 120]
    assert events[-1] == TrialScored("id", metrics, tmp_path, ("left out, too few images: h",))


def test_three_panels_are_drawn_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(tmp_path / name, trial_of(shot=2, evaluation={"panels": 3}))
    names = sorted(path.name for path in (tmp_path / "a/panels").iterdir())
    assert names == ["seed0-episode0.png", "seed0-episode13.png", "seed0-episode6.png"]
    for name in names:
        one, other = (tmp_path / folder / "panels" / name for folder in "ab")
        assert one.read_bytes() == other.read_bytes()
        with Image.open(one) as picture:
            assert picture.height > 100
            assert picture.width > 5 * 100  # two supports, query, prediction, truth


def test_a_stop_leaves_no_result(tmp_path: Path) -> None:
    calls = iter([False] * 5 + [True])
    with pytest.raises(Interrupted, match="episode 5"):
        run(tmp_path, trial_of(), stop=lambda: next(calls))
    assert not (tmp_path / "metrics.json").exists()


def test_padding_never_counts() -> None:
    inputs = Inputs(cast(Dataset, DATA), "pad", SIZE)
    for row in range(4):
        height, width = inputs.box(row)
        assert max(height, width) == SIZE
        mask = inputs.mask(row, 1)
        assert bool((mask[height:] == 255).all())
        assert bool((mask[:, width:] == 255).all())
        assert max(inputs.truth(row, (1,), 16).shape) == 16
        assert inputs.truth(row, (1,), "original").shape == DATA.labels[row].shape


def test_original_square_enlarges_the_padded_square_first() -> None:
    inputs = Inputs(cast(Dataset, DATA), "pad-floor8", SIZE)
    logits = torch.zeros(1, 2, SIZE, SIZE)
    logits[:, 1, : SIZE // 2] = 1.0
    height, width = DATA.labels[0].shape
    scored = inputs.scored(logits, 0, "original-square", torch.Size((height, width)))
    side = max(height, width)
    whole = torch.nn.functional.interpolate(
        logits, size=(side, side), mode="bilinear", align_corners=True
    )
    assert torch.equal(scored, whole[..., :height, :width])


class Greedy(PrototypeMethod):
    """Cannot segment more than two episodes at once."""

    def segment(
        self, query: Encoded, supports: Encoded, masks: Tensor, size: tuple[int, int]
    ) -> Tensor:
        if len(masks) > 2:
            raise torch.OutOfMemoryError("injected")
        return super().segment(query, supports, masks, size)


def test_lack_of_memory_segments_fewer_episodes_at_once(tmp_path: Path) -> None:
    plenty, _ = run(tmp_path / "a", trial_of())
    little, _ = run(tmp_path / "b", trial_of(), method=Greedy)
    assert numbers(plenty) == numbers(little)


def test_original_size_input_scores_like_any_other(tmp_path: Path) -> None:
    same = MemoryDataset(sides=(48, 49))
    network = prototype_network()
    episodes = tuple(memory_episodes(same, 10))
    manifests = {0: SimpleNamespace(episodes=episodes, dropped=(), notes=())}
    trial = trial_of(input="original", score=("original",))
    metrics = evaluate(network, trial, cast(Dataset, same), manifests, tmp_path, device=CPU)  # type: ignore[arg-type]
    assert 0 < metrics["miou"] < 1

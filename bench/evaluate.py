"""Measures how much faster evaluation is if each distinct image is encoded once.

python bench/evaluate.py                       PFENet and HSNet, 1 and 5 shots, 200 episodes each
python bench/evaluate.py --baseline 20         the baseline runs on 20 of the 200 episodes only:
                                               its cost per episode is constant

The baseline is a plain loop: for every episode it decodes the query and its supports, encodes them
in one pass of the backbone, and segments the query. Both sides score the same episodes of coco_mini
(validation images of fold 0) in float32, with ResNet-50 at random weights. They take turns, one
episode each, so that noise of the machine affects both. Their pixel counts must agree.
"""

import argparse
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.episodes.manifest import manifest
from fssplat.data.index import Dataset
from fssplat.data.transforms import normalise
from fssplat.engine.device import best_device
from fssplat.engine.random_state import seed_everything
from fssplat.engine.scoring.inputs import Inputs
from fssplat.engine.scoring.metrics import overlap
from fssplat.engine.scoring.scorer import ManifestEpisode, Rules, Scorer
from fssplat.engine.scoring.timing import clock
from fssplat.experiment.protocols import resolve_protocol
from fssplat.experiment.schema import BackboneSpec, EvaluationSpec, MethodSpec
from fssplat.methods import METHODS, build_method
from fssplat.methods.base import FewShotSegmenter
from fssplat.methods.layers.fusion import fuse_shots

COCO_MINI = Path(__file__).resolve().parents[2] / "shared/data/coco_mini"
SIZES = {"pfenet": 473, "hsnet": 400, "prior": 473}
STEMS = {"pfenet": "resnet50_v2"}  # as its public code; others take the plain stem


@dataclass
class Side:
    """One of the two ways to evaluate."""

    seconds: float = 0.0
    images: int = 0  # through the backbone


def plain(
    network: FewShotSegmenter, inputs: Inputs, episode: ManifestEpisode, device: torch.device
) -> Tensor:
    """Pixel counts of one episode; all its images are encoded again."""
    drawn = episode.drawn
    rows = (drawn.query, *drawn.supports)
    images = torch.stack([normalise(inputs.image(row).to(device)) for row in rows])
    masks = torch.stack([inputs.mask(row, drawn.classes[0]) for row in drawn.supports])
    masks = masks.to(device)[None, None]
    query, supports = network.encode_episodes(images[:1], images[None, None, 1:], masks)
    size = inputs.network_size(drawn.query)
    if network.SHOT_FUSION == "network":
        logits = network.segment(query, supports, masks, size)
    else:
        shots = [slice(shot, shot + 1) for shot in range(len(drawn.supports))]
        logits = torch.cat(
            [
                network.segment(
                    query, {n: v[:, :, s] for n, v in supports.items()}, masks[:, :, s], size
                )
                for s in shots
            ]
        )
    truth = inputs.truth(drawn.query, drawn.classes, "original")
    logits = inputs.scored(logits, drawn.query, "original", truth.shape)
    if network.SHOT_FUSION == "network":
        prediction = logits[0].argmax(dim=0)
    else:
        prediction = fuse_shots(logits, network.SHOT_FUSION)
    return overlap(prediction, truth.to(device), 2)


def compare(name: str, shot: int, size: int, dataset: Dataset, given: argparse.Namespace) -> str:
    """Measure one method and number of shots; return a line of the table."""
    device = best_device()
    episodes, timed = given.episodes, given.baseline or given.episodes
    seed_everything(0)
    backbone = BackboneSpec(name=STEMS.get(name, "resnet50"), weights="random")
    options = METHODS[name].options_for("coco-20i")
    network = build_method(MethodSpec(name=name, options=dict(options)), backbone).to(device).eval()
    rules = resolve_protocol({"name": "fssplat", "episodes": episodes, "short_classes": "drop"})
    chosen = manifest(dataset, 0, shot, rules, 0).episodes
    episodes = [ManifestEpisode(0, index, drawn) for index, drawn in enumerate(chosen)]
    inputs = Inputs(dataset, "pad", size)
    spec = EvaluationSpec(cache_gb=given.cache_gb)
    scorer = Scorer(network, inputs, Rules(shot, ("original",), True), spec, device)
    sides = {"once": Side(), "plain": Side()}
    now = sides["once"]

    def count(_: object, given: tuple[Tensor, ...]) -> None:
        now.images += len(given[0])

    network.backbone.register_forward_pre_hook(count)
    differing = 0
    scoring = scorer.score(episodes)
    for number in range(len(episodes)):
        now, started = sides["once"], clock(device)
        scored = next(scoring)
        now.seconds += clock(device) - started
        if number * timed // len(episodes) == (number + 1) * timed // len(episodes):
            continue
        now, started = sides["plain"], clock(device)
        with torch.inference_mode():
            counts = plain(network, inputs, scored.episode, device)
        now.seconds += clock(device) - started
        differing = max(differing, int((counts - scored.counts["original"]).abs().max()))
    next(scoring, None)
    distinct = len({row for e in chosen for row in (e.query, *e.supports)})
    timed = min(timed, len(episodes))
    assert sides["plain"].images == timed * (1 + shot)
    assert sides["once"].images == scorer.encoded_images
    once, base = sides["once"], sides["plain"]
    base.seconds *= len(episodes) / timed
    base.images = len(episodes) * (1 + shot)
    return (
        f"{name:8s} {shot}-shot {size}px: {base.seconds / once.seconds:5.2f} x   "
        f"{len(episodes)} episodes, {once.seconds:.0f} s against {base.seconds:.0f} s; "
        f"{once.images} images encoded ({distinct} distinct) against {base.images}; "
        f"largest difference of a count: {differing} pixels"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", nargs="+", default=["pfenet", "hsnet"], choices=list(SIZES))
    parser.add_argument("--shot", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--baseline", type=int, default=0, help="episodes it runs; 0: all")
    parser.add_argument("--size", type=int, default=0, help="pixels; 0: each method's own")
    parser.add_argument("--cache-gb", type=float, default=8.0)
    parser.add_argument("--source", type=Path, default=COCO_MINI, help="COCO's official layout")
    given = parser.parse_args()
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        build("coco-20i", given.source, Path(folder) / "coco-20i", BuildSettings(skip_bad=True))
        dataset = Dataset.open(Path(folder) / "coco-20i")
        for name in given.method:
            for shot in given.shot:
                size = given.size or SIZES[name]
                line = compare(name, shot, size, dataset, given)
                print(line, flush=True)


if __name__ == "__main__":
    main()

"""What does a folder of queries cost beside the network itself?

    python bench/predict.py --queries 200 --shots 5        prints the ratio of the two

Pure: encode each query and segment it, images already in memory at the network's size. Whole: what
`fssplat predict` does: supports and their own score, then from files to masks and table. The two
take turns on parts of the queries, so that noise in the machine hits both.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fssplat.engine.device import CPU, best_device
from fssplat.engine.network import fresh_network
from fssplat.engine.predicting.predictor import Predictor
from fssplat.engine.predicting.prepared import PreparedSupports, Support
from fssplat.engine.scoring.timing import clock
from fssplat.experiment.checks.problems import validate
from fssplat.experiment.expand import expand
from fssplat.experiment.schema import ExperimentSpec
from fssplat.methods import METHODS
from fssplat.serving.folders.queries import Query, find_queries
from fssplat.serving.folders.run import OutputSettings, predict_all
from fssplat.serving.self_check import self_scores


def model(method: str, backbone: str, size: int, device: torch.device) -> Predictor:
    """A network with random weights: its values do not change its time."""
    values = {
        "name": "bench",
        "dataset": "pascal-5i",
        "backbones": {backbone: {"name": backbone, "weights": "random"}},
        "grid": {"method": [method], "backbone": [backbone]},
        "training": {"steps": 1, "size": size} if METHODS[method].TRAINED else {},
        "protocol": {"name": "fssplat", "size": size},
    }
    (trial,) = expand(validate(ExperimentSpec, values, "bench"), METHODS)
    return Predictor(fresh_network(trial), trial, device)


def photographs(folder: Path, count: int, height: int, width: int) -> list[Query]:
    """JPEG files of smooth noise."""
    rng = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        small.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number:04d}.jpg")
    return find_queries([str(folder)])


def pure_seconds(supports: PreparedSupports, queries: list[Query]) -> float:
    """Encode and segment each query; it is read and resized before the clock starts."""
    total = 0.0
    for query in queries:
        whole = supports.inputs(np.array(Image.open(query.path)))
        height, width = whole.box(0)
        pixels = whole.image(0)[:, :height, :width].permute(1, 2, 0).contiguous().numpy()
        started = clock(supports.predictor.device)
        with torch.no_grad():
            supports.logits(supports.query(pixels), "object")
        total += clock(supports.predictor.device) - started
    return total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", default="hsnet")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=400)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--parts", type=int, default=5)
    parser.add_argument("--cpu", action="store_true")
    given = parser.parse_args()
    device = CPU if given.cpu else best_device()
    predictor = model(given.method, given.backbone, given.size, device)
    rng = np.random.default_rng(1)
    marks = np.zeros((480, 640), dtype=np.uint8)
    marks[100:300, 200:500] = 1
    support = [
        Support(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8), marks)
        for _ in range(given.shots)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "photos").mkdir()
        queries = photographs(Path(scratch) / "photos", given.queries, 480, 640)
        warm = PreparedSupports(predictor, {"object": support})
        pure_seconds(warm, queries[:2])
        pure = whole = 0.0
        for part in range(given.parts):
            chosen = queries[part :: given.parts]
            pure += pure_seconds(warm, chosen)
            started = time.perf_counter()

            def prepared(first: bool = part == 0) -> PreparedSupports:
                if not first:
                    return warm
                supports = PreparedSupports(predictor, {"object": support})
                self_scores(supports)
                return supports

            settings = OutputSettings(Path(scratch) / "out")
            predict_all(prepared, ["object"], chosen, settings, {})
            whole += time.perf_counter() - started
    what = f"{given.method}, {given.backbone}, {given.size} px, {given.shots}-shot, {device}"
    print(f"{what}: {given.queries} queries, pure {pure:.2f} s, whole {whole:.2f} s")
    print(f"whole / pure {whole / pure:.3f}")


if __name__ == "__main__":
    main()

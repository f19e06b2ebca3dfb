"""Measures whether the times of `fssplat time` are those of a plain loop over episodes.

python bench/time.py                     PFENet and HSNet on ResNet-50, 1-shot, at 473 pixels
python bench/time.py --method pfenet mmnet --shot 5 --rounds 3    5-shot; fewer rounds

The plain loop calls the network on an episode's images, query after query, in the same process and
on the same images. Both sides take turns, so that noise of the machine affects both. Printed is the
ratio between the two methods: by the plain loop; by `fssplat time`; by `fssplat time` with a large
feature cache and large batches in the settings; and after a packed evaluation in this process.
A round's figure is the median of its episodes; printed is the least of all rounds, since another
process can only lengthen a time. Episodes are of coco_mini (validation images of fold 0), in
float32, with random weights.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.episodes.manifest import manifest
from fssplat.data.transforms import normalise
from fssplat.engine.device import best_device
from fssplat.engine.job_data import JobData
from fssplat.engine.network import fresh_network
from fssplat.engine.scoring.evaluate import evaluate, inputs_of
from fssplat.engine.scoring.timing import clock
from fssplat.experiment.reading import made_experiment
from fssplat.experiment.trial import Trial
from fssplat.planning.plan import Plan, make_plan
from fssplat.report.evidence.timings import times_of
from fssplat.results.store import Store
from fssplat.worker.timing import Amount, time_methods

COCO_MINI = Path(__file__).resolve().parents[2] / "shared/data/coco_mini"
PACKED = {"cache_gb": 8.0, "batch": 8, "panels": 0}
PLAIN = {"cache_gb": 0.0, "batch": 1, "panels": 0}

Seconds = dict[str, list[float]]  # method -> the median of each round


def plan_of(given: argparse.Namespace, folder: Path, evaluation: dict[str, float]) -> Plan:
    """The experiment with one trial per method."""
    values = {
        "name": "time",
        "dataset": "coco-20i",
        "datasets": {"coco-20i": {"name": "coco-20i", "root": str(folder / "coco-20i")}},
        "backbones": {given.backbone: {"name": given.backbone, "weights": "random"}},
        "grid": {"shot": [given.shot], "method": given.method, "backbone": [given.backbone]},
        "training": {"size": given.size},
        "protocol": {
            "name": "fssplat", "episodes": given.packed, "episode_seeds": [0], "size": given.size,
            "score": ["original"], "short_classes": "drop",
        },
        "evaluation": evaluation,
        "resources": {"cpu": torch.get_num_threads()},
        "store": str(folder / "store"),
    }  # fmt: skip
    return make_plan(made_experiment(values, None))


def by_fssplat(plan: Plan, shot: int, episodes: int) -> dict[str, float]:
    """Method -> the median seconds that `fssplat time` measures now."""
    store = Store.open(plan.experiment.store)
    hardware = time_methods(plan, store, lambda line: None, True, Amount(episodes, (shot,)))
    found = times_of(plan.trials, store.timings())[hardware]
    return {
        plan.trials[i].method.name: one.shots[shot].median_ms / 1000 for i, one in found.items()
    }


def by_plain_loop(plan: Plan, shot: int, episodes: int) -> dict[str, float]:
    """Method -> the median seconds of `network(query, supports, masks)`."""
    return {job.first.method.name: _plain(job.first, JobData.open(job), shot, episodes)
            for job in plan.jobs}  # fmt: skip


@torch.no_grad()
def _plain(trial: Trial, data: JobData, shot: int, episodes: int) -> float:
    device, dataset = best_device(), data.dataset(trial)
    network = fresh_network(trial, device).eval()
    inputs = inputs_of(trial, dataset)
    drawn = manifest(dataset, trial.fold, shot, trial.protocol, 0).episodes
    times = []
    for number in range(3 + episodes):
        one = drawn[number % 8]
        rows = (one.query, *one.supports)
        images = torch.stack([normalise(inputs.image(row).to(device)) for row in rows])
        masks = torch.stack([inputs.mask(row, one.classes[0]) for row in one.supports])
        masks = masks.to(device)[None, None]
        started = clock(device)
        network(images[:1], images[None, None, 1:], masks).argmax(dim=1)
        times.append(clock(device) - started)
    return median(times[3:])


def packed_evaluation(plan: Plan, folder: Path) -> None:
    """Score every trial with a full feature cache and large batches."""
    for job in plan.jobs:
        data = JobData.open(job)
        network = fresh_network(job.first, best_device())
        evaluate(network, job.first, data.dataset(job.first), data.manifests(job.first), folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", nargs=2, default=["pfenet", "hsnet"])
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--shot", type=int, default=1, choices=[1, 5])
    parser.add_argument("--size", type=int, default=473)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=5, help="timed in a round")
    parser.add_argument("--packed", type=int, default=24, help="episodes of the packed evaluation")
    parser.add_argument(
        "--cpu-seconds",
        action="store_true",
        help="on a CPU that others use: the processor's seconds in place of the clock's",
    )
    parser.add_argument("--source", type=Path, default=COCO_MINI, help="COCO's official layout")
    given = parser.parse_args()
    if given.cpu_seconds:
        time.perf_counter = time.process_time  # of both sides, which run in this process
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build("coco-20i", given.source, folder / "coco-20i", BuildSettings(skip_bad=True))
        compare(given, folder)


def compare(given: argparse.Namespace, folder: Path) -> None:
    """Take turns, then print the ratio of the two methods by each way to measure it."""
    plain, packed = plan_of(given, folder, PLAIN), plan_of(given, folder, PACKED)

    def after_packed() -> dict[str, float]:
        packed_evaluation(packed, folder / "evaluation")
        return by_fssplat(packed, given.shot, given.episodes)

    ways: dict[str, Callable[[], dict[str, float]]] = {
        "plain loop": lambda: by_plain_loop(plain, given.shot, given.episodes),
        "fssplat time": lambda: by_fssplat(plain, given.shot, given.episodes),
        "cache_gb 8, batch 8": lambda: by_fssplat(packed, given.shot, given.episodes),
        "after packed scoring": after_packed,
    }
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for number in range(given.rounds):
        for way, measured in ways.items():
            rounds[way].append(measured())
        print(f"round {number + 1} of {given.rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
    first, second = given.method
    base = 0.0
    for way, found in rounds.items():
        least = {name: min(one[name] for one in found) for name in given.method}
        ratio = least[first] / least[second]
        base = base or ratio
        ms = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in least.items())
        print(f"{way:22s} {first} / {second} {ratio:.3f}, {ratio / base - 1:+.1%} ({ms})")


if __name__ == "__main__":
    main()

"""A launch on several nodes while processes die at random: workers, raylets, the driver once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from safetensors.torch import load_file

from tests.launching.local_cluster import LocalCluster

QUIET_S = 30.0  # without a death is long enough, and enough for a busy machine to start a worker
EXPERIMENT = """
name: chaos
dataset: synthetic
datasets: {{synthetic: {{name: synthetic, root: {data}}}}}
store: {folder}/store
backbones: {{efficientnet_lite0: {{name: efficientnet_lite0, weights: random}}}}
grid: {{shot: [1, 4], method: [panet, hsnet], backbone: [efficientnet_lite0], seed: [{seeds}]}}
training: {{steps: 10, batch: 1, size: 65}}
protocol: {{name: fssplat, episodes: 4, episode_seeds: [0], size: 65, score: [original],
           min_area: 1, min_area_query: 1, short_classes: drop}}
evaluation: {{panels: 0}}
tracking: {tracking}
"""


def experiment(folder: Path, data: Path, jobs: int, tracking: str = "none") -> Path:
    """A grid of so many jobs, half PANet and half HSNet, two trials each."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "chaos.yaml"
    seeds = ", ".join(map(str, range(jobs // 2)))
    path.write_text(EXPERIMENT.format(data=data, folder=folder, seeds=seeds, tracking=tracking))
    return path


def drive(path: Path, address: str, work: str = "run_engine_slowly") -> subprocess.Popen[bytes]:
    """A launch on the cluster, in a process that may be killed; its screen goes to a file."""
    environment = {**os.environ, "RAY_ADDRESS": address, "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "tests.fakes.processes.launch", work, str(path)]
    with (path.parent / "screen.txt").open("ab") as screen:
        return subprocess.Popen(command, stdout=screen, stderr=screen, env=environment)


def victims(count: int, seed: int) -> list[str]:
    """Who dies, in order: workers, about a third raylets, and the driver once, half way."""
    draw = random.Random(seed)
    kinds = draw.choices(("worker", "raylet"), weights=(2, 1), k=count - 1)
    return [*kinds[: count // 2], "driver", *kinds[count // 2 :]]


@dataclass
class Chaos:
    """Kills until the grid is done. The seed decides who dies; the machine's pace, when."""

    path: Path
    cluster: LocalCluster
    jobs: int
    victims: list[str]  # spread over the first four fifths of the work
    seed: int
    limit_s: float
    dead: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)  # of the launches, in order

    def run(self) -> None:
        """Ends when a launch ends by itself. Raises TimeoutError after `limit_s`."""
        draw, start = random.Random(self.seed), time.monotonic()
        driver, last = drive(self.path, self.cluster.address), start
        try:
            while time.monotonic() - start < self.limit_s:
                if driver.poll() is not None:
                    self.codes.append(driver.returncode)
                    if driver.returncode >= 0:
                        return
                    driver = drive(self.path, self.cluster.address)
                if self._due(time.monotonic() - last - draw.random()) and self._kill(draw, driver):
                    last = time.monotonic()
                time.sleep(0.05)
            raise TimeoutError(f"{self._done()} trials done, dead: {self.dead}")
        finally:
            driver.kill()
            driver.wait()

    def _due(self, waited_s: float) -> bool:
        """Whether fewer have died than the work done asks for, or all is quiet."""
        if len(self.dead) == len(self.victims) or waited_s < 0.2:
            return False
        share = self._done() / (2 * self.jobs * 0.8)
        return len(self.dead) < len(self.victims) * share + 0.5 or waited_s > QUIET_S

    def _done(self) -> int:
        return len(list((self.path.parent / "store").glob("*/result.json")))

    def _kill(self, draw: random.Random, driver: "subprocess.Popen[bytes]") -> bool:
        """SIGKILL the next one on the list, once some worker is at work."""
        busy, victim = self._busy(), self.victims[len(self.dead)]
        if not busy:
            return False
        if victim == "driver":
            driver.kill()
            driver.wait()
        elif victim == "raylet":
            self.cluster.kill_and_replace(draw.randrange(len(self.cluster.workers)))
        else:
            os.kill(draw.choice(busy), signal.SIGKILL)
        self.dead.append(victim)
        return True

    def _busy(self) -> list[int]:
        """Workers that hold a job."""
        claims = (self.path.parent / "store" / "jobs").glob("*/claim")
        return sorted({pid for claim in claims if (pid := _holder(claim)) is not None})


def _holder(claim: Path) -> int | None:
    try:
        pid = int(json.loads(claim.read_text())["pid"])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, KeyError):
        return None
    return pid if b"ray::" in command else None


# ------------------------------------------------------------------ what has to hold afterwards


def differences(one: Path, other: Path) -> list[str]:
    """Where two stores' weights, losses, episodes or metrics are not the same to the bit."""
    found = []
    names = sorted(path.relative_to(one).as_posix() for path in one.glob("jobs/*/*.safetensors"))
    names += sorted(path.relative_to(one).as_posix() for path in one.glob("jobs/*/steps.parquet"))
    names += sorted(path.relative_to(one).as_posix() for path in one.glob("*/*.parquet"))
    names += sorted(path.relative_to(one).as_posix() for path in one.glob("*/metrics.json"))
    for name in names:
        if not (other / name).is_file() or not _same(one / name, other / name):
            found.append(name)
    return found


def _same(one: Path, other: Path) -> bool:
    if one.suffix == ".safetensors":
        ours, theirs = load_file(one), load_file(other)
        return set(ours) == set(theirs) and all((ours[n] == theirs[n]).all() for n in ours)
    if one.suffix == ".parquet":
        return bool(pq.read_table(one).equals(pq.read_table(other)))
    return _scores(one) == _scores(other)


def _scores(path: Path) -> dict[str, float]:
    """Metrics but what a clock or a meter says."""
    values = json.loads(path.read_text())
    return {name: value for name, value in values.items() if "iou" in name}


def scored_twice(store: Path) -> list[str]:
    """Trials that some job has scored more than once."""
    lines = [path.read_text().splitlines() for path in store.glob("jobs/*/scored")]
    return [one for noted in lines for one in set(noted) if noted.count(one) > 1]

"""Kill workers, raylets and once the driver of a launch on several nodes, at random times."""

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

from tests.fakes.processes.local_cluster import LocalCluster

QUIET_S = 30.0  # without a kill; long enough for a busy machine to start a worker


def start_launch(
    path: Path, address: str, work: str = "run_engine_slowly"
) -> subprocess.Popen[bytes]:
    """A launch on the cluster, in a process that may be killed; its screen goes to a file."""
    environment = {**os.environ, "RAY_ADDRESS": address, "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "tests.fakes.processes.launch", work, str(path)]
    with (path.parent / "screen.txt").open("ab") as screen:
        return subprocess.Popen(command, stdout=screen, stderr=screen, env=environment)


def choose_victims(count: int, seed: int) -> list[str]:
    """Kinds of the processes to kill, in order: workers, a third raylets, the driver half way."""
    draw = random.Random(seed)
    kinds = draw.choices(("worker", "raylet"), weights=(2, 1), k=count - 1)
    return [*kinds[: count // 2], "driver", *kinds[count // 2 :]]


@dataclass
class RandomKills:
    """Kills processes until the grid is done. `seed` chooses the workers and nodes."""

    path: Path
    cluster: LocalCluster
    jobs: int
    victims: list[str]  # spread over the first four fifths of the work
    seed: int
    limit_s: float
    killed: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)  # of the launches, in order

    def run(self) -> None:
        """Returns when a launch ends by itself. Raises TimeoutError after `limit_s`."""
        draw, start = random.Random(self.seed), time.monotonic()
        driver, last = start_launch(self.path, self.cluster.address), start
        try:
            while time.monotonic() - start < self.limit_s:
                if driver.poll() is not None:
                    self.codes.append(driver.returncode)
                    if driver.returncode >= 0:
                        return
                    driver = start_launch(self.path, self.cluster.address)
                if self._due(time.monotonic() - last - draw.random()) and self._kill(draw, driver):
                    last = time.monotonic()
                time.sleep(0.05)
            raise TimeoutError(f"{self._done()} trials done, killed: {self.killed}")
        finally:
            driver.kill()
            driver.wait()

    def _due(self, waited_s: float) -> bool:
        """Whether the share of kills is below that of finished work, or QUIET_S have passed."""
        if len(self.killed) == len(self.victims) or waited_s < 0.2:
            return False
        share = self._done() / (2 * self.jobs * 0.8)
        return len(self.killed) < len(self.victims) * share + 0.5 or waited_s > QUIET_S

    def _done(self) -> int:
        return len(list((self.path.parent / "store").glob("*/result.json")))

    def _kill(self, draw: random.Random, driver: "subprocess.Popen[bytes]") -> bool:
        """SIGKILL the next victim; return False if no worker runs a job yet."""
        busy, victim = self._busy(), self.victims[len(self.killed)]
        if not busy:
            return False
        if victim == "driver":
            driver.kill()
            driver.wait()
        elif victim == "raylet":
            self.cluster.kill_and_replace(draw.randrange(len(self.cluster.workers)))
        else:
            os.kill(draw.choice(busy), signal.SIGKILL)
        self.killed.append(victim)
        return True

    def _busy(self) -> list[int]:
        """Process ids of the workers that have claimed a job."""
        claims = (self.path.parent / "store" / "jobs").glob("*/claim")
        return sorted({pid for claim in claims if (pid := _holder(claim)) is not None})


def _holder(claim: Path) -> int | None:
    try:
        pid = int(json.loads(claim.read_text())["pid"])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, KeyError):
        return None
    return pid if b"ray::" in command else None


def differences(one: Path, other: Path) -> list[str]:
    """Files of weights, losses, episodes or metrics that differ between two stores in any bit."""
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
    """IoU metrics: the others depend on a clock or a meter."""
    values = json.loads(path.read_text())
    return {name: value for name, value in values.items() if "iou" in name}


def scored_twice(store: Path) -> list[str]:
    """Trials that some job has scored more than once."""
    lines = [path.read_text().splitlines() for path in store.glob("jobs/*/scored")]
    return [one for noted in lines for one in set(noted) if noted.count(one) > 1]

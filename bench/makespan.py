"""Compares the end of a planned grid with the best possible end.

    python bench/makespan.py                              2,000 jobs on 64 GPUs
    python bench/makespan.py --jobs 200 --trials 1000     a quick look

Two thousand jobs with heavy-tailed costs are ordered and placed on 64 GPUs by the planner, and for
comparison in their original order. The lower bound is the longest job, or all work divided by the
GPUs. Then the time to plan ten thousand trials is measured.
"""

import argparse
import os
import platform
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from described import described

from fssplat.experiment.trial import Job
from fssplat.launching.launch import Request, plan_from
from fssplat.planning.packing import Machine, PlannedJob, in_start_order, place_jobs
from fssplat.planning.plan import Plan

SHARES = (1.0, 0.5, 1 / 3, 0.25)  # of a GPU, as measured memory allows
GRID = "fold: [0, 1, 2, 3], shot: [1, 5], method: [panet, pfenet, hsnet, hmfs, jc2a]"
CELLS = 40  # of the grid above, beside its seeds


def planned(trials: int) -> Plan:
    """Plan an experiment with this many trials, a multiple of 40, two in each job."""
    with tempfile.TemporaryDirectory() as name:
        path = described(Path(name), "makespan", GRID, range(trials // CELLS))
        return plan_from(Request(path), Machine(64, 64))[0]


def heavy_tailed(jobs: Sequence[Job], seed: int, shares: Sequence[float]) -> list[PlannedJob]:
    """Pareto costs of a minute to half a day, index 1.2: few jobs have most of the work."""
    draw = random.Random(seed)
    return [
        PlannedJob(job, 1.0, seconds, True, draw.choice(shares), 1.0)
        for job in jobs
        if (seconds := min(60 * draw.paretovariate(1.2), 40_000.0))
    ]


def ratio(order: Sequence[PlannedJob], gpus: int) -> float:
    """End of the last job, divided by the lower bound."""
    work = sum(item.seconds * item.gpu for item in order)
    bound = max(work / gpus, max(item.seconds for item in order))
    return max(item.start_s + item.planned.seconds for item in place_jobs(order, gpus)) / bound


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=10_000)
    arguments = parser.parse_args()
    jobs = planned(2 * arguments.jobs).jobs
    print(f"end of {arguments.jobs} jobs on {arguments.gpus} GPUs, over the bound, worst seed")
    for name, shares in (("a GPU each", SHARES[:1]), ("1 to 4 on a GPU", SHARES)):
        drawn = [heavy_tailed(jobs, seed, shares) for seed in range(arguments.seeds)]
        first = max(ratio(in_start_order(one), arguments.gpus) for one in drawn)
        fifo = max(ratio(one, arguments.gpus) for one in drawn)
        print(f"{name}: longest first {first:.3f}, as they come {fifo:.3f}")
    started, used = time.monotonic(), time.process_time()
    count = len(planned(arguments.trials).states)
    wall, used = time.monotonic() - started, time.process_time() - used
    print(f"plan of {count} trials: {wall:.2f} s, {used:.2f} s of processor time")
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()

"""Whoever dies, every trial ends once, with the numbers of a run in which nobody did."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from fssplat.engine.run import JobData, run_job
from fssplat.engine.settings import RunSettings
from fssplat.launching.launch import Request, plan_from
from tests.cli.small import data_set
from tests.launching.chaos import (
    Chaos,
    differences,
    drive,
    experiment,
    scored_twice,
    victims,
)
from tests.launching.local_cluster import LocalCluster

SEED = int(os.environ.get("FSSPLAT_CHAOS_SEED", "0"))


def undisturbed(path: Path) -> Path:
    """A store with what this process makes of the experiment, job by job; no Ray."""
    import torch

    torch.set_num_threads(1)
    plan, store = plan_from(Request(path))
    for job in plan.jobs:
        folder = store.job_folder(job.key)
        settings = replace(RunSettings(), device=torch.device("cpu"))
        run_job(job, JobData.open(job, plan.fingerprints), folder, settings=settings)
        for trial_id in job.trial_ids:
            (folder / "trials" / trial_id).rename(Path(store.address) / trial_id)
    return Path(store.address)


def check(chaos: Chaos, quiet: Path) -> None:
    store = chaos.path.parent / "store"
    screen = (chaos.path.parent / "screen.txt").read_text()
    assert chaos.dead == chaos.victims, screen
    assert chaos.codes == [-9, 0], screen  # one driver died, the next launch ended well
    assert len(list(store.glob("*/result.json"))) == 2 * chaos.jobs
    assert scored_twice(store) == []
    assert differences(quiet, store) == []
    assert differences(store, quiet) == []


@pytest.mark.timeout(600)
def test_a_killed_worker_raylet_and_driver_change_no_bit(tmp_path: Path) -> None:
    data = data_set(tmp_path / "synthetic")
    quiet = undisturbed(experiment(tmp_path / "quiet", data, 4))
    with LocalCluster(workers=1) as cluster:
        wild = experiment(tmp_path / "wild", data, 4)
        chaos = Chaos(wild, cluster, 4, ["worker", "raylet", "driver"], SEED, limit_s=480)
        chaos.run()
    check(chaos, quiet)


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_forty_jobs_on_three_nodes_survive_thirty_two_deaths(tmp_path: Path) -> None:
    data = data_set(tmp_path / "synthetic")
    with LocalCluster(workers=2) as cluster:
        quiet = experiment(tmp_path / "quiet", data, 40)
        assert drive(quiet, cluster.address).wait(timeout=600) == 0
        wild = experiment(tmp_path / "wild", data, 40, tracking="''")
        chaos = Chaos(wild, cluster, 40, victims(32, SEED), SEED, limit_s=1200)
        chaos.run()
    check(chaos, tmp_path / "quiet" / "store")

"""Whichever process is killed, every trial ends once and its numbers do not change."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from fssplat.engine.run import JobData, run_job
from fssplat.engine.settings import RunSettings
from fssplat.launching.launch import Request, plan_from
from tests.fakes.experiment_files import experiment_of_many_jobs
from tests.fakes.processes.local_cluster import LocalCluster
from tests.fakes.processes.random_kills import (
    RandomKills,
    choose_victims,
    differences,
    scored_twice,
    start_launch,
)

SEED = int(os.environ.get("FSSPLAT_CHAOS_SEED", "0"))


def undisturbed(path: Path) -> Path:
    """Run the experiment's jobs in this process, without Ray, and return the store."""
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


def check(kills: RandomKills, quiet: Path) -> None:
    store = kills.path.parent / "store"
    screen = (kills.path.parent / "screen.txt").read_text()
    assert kills.killed == kills.victims, screen
    assert kills.codes == [-9, 0], screen  # one driver died, the next launch ended well
    assert len(list(store.glob("*/result.json"))) == 2 * kills.jobs
    assert scored_twice(store) == []
    assert differences(quiet, store) == []
    assert differences(store, quiet) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_worker_raylet_and_driver_change_no_bit(synthetic: Path, tmp_path: Path) -> None:
    quiet = undisturbed(experiment_of_many_jobs(tmp_path / "quiet", synthetic, 4))
    with LocalCluster(workers=1) as cluster:
        wild = experiment_of_many_jobs(tmp_path / "wild", synthetic, 4)
        kills = RandomKills(wild, cluster, 4, ["worker", "raylet", "driver"], SEED, limit_s=480)
        kills.run()
    check(kills, quiet)


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_forty_jobs_on_three_nodes_survive_thirty_two_deaths(
    synthetic: Path, tmp_path: Path
) -> None:
    with LocalCluster(workers=2) as cluster:
        quiet = experiment_of_many_jobs(tmp_path / "quiet", synthetic, 40)
        assert start_launch(quiet, cluster.address).wait(timeout=600) == 0
        wild = experiment_of_many_jobs(tmp_path / "wild", synthetic, 40, tracking="")
        kills = RandomKills(wild, cluster, 40, choose_victims(32, SEED), SEED, limit_s=1200)
        kills.run()
    check(kills, tmp_path / "quiet" / "store")

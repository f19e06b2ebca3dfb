"""One trained PFENet in a store, for all tests of inner maps."""

from pathlib import Path

import pytest
import torch

from fssplat.engine.events import Event, TrialScored
from fssplat.engine.job_data import JobData
from fssplat.engine.run import run_job
from fssplat.engine.settings import RunSettings
from fssplat.experiment.trial import Job
from fssplat.report.evidence.gather import Evidence, Options, Source
from fssplat.results.store import Store
from tests.fakes.synthetic_jobs import synthetic_job

CPU = torch.device("cpu")


def run_into(store: Store, job: Job) -> None:
    """Train and score the job on the CPU; its results and its model are then in the store."""
    events: list[Event] = []
    folder = store.job_folder(job.key)
    settings = RunSettings(device=CPU, artefacts=folder.parent.parent / "artefacts")
    run_job(job, JobData.open(job), folder, events.append, settings=settings)
    trials = dict(zip(job.trial_ids, job.trials, strict=True))
    for event in events:
        if isinstance(event, TrialScored):
            one = trials[event.trial_id]
            store.finish(one, event.trial_id, event.folder, event.metrics, (), {"job": job.key})


def evidence_of(store: Store, *jobs: Job) -> Evidence:
    """What a report with --maps reads."""
    trials = {
        one: trial for job in jobs for one, trial in zip(job.trial_ids, job.trials, strict=True)
    }
    made = Source("x", "", "fssplat launch x.yaml", store, trials, store.states(trials))
    return Evidence([made], Options(maps=True, prototypes=20))


@pytest.fixture(scope="session")
def maps_job(synthetic: Path) -> Job:
    return synthetic_job(synthetic, "pfenet", training={"steps": 2}, episodes=30, episode_seeds=[0])


@pytest.fixture(scope="session")
def maps_store(maps_job: Job, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Its trial is `maps_job`'s; do not change it."""
    store = Store.open(str(tmp_path_factory.mktemp("maps") / "store"))
    run_into(store, maps_job)
    return store

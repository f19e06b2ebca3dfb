"""Everything that a search checks before it starts, and what the checks find."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fssplat.common.databases import same_database
from fssplat.common.errors import InputError
from fssplat.data.index import DatasetInfo
from fssplat.engine.job_data import JobData
from fssplat.engine.settings import RunSettings
from fssplat.engine.staged_training import milestone_selection
from fssplat.experiment.expand import jobs
from fssplat.experiment.schema import NO_TRACKING
from fssplat.experiment.trial import Job
from fssplat.launching.checks import check_disk, check_ray, check_writable
from fssplat.launching.cluster import Cluster, Node
from fssplat.launching.launch import Request
from fssplat.launching.ray_faults.address import ray_address
from fssplat.planning.absolute_paths import absolute_job
from fssplat.planning.inputs import check_weights, content_fingerprints, dataset_infos
from fssplat.planning.packing import PlannedJob, check_resources, this_machine
from fssplat.results.store import Store
from fssplat.search.reading import load_search
from fssplat.search.space import Point, Search
from fssplat.search.storage import StudyDatabase, database_of
from fssplat.search.study import check_study, comparison_mark, study_name
from fssplat.search.worker import STUDIES_FOLDER, score_key
from fssplat.tracking.server.checks import check_tracking
from fssplat.tracking.server.connection import tracking_uri


@dataclass(frozen=True)
class Prepared:
    """A checked search, its store, its database, and the fingerprints of its data."""

    search: Search
    store: Store
    database: StudyDatabase
    fingerprints: dict[str, str]
    mark: str  # digest of all that makes values comparable
    unchecked: tuple[str, ...] = ()  # lines about what could not be checked

    def jobs(self, point: Point) -> tuple[Job, ...]:
        """The trainings of a point, one per fold and seed. Raises InputError."""
        found = jobs(self.search.trials(point), self.fingerprints)
        return tuple(absolute_job(job) for job in found)

    def folder(self, study: str) -> Path:
        """The folder for the study's files: in the store, or in its scratch if it has no folder."""
        return (self.store.folder or self.store.scratch) / STUDIES_FOLDER / study


def prepare(request: Request, make: bool = True) -> Prepared:
    """Read the search and check all that can be checked before it starts.

    Writes into no database, and makes no file if `make` is False. Raises InputError.
    """
    search = load_search(request.path, request.changes)
    infos: dict[str, DatasetInfo] = dataset_infos(search.experiment)
    check_resources(search.experiment)
    fingerprints = {name: info.fingerprint for name, info in infos.items()}
    address = search.experiment.store
    store = Store.open(address) if make else Store(address)
    check_disk(store)
    if not make:
        check_writable(store)
    database = database_of(search.spec, store.folder)
    _check_apart(search, store, database)
    tracking = check_tracking(search.experiment, store, make)
    trials = search.trials(search.defaults)
    fingerprints |= content_fingerprints(trials)
    unchecked = tuple(filter(None, [*check_weights(trials), tracking]))
    default_jobs = jobs(trials, fingerprints)
    _check_machine(search, default_jobs[0])
    _check_data(search, default_jobs, fingerprints)
    mark = comparison_mark(search, [score_key(job) for job in default_jobs])
    check_study(search, database, mark)
    return Prepared(search, store, database, fingerprints, mark, unchecked)


def name_of_study(search: Search) -> str:
    """The name of the search's study. Reads the data sets' indexes; makes nothing."""
    if search.spec.study:
        return search.spec.study
    fingerprints = {name: one.fingerprint for name, one in dataset_infos(search.experiment).items()}
    trials = search.trials(search.defaults)
    fingerprints |= content_fingerprints(trials)
    keys = [score_key(job) for job in jobs(trials, fingerprints)]
    return study_name(search, comparison_mark(search, keys))


def _check_apart(search: Search, store: Store, database: StudyDatabase) -> None:
    """Raises InputError if MLflow and Optuna are given one database: their tables collide."""
    if search.experiment.tracking == NO_TRACKING:
        return
    uri = tracking_uri(search.experiment.tracking, store)
    if same_database(uri, database.url):
        raise InputError(
            f"search.storage {database.shown}: is MLflow's database too (tracking). Give the "
            "studies their own, e.g. --set search.storage=sqlite:///studies.db."
        )


def _check_data(search: Search, default_jobs: Sequence[Job], fingerprints: dict[str, str]) -> None:
    """Open the data and draw the episodes that points are scored on. Raises InputError."""
    spec = search.spec
    for job in default_jobs:
        data = JobData.open(job, fingerprints)
        milestone_selection(job.first, data, spec.selection, spec.episodes, RunSettings())


def _check_machine(search: Search, job: Job) -> None:
    """Raises InputError if Ray cannot start here, or if this machine is too small for a point."""
    check_ray()
    if not ray_address():
        here = this_machine()
        point_resources(search, job, Cluster((Node(here.cpus, here.gpus),), local=True))


def point_resources(search: Search, job: Job, machines: Cluster) -> tuple[float, float]:
    """Cores and GPUs of a point. Raises InputError if no machine of the cluster has them."""
    resources = search.experiment.resources
    gpu = float(machines.gpus > 0 if resources.gpu == "auto" else resources.gpu)
    machines.check((PlannedJob(job, 0.0, 0.0, False, gpu, resources.cpu),))
    return resources.cpu, gpu

"""Checks before a launch starts: the machine, the data, the store and its disk."""

import shutil
from pathlib import Path

from fssplat.common.errors import InputError, StoreAwayError
from fssplat.common.printing import counted
from fssplat.common.whole_files import temporary_name
from fssplat.data.episodes.manifest import manifest
from fssplat.data.index import INDEX_FILE
from fssplat.data.loader import training_episodes
from fssplat.data.places import default_root
from fssplat.engine.device import CPU
from fssplat.engine.job_data import JobData, open_dataset
from fssplat.launching.cluster import Cluster, Node
from fssplat.launching.ray_faults.address import check_address, ray_address
from fssplat.launching.ray_faults.folder import check_ray_folder, ray_folder
from fssplat.planning import inputs
from fssplat.planning.plan import Plan
from fssplat.results.files import nearest_existing, try_to_write
from fssplat.results.store import Store

SPARE_BYTES = 200_000_000  # a launch does not start if the store's disk has less free
# Weights in the store and as a model in MLflow: the mean over full_grid.yaml's 264 trainings.
TRAINING_BYTES = 100_000_000


def check_machine(plan: Plan) -> None:
    """Raises InputError if Ray cannot start here or this machine is too small for a job.

    If RAY_ADDRESS is set: if no cluster answers there. Its machines are checked when it is joined.
    """
    if not plan.pending:
        return
    check_ray()
    if not ray_address():
        here = Node(plan.machine.cpus, plan.machine.gpus)
        Cluster((here,), local=True).check(plan.pending)


def check_ray() -> None:
    """Raises InputError if Ray cannot start on this machine, or not answer at RAY_ADDRESS."""
    address = ray_address()
    if address:
        check_address(address)
    else:
        check_ray_folder(ray_folder())


def check_weights(plan: Plan) -> list[str]:
    """Check the weights that pending jobs read. Raises InputError.

    Returns a line for each backbone whose weights will be downloaded.
    """
    return inputs.check_weights([trial for item in plan.pending for trial in item.job.trials])


def check_data(plan: Plan) -> None:
    """Open every data set and draw one episode per pending cell. Raises InputError.

    A cut shard, an index of another build, a class with too few images, a public list that was not
    imported, or no image to select weights by stops the launch here, not an hour later in a worker.
    So does a grid without any trial that the data can give an episode.
    """
    checked: set[tuple[object, ...]] = set()
    skipped: list[str] = []  # a reason for each cell without an episode; empty for the others
    for item in plan.pending:
        for trial in item.job.trials:
            source, dataset = open_dataset(trial.train_on), open_dataset(trial.dataset)
            rules, shot = trial.protocol, trial.training.shot
            drawn = (trial.train_on.name, trial.fold, rules.hash, "training", shot, trial.way)
            if trial.training.steps != 0 and drawn not in checked:
                checked.add(drawn)
                training_episodes(source, trial)
                JobData({trial.train_on.name: source}).selection(trial, CPU, count=1)
            key = (trial.dataset.name, trial.fold, rules.hash, "scoring", trial.shot, trial.way)
            if key in checked:
                continue
            checked.add(key)
            one = rules.model_copy(update={"episodes": 1})
            drawn_one = manifest(
                dataset, trial.fold, trial.shot, one, 0, trial.way, trial.train_on.name
            )
            skipped.append(drawn_one.skipped_reason)
    if skipped and all(skipped):
        raise InputError(
            f"{plan.experiment.name}: no trial has an episode ({skipped[0]}). "
            "Lower grid.shot or grid.way, or give a data set with more images per class."
        )


def data_is_here(plan: Plan) -> bool:
    """Whether every data set of the plan has its index on this machine."""
    trials = plan.trials.values()
    specs = {spec.name: spec for one in trials for spec in (one.train_on, one.dataset)}
    roots = (spec.root or default_root(spec.name) for spec in specs.values())
    return all((Path(root) / INDEX_FILE).is_file() for root in roots)


def check_writable(store: Store) -> None:
    """Raises InputError or StoreAwayError if the store cannot be written. Makes no store."""
    store.check_format()
    try:
        if store.folder is not None:
            try_to_write(store.folder)
        else:
            name = temporary_name(Path("probe")).name
            store.files.write(name, b"")
            store.files.delete(name)
    except StoreAwayError:
        raise
    except OSError as error:
        raise InputError(
            f"store {store.shown_address}: cannot be written ({error.strerror or error}). "
            "Give another with --set store=<folder>."
        ) from error


def check_disk(store: Store) -> None:
    """Raises InputError if the store's disk has less than SPARE_BYTES free."""
    if store.folder is None:
        return
    free = shutil.disk_usage(nearest_existing(store.folder)).free
    if free < SPARE_BYTES:
        raise InputError(
            f"store {store.shown_address}: {free // 1_000_000} MB free, a launch needs "
            f"{SPARE_BYTES // 1_000_000} MB. Free some, or give another with --set store=<folder>."
        )


def disk_warning(plan: Plan, store: Store) -> str:
    """A line if the pending trainings may fill the store's disk; empty if they fit."""
    if store.folder is None:
        return ""
    trainings = sum(item.job.trains for item in plan.pending)
    needed = trainings * TRAINING_BYTES
    free = shutil.disk_usage(nearest_existing(store.folder)).free
    if free >= needed:
        return ""
    return (
        f"store {store.shown_address}: {free / 1e9:.0f} GB free; "
        f"{counted(trainings, 'training')} may need about {needed / 1e9:.0f} GB. "
        "If the disk is full the launch stops, keeps its results, and can be resumed. "
        "`--set mlflow.models=false` halves that; --set store=<folder> moves it.\n"
    )

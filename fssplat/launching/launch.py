"""One launch from the YAML to the table: check, plan, run, mirror, show."""

import json
import os
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from uuid import uuid4

from rich.console import Console

from fssplat.common.errors import InputError, StoreAwayError
from fssplat.common.passwords import hidden, hidden_in
from fssplat.common.whole_files import temporary_name
from fssplat.experiment.reading import load_experiment
from fssplat.experiment.schema import NO_TRACKING, ExperimentSpec
from fssplat.experiment.trial import Trial
from fssplat.launching.cluster import Cluster, Node, cluster
from fssplat.launching.context import LaunchContext
from fssplat.launching.job_run import run
from fssplat.launching.progress import Progress
from fssplat.launching.stop_request import StopRequest
from fssplat.planning.plan import Machine, Plan, make_plan, table
from fssplat.results import environment
from fssplat.results.claims import claim
from fssplat.results.files import nearest, try_to_write
from fssplat.results.notes import Note
from fssplat.results.store import SETTLED, Store
from fssplat.worker.claimed_job import Work

SPARE_BYTES = 200_000_000  # a launch does not start on a disk that is all but full
# Weights in the store and as a model in MLflow: the mean over full_grid.yaml's 264 trainings.
TRAINING_BYTES = 100_000_000
TABLE_WIDTH = 200  # columns of the result table where it goes to a file


class Asked(Protocol):
    """What a launch is for: an experiment, and the command line that asks for it again."""

    def load(self) -> ExperimentSpec: ...

    def command(self, name: str = "launch") -> str: ...


@dataclass(frozen=True)
class Request:
    """An experiment file as typed."""

    path: Path
    changes: tuple[str, ...] = ()

    def load(self) -> ExperimentSpec:
        return load_experiment(self.path, self.changes)

    def command(self, name: str = "launch") -> str:
        """The command line that asks for the same again, once passwords are put back."""
        settings = [part for change in self.changes for part in ("--set", hidden(change))]
        return shlex.join(["fssplat", name, str(self.path), *settings])


def launch(request: Asked, console: Console | None = None, work: Work | None = None) -> int:
    """Run every trial that has no result yet, end with the table. Returns the exit code:

    0 all trials have their result, 1 some failed or diverged, or the disk is full, 130
    stopped by Ctrl-C or `fssplat stop`, 143 by SIGTERM. Raises InputError before anything starts.
    """
    console = console or Console()
    experiment = request.load()
    plan = make_plan(experiment)
    check_machine(plan)
    console.print(table(plan))
    check_data(plan)
    store = Store.open(experiment.store)
    check_disk(store)
    check_tracking(experiment, store)
    console.print(short_of_room(plan, store), end="", soft_wrap=True)
    stop = StopRequest()
    if plan.pending:
        stop = Launch(request, experiment, plan, store, console, work).run()
    elif experiment.tracking != NO_TRACKING:
        deliver(experiment, plan, store, console.print)
    return conclude(request, plan, store, stop, console)


def rehearse(request: Asked, console: Console) -> None:
    """What a launch checks and prints before it starts; leaves nothing behind.

    Raises InputError or StoreAwayError.
    """
    plan, store = plan_from(request)
    check_machine(plan)
    check_data(plan)
    try_store(store)
    check_disk(store)
    check_tracking(plan.experiment, store, make=False)
    console.print(table(plan))
    console.print(short_of_room(plan, store), end="", soft_wrap=True)


def conclude(request: Asked, plan: Plan, store: Store, stop: StopRequest, console: Console) -> int:
    """The table, what is missing, how to go on; the exit code."""
    from fssplat.report.efficiency import efficiency
    from fssplat.report.table import table as results_table

    states = store.states(plan.trials)
    console.print()
    page(console).print(results_table(plan.trials, states, store))
    if plan.experiment.resources.max_concurrent == 1:  # only then do speeds compare
        page(console).print(efficiency(plan.trials, store.results(plan.trials)))
    if stop.requested.is_set():
        console.print(stop.reason, end="\n" if stop.reason else "", soft_wrap=True)
        console.print(f"Stopped. To go on: {request.command()}", soft_wrap=True)
        if stop.reason:
            return 1
        return 143 if stop.signal == signal.SIGTERM else 130
    bad = sum(status.state in ("failed", "diverged") for status in states.values())
    if bad:
        console.print(f"{bad} trials failed. After mending: {request.command('retry')}")
    left = sum(status.state not in (*SETTLED, "failed") for status in states.values())
    if left:  # their end could not be written down, as on a full disk
        console.print(f"{left} trials were cut short. To go on: {request.command()}")
    return 1 if bad or left else 0


def page(console: Console) -> Console:
    """The same screen; where it is a file, wide enough for any table."""
    if console.is_terminal:
        return console
    return Console(file=console.file, width=max(console.width, TABLE_WIDTH))


class Launch:
    """A launch that has something to run."""

    def __init__(
        self,
        request: Asked,
        experiment: ExperimentSpec,
        plan: Plan,
        store: Store,
        console: Console,
        work: Work | None,
    ) -> None:
        self.request, self.experiment, self.plan = request, experiment, plan
        self.store, self.console, self.work = store, console, work
        self.id = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:4]}"
        self.environment = environment.capture()

    def run(self) -> StopRequest:
        """Start Ray and MLflow side by side, run the jobs, close both."""
        with ExitStack() as stack:
            held = claim(self.store.files, f"launches/{self.id}/claim", self.id)
            if held is not None:
                stack.enter_context(held)
            self._write_down()
            opening = ThreadPoolExecutor(1).submit(self._open_tracking)
            machines = stack.enter_context(cluster())
            plan = self._fitted(machines)
            if plan is not self.plan:  # the machines are others than this one
                self.console.print(table(plan))
            progress = Progress(plan.pending, plan.trials, plan.devices, self.console)
            delivery = opening.result()
            hear: list[Callable[[Note], None]] = [progress.on_note]
            if delivery is not None:
                hear.append(delivery.on_note)
            context = LaunchContext(
                store=self.store,
                launch=self.id,
                on_note=lambda note: _all(hear, note),
                about={"commit": self.environment["commit"]},
                images=plan.images,
                fingerprints=plan.fingerprints,
                max_concurrent=self.experiment.resources.max_concurrent,
                work=self.work,
            )
            with progress:
                stop = run(plan.pending, context, machines)
            if delivery is not None:
                self._close_tracking(delivery, stop)
        return stop

    def _fitted(self, machines: Cluster) -> Plan:
        """The plan for the machines that are there, which may not be the ones first guessed."""
        found = Machine(machines.cpus, machines.gpus)
        if found == self.plan.machine:
            return self.plan
        return make_plan(self.experiment, self.store, found)

    def _write_down(self) -> None:
        """What this launch is and what it runs with, before it runs."""
        files = {
            "experiment.json": hidden_in(self.experiment.model_dump(mode="json")),
            "environment.json": self.environment,
            "command.json": {"command": self.request.command()},
        }
        for name, value in files.items():
            text = json.dumps(value, indent=1, default=str)
            self.store.files.write(f"launches/{self.id}/{name}", text.encode())

    def _open_tracking(self) -> Any:
        """MLflow ready and up to date, or None where it is off or away. Raises InputError."""
        if self.experiment.tracking == NO_TRACKING:
            return None
        from fssplat.tracking.connection import MlflowError, tracking_uri
        from fssplat.tracking.delivery import Delivery, sync
        from fssplat.tracking.runs import open_tracking

        uri = tracking_uri(self.experiment.tracking, self.store)
        tags = tags_of(self.plan, self.id, self.environment["commit"])
        try:
            tracking = open_tracking(uri, self.experiment.name, self.experiment.mlflow)
            about = {"mlflow.source.git.commit": self.environment["commit"]}
            tracking.start_launch(self.id, self.experiment.name, about)
        except MlflowError as error:
            self._warn(
                f"MLflow is not available ({error}); `{self.request.command('sync')}` delivers "
                "later."
            )
            return None
        try:
            sync(tracking, self.store, self.plan.trials, tags)
        except MlflowError as error:  # about results of earlier launches; this one's may arrive
            self._warn(f"MLflow lacks earlier results ({error}).")
        return Delivery(tracking, self.store, self.plan.trials, tags, self._warn)

    def _close_tracking(self, delivery: Any, stop: StopRequest) -> None:
        from fssplat.tracking.connection import MlflowError

        delivery.close()
        states = self.store.states(self.plan.trials)
        counts = [status.state for status in states.values()]
        metrics = {f"trials/{state}": float(counts.count(state)) for state in set(counts)}
        status = "KILLED" if stop.requested.is_set() else "FINISHED"
        with TemporaryDirectory() as folder, suppress(MlflowError):
            paths = []
            for name in ("experiment.json", "environment.json"):
                path = Path(folder) / name
                self.store.files.get(f"launches/{self.id}/{name}", path)
                paths.append(path)
            delivery.tracking.end_launch(status, metrics, paths)
        if delivery.missed:
            self._warn(
                f"MLflow lacks {len(delivery.missed)} results; "
                f"`{self.request.command('sync')}` delivers them."
            )

    def _warn(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)


def deliver(
    experiment: ExperimentSpec, plan: Plan, store: Store, say: Callable[[str], None]
) -> int | None:
    """Give MLflow the finished trials it lacks; how many, or None where it is away."""
    from fssplat.tracking.connection import MlflowError, tracking_uri
    from fssplat.tracking.delivery import sync
    from fssplat.tracking.runs import open_tracking

    uri = tracking_uri(experiment.tracking, store)
    try:
        tracking = open_tracking(uri, experiment.name, experiment.mlflow)
        return sync(tracking, store, plan.trials, tags_of(plan, "", environment.commit()))
    except MlflowError as error:
        say(f"MLflow is not available ({error}); results stay in the store until `fssplat sync`.")
        return None


def tags_of(plan: Plan, launch: str, commit: str) -> Callable[[Trial], dict[str, str]]:
    """The tags of a trial's run that its spec does not hold."""

    def tags(trial: Trial) -> dict[str, str]:
        fingerprint = plan.fingerprints.get(trial.dataset.name, "")
        return {
            "fssplat.dataset_fingerprint": fingerprint,
            "fssplat.git_commit": commit,
            "fssplat.launch": launch,
            "mlflow.source.git.commit": commit,
        }

    return tags


# ------------------------------------------------------------------ before anything starts


def check_data(plan: Plan) -> None:
    """Open every data set and draw one episode per pending cell. Raises InputError.

    A cut shard, an index of another build, a class with too few images, or a public list that was
    not imported stops the launch here, not an hour later in a worker.
    """
    from fssplat.data.episodes.manifest import manifest
    from fssplat.data.loader import training_episodes
    from fssplat.engine.job_data import opened

    checked: set[tuple[object, ...]] = set()
    for item in plan.pending:
        for trial in item.job.trials:
            source, dataset = opened(trial.train_on), opened(trial.dataset)
            listed = (trial.train_on.name, trial.fold, trial.protocol.training_list)
            if listed[2] != "all" and trial.training.steps != 0 and listed not in checked:
                checked.add(listed)
                training_episodes(source, trial)
            key = (trial.dataset.name, trial.fold, trial.shot, trial.way)
            if key in checked or trial.protocol.draw == "walk-list":
                continue
            checked.add(key)
            rules = trial.protocol.model_copy(update={"episodes": 1})
            manifest(dataset, trial.fold, trial.shot, rules, 0, trial.way)


def check_machine(plan: Plan) -> None:
    """Raises InputError for what this machine lacks; a cluster is asked once it is joined."""
    if not os.environ.get("RAY_ADDRESS"):
        here = Node(plan.machine.cpus, plan.machine.gpus)
        Cluster((here,), local=True).check(plan.pending)


def check_tracking(experiment: ExperimentSpec, store: Store, make: bool = True) -> None:
    """Raises InputError for an address that MLflow cannot use, or a file it cannot write.

    Makes the file's folder and lock, unless told not to.
    """
    if experiment.tracking == NO_TRACKING:
        return
    from fssplat.tracking.connection import check_writable, tracking_uri

    check_writable(tracking_uri(experiment.tracking, store), make)


def try_store(store: Store) -> None:
    """Raises InputError or StoreAwayError for a store that cannot be written; makes none."""
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
            f"store {store.address}: cannot be written ({error.strerror or error}). "
            "Give another with --set store=<folder>."
        ) from error


def check_disk(store: Store) -> None:
    """Raises InputError where the store's disk is all but full."""
    if store.folder is None:
        return
    free = shutil.disk_usage(nearest(store.folder)).free
    if free < SPARE_BYTES:
        raise InputError(
            f"store {store.address}: {free // 1_000_000} MB free, a launch needs "
            f"{SPARE_BYTES // 1_000_000} MB. Free some, or give another with --set store=<folder>."
        )


def short_of_room(plan: Plan, store: Store) -> str:
    """A line where the trainings left may fill the store's disk; empty where there is room."""
    trainings = sum(item.job.trains for item in plan.pending)
    needed = trainings * TRAINING_BYTES
    if store.folder is None:
        return ""
    free = shutil.disk_usage(nearest(store.folder)).free
    if free >= needed:
        return ""
    return (
        f"store {store.address}: {free / 1e9:.0f} GB free; {trainings} trainings leave about "
        f"{needed / 1e9:.0f} GB. On a full disk the launch stops, keeps what it has, and can go "
        "on. `--set mlflow.models=false` halves that; --set store=<folder> puts it elsewhere.\n"
    )


def _all(listeners: list[Callable[[Note], None]], note: Note) -> None:
    for hear in listeners:
        hear(note)


def plan_from(request: Asked, machine: Machine | None = None) -> tuple[Plan, Store]:
    """An experiment's plan and its store, which is not made where missing."""
    experiment = request.load()
    store = Store(experiment.store)
    return make_plan(experiment, store, machine), store


def standing(plan: Plan, store: Store) -> Mapping[str, tuple[str, str]]:
    """State and reason of each trial; one that says `running` but has no holder was cut."""
    held = {job.key for job in plan.jobs if _says_running(job.trial_ids, plan)}
    alive = {key for key in held if store.job_held(key)}
    found = {}
    for job in plan.jobs:
        for trial_id in job.trial_ids:
            status = plan.states[trial_id]
            if status.state == "running" and job.key not in alive:
                found[trial_id] = ("pending", "was cut; the next launch goes on")
            else:
                found[trial_id] = (status.state, status.reason)
    return found


def _says_running(trial_ids: tuple[str, ...], plan: Plan) -> bool:
    return any(plan.states[trial_id].state == "running" for trial_id in trial_ids)

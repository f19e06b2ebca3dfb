"""Ray Tune runs the jobs of a plan: longest first, workers reused, every end accounted for.

Tune schedules and restarts; it keeps nothing. Each launch is a fresh Tuner over what the store
says is left, so that a resume, a larger grid and a retry are one and the same.
"""

import contextlib
import shutil
import socket
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from fssplat.experiment.grid import Job
from fssplat.launching.board import RayChannel, open_board
from fssplat.launching.cluster import Cluster
from fssplat.launching.session import LIVES, UNSEEN, Session, Stop, meanwhile, quiet, signals
from fssplat.planning.absolute_paths import rooted
from fssplat.planning.plan import PlannedJob
from fssplat.results.claims import EXPIRY_S
from fssplat.results.store import Store
from fssplat.worker.claimed_job import Outcome, Task, Work, perform

LISTEN_S = 0.5  # between two visits to the board
BUSY_S = 5.0  # between two looks at jobs that another launch holds


def run(pending: tuple[PlannedJob, ...], session: Session, cluster: Cluster) -> Stop:
    """Run the jobs to their ends. Returns whether, and by which signal, it was stopped early.

    Raises InputError for resources that the cluster lacks. A job that fails is written down in
    the store with its reason; the others go on.
    """
    import ray

    cluster.check(pending)
    session.store.announce(session.launch)
    board = open_board()
    stop = Stop()
    with signals(stop), meanwhile(partial(_listen, board, session, stop)):
        left = pending
        while left and not stop.asked.is_set():
            outcomes = _fit(left, session, cluster, board, stop)
            busy = {key for key, end in outcomes.items() if end.state == "busy"}
            left = tuple(item for item in left if item.job.key in busy)
            if left:
                _await_others(left, session, stop)
    ray.kill(board)
    return stop


def _fit(
    pending: tuple[PlannedJob, ...], session: Session, cluster: Cluster, board: Any, stop: Stop
) -> dict[str, Outcome]:
    """One Tuner over these jobs; how each of them ended."""
    from ray import tune

    from fssplat.launching.tune_hooks import Halt, Watch

    watch = Watch({item.job.key: item.job for item in pending}, session, stop)
    common = {
        "store": session.store.address,
        "launch": session.launch,
        "images": session.images,
        "fingerprints": session.fingerprints,
        "about": session.about,
        "retries": session.retries,
    }
    trainable = tune.with_parameters(_trainable, board=board, work=session.work, common=common)
    folder = Path(tempfile.mkdtemp(prefix="fssplat-tune-"))
    tuner = tune.Tuner(
        tune.with_resources(trainable, _resources),
        param_space={"task": tune.grid_search([_packed(item) for item in pending])},
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=session.max_concurrent,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            stop=Halt(watch, stop, session.grace_s),
            callbacks=[watch],
            failure_config=tune.FailureConfig(max_failures=LIVES),
            verbose=0,
        ),
    )
    try:
        with quiet():
            tuner.fit()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return watch.outcomes


def _trainable(
    config: dict[str, Any], board: Any, work: Work | None, common: dict[str, Any]
) -> dict[str, str]:
    """What Tune calls in a worker; the dict it returns is the trial's only report."""
    asked = config["task"]
    job = Job.model_validate_json(asked["job"])
    task = Task(job=job, cpu=asked["cpu"], gpu=asked["gpu"], **common)
    if not Store(task.store).knows(task.launch):
        reason = (
            f"{socket.gethostname()} {UNSEEN} in store {task.store}. Give one that every node "
            "reaches, a shared disk or s3://, with --set store=..."
        )
        return {"state": "failed", "reason": reason}
    outcome = perform(task, RayChannel(board), work)
    return {"state": outcome.state, "reason": outcome.reason}


def _packed(item: PlannedJob) -> dict[str, Any]:
    """Plain values only: Tune puts a placeholder where it finds an object."""
    job = rooted(item.job)
    return {"key": job.key, "job": job.model_dump_json(), "cpu": item.cpu, "gpu": item.gpu}


def _resources(config: dict[str, Any]) -> Any:
    from ray import tune

    bundle = {"CPU": config["task"]["cpu"]}
    if config["task"]["gpu"]:
        bundle["GPU"] = config["task"]["gpu"]
    return tune.PlacementGroupFactory([bundle])


def _name(trial: Any) -> str:
    return str(trial.config["task"]["key"])


# ------------------------------------------------------------------ beside the jobs


def _listen(board: Any, session: Session, stop: Stop, over: threading.Event) -> None:
    """Carry notes from the board to whoever hears them, and the stop back."""
    import ray

    told, looked = False, time.monotonic()
    while True:
        last = over.is_set()
        if time.monotonic() - looked > 2.0:
            looked = time.monotonic()
            with contextlib.suppress(Exception):
                if session.store.stop_asked(session.launch):
                    stop.ask()
        try:
            if stop.asked.is_set() and not told:
                ray.get(board.stop.remote(), timeout=30)
                told = True
            for note in ray.get(board.fetch.remote(), timeout=30):
                with contextlib.suppress(Exception):  # a closed screen must not silence a stop
                    session.hear(note)
        except ray.exceptions.RayError:
            if last:
                return
        if last:
            return
        over.wait(LISTEN_S if not stop.asked.is_set() else 0.05)


def _await_others(left: tuple[PlannedJob, ...], session: Session, stop: Stop) -> None:
    """Until some job that another launch held is free; no longer than a dead one seems to hold it.

    Whether a holder on another machine lives is seen by `claim` alone, which watches it.
    """
    end = time.monotonic() + EXPIRY_S
    while not stop.asked.wait(BUSY_S) and time.monotonic() < end:
        if any(not session.store.job_held(item.job.key) for item in left):
            return

"""Run tasks with Ray Tune: the one place that starts a Tuner, for launches and for searches.

Tune schedules and restarts tasks and keeps nothing: every run is a fresh Tuner in a temporary
folder, over tasks that a searcher hands out one by one.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from fssplat.common.errors import RayLostError
from fssplat.launching.board import OpenBoard
from fssplat.launching.ray_faults.leftovers import temporary_folder
from fssplat.launching.ray_faults.watch import TICK_S, RayWatch
from fssplat.launching.stop_request import GRACE_S, StopRequest
from fssplat.worker.heartbeat import Channel

JOIN_S = 30.0  # seconds that a background thread has to end
LEAVE_S = 5.0  # seconds that Tune has to end after Ray, and background threads too

Report = Callable[[dict[str, Any]], None]  # sends metrics to Tune before the task ends


class Perform(Protocol):
    """Runs one task in a worker and returns its last metrics. Must be picklable."""

    def __call__(
        self, config: Mapping[str, Any], channel: Channel, report: Report
    ) -> dict[str, Any]:
        """`config` is one of `as_config`."""
        ...


def as_config(name: str, task: str, cpu: float, gpu: float) -> dict[str, Any]:
    """A task as Tune's configuration: its name, its text, its cores and share of a GPU.

    A task is text because Tune replaces objects in a configuration by placeholders.
    """
    return {"name": name, "task": task, "cpu": cpu, "gpu": gpu}


def fit(
    perform: Perform,
    searcher: Any,
    board: OpenBoard,
    stop: StopRequest,
    idle: Callable[[], bool],
    *,
    retries: int,
    say: Callable[[str], object],
    scheduler: Any = None,
    callbacks: Sequence[Any] = (),
    max_concurrent: int | None = None,
    grace_s: float = GRACE_S,
) -> None:
    """Run `perform` on each configuration that `searcher` suggests, until it has no more.

    `searcher` is a Ray Tune Searcher whose suggestions come from `as_config`. A task whose worker
    died starts again up to `retries` times, alone on a machine if memory was short twice; `say`
    prints a line about that. After a stop request the run ends as soon as `idle()`,
    at the latest after `grace_s` seconds. Raises RayLostError if Ray ends meanwhile.
    """
    from ray import tune  # only after `cluster` has set its environment variables

    from fssplat.launching.tune_hooks import AloneAfterOutOfMemory, StopWhenIdle  # imports Ray

    channel = board.channel()

    # A closure, since Ray ends the driver, without a word, if its node dies while the driver owns
    # objects in Ray's store, as `tune.with_parameters` makes them.
    def trainable(config: Mapping[str, Any]) -> dict[str, Any]:
        return perform(config, channel, tune.report)  # the last report

    with temporary_folder("fssplat-tune-") as folder, quiet_ray_logs():
        tuner = tune.Tuner(
            tune.with_resources(trainable, _resources),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=-1,  # until the searcher says FINISHED
                reuse_actors=True,
                max_concurrent_trials=max_concurrent,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder),
                stop=StopWhenIdle(stop, idle, grace_s, board.stop),
                callbacks=[*callbacks, AloneAfterOutOfMemory(say)],
                failure_config=tune.FailureConfig(max_failures=retries),
                verbose=0,
            ),
        )
        _until_ray_ends(tuner.fit, stop)


def _until_ray_ends(run: Callable[[], object], stop: StopRequest) -> None:
    """Call `run` in a thread, so that this one notices a dead Ray, and signals, whatever blocks.

    Raises what `run` raises, and RayLostError if Ray ends meanwhile.
    """
    errors: list[BaseException] = []

    def call() -> None:
        try:
            run()
        except BaseException as error:
            errors.append(error)

    thread, watch = threading.Thread(target=call, daemon=True), RayWatch()
    thread.start()
    try:
        while not (lost := watch.lost()) and thread.is_alive():
            thread.join(TICK_S)
    finally:
        watch.close()
    if lost:
        stop.request(reason=lost)
        thread.join(LEAVE_S)
        raise RayLostError(lost)
    if errors:
        raise errors[0]


def _resources(config: Mapping[str, Any]) -> Any:
    from ray import tune  # as in `fit`

    gpu = {"GPU": config["gpu"]} if config["gpu"] else {}
    return tune.PlacementGroupFactory([{"CPU": config["cpu"], **gpu}])


def _name(trial: Any) -> str:
    return str(trial.config["name"])


@contextlib.contextmanager
def background(run: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `run` in a thread beside the body. Its event is set when the body has ended."""
    over = threading.Event()
    thread = threading.Thread(target=run, args=(over,), daemon=True)
    thread.start()
    join_s = JOIN_S
    try:
        yield
    except RayLostError:
        join_s = LEAVE_S  # it may block in Ray
        raise
    finally:
        over.set()
        thread.join(timeout=join_s)


@contextlib.contextmanager
def quiet_ray_logs() -> Iterator[None]:
    """Silence Ray's log lines, which would break the live display; reasons are in the store."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.data")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)

"""Measure on this machine what an episode of each method costs; `fssplat time` prints it.

The time of an episode does not depend on the values of the weights, so a method is timed with or
without a finished training, and once for all folds and training seeds.
"""

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import quantiles

import torch

from fssplat.common.errors import InputError
from fssplat.common.locks import try_lock
from fssplat.engine.device import (
    device_label,
    hardware_name,
    memory_in_use,
    reserved_device,
    return_memory,
)
from fssplat.engine.job_data import JobData
from fssplat.engine.network import parameter_counts
from fssplat.engine.predicting.model_files import MODEL
from fssplat.engine.predicting.predictor import Predictor
from fssplat.engine.run import prepared_network
from fssplat.engine.scoring.evaluate import inputs_of
from fssplat.engine.scoring.timing import LoadedEpisode, Measured, loaded, measure
from fssplat.engine.settings import RunSettings
from fssplat.experiment.trial import Job, Trial
from fssplat.methods.base import FewShotSegmenter
from fssplat.planning.plan import Plan
from fssplat.report.evidence.timings import timing_key
from fssplat.results import environment
from fssplat.results.claims import host
from fssplat.results.launch_records import launches
from fssplat.results.records import ShotTime, Timing
from fssplat.results.store import Store
from fssplat.worker.process import set_threads

SHOTS = (1, 5)
EPISODES = 20  # that are timed for each number of shots
DISTINCT = 8  # episodes whose images are loaded; they take turns

Say = Callable[[str], None]


@dataclass(frozen=True)
class ToTime:
    """A method with all that its time depends on: one of its trials, and that trial's job."""

    key: str
    trial: Trial
    job: Job


@dataclass(frozen=True)
class Place:
    """Where a time is measured."""

    device: torch.device
    hardware: str


@dataclass(frozen=True)
class Amount:
    """How many episodes are timed, for which numbers of shots."""

    episodes: int = EPISODES
    shots: tuple[int, ...] = SHOTS


def to_time(plan: Plan) -> list[ToTime]:
    """The methods of an experiment, each once, in the order of its grid."""
    found: dict[str, ToTime] = {}
    for job in plan.jobs:
        for trial in job.trials:
            key = timing_key(trial)
            found.setdefault(key, ToTime(key, trial, job))
    return list(found.values())


def time_methods(
    plan: Plan, store: Store, say: Say, again: bool = False, amount: Amount = Amount()
) -> str:
    """Time each method that has no time on this hardware, and write the times into the store.

    `again` also times those that have one. Returns the hardware's name.
    Raises InputError if a launch or another measurement uses this machine.
    """
    resources = plan.experiment.resources
    device = reserved_device(0.0 if resources.gpu == 0 else 1.0)
    threads = max(1, int(resources.cpu))
    place = Place(device, hardware_name(device, threads))
    known = {} if again else store.timings().get(place.hardware, {})
    left = [one for one in to_time(plan) if one.key not in known]
    if not left:
        return place.hardware
    with _alone(store, device), _threads(threads):
        if device.type == "cpu":  # the process loads code with its first episodes: no method's cost
            _timed(left[0], plan, store, place, replace(amount, episodes=1), _ignore)
        for one in left:
            timing = _timed(one, plan, store, place, amount, say)
            if timing is not None:
                store.record_timing(one.key, timing)
    return place.hardware


def _ignore(line: str) -> None:
    """A `Say` for a measurement that is thrown away."""


@contextmanager
def _alone(store: Store, device: torch.device) -> Iterator[None]:
    """Raises InputError if a launch of this store or another measurement runs on this machine."""
    for launch in launches(store):
        if launch.running and launch.host == host():
            raise InputError(
                f"launch {launch.id} runs on this machine, and a measured time would include its "
                "load. Wait for its end, or stop it with `fssplat stop`."
            )
    name = f"fssplat-{os.getuid()}-time-{device_label(device).replace(' ', '-')}.lock"
    held = try_lock(Path(tempfile.gettempdir()) / name)
    if held is None:
        raise InputError(f"another `fssplat time` measures on the {device_label(device)}. Wait.")
    with held:
        yield


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let PyTorch use as many threads as a job of the experiment has."""
    before = torch.get_num_threads()
    set_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _timed(
    one: ToTime,
    plan: Plan,
    store: Store,
    place: Place,
    amount: Amount,
    say: Say,
) -> Timing | None:
    """The timing of a method; None, with a line for a person, if it has no episode at all."""
    device = place.device
    name = f"{one.trial.dataset.name} {one.trial.method.label} {one.trial.backbone.name}"
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    data = JobData.open(one.job, plan.fingerprints)
    drawn = {shot: _episodes(one.trial, data, shot, device, say, name) for shot in amount.shots}
    drawn = {shot: some for shot, some in drawn.items() if some}
    if not drawn:
        return None
    return_memory()
    idle = memory_in_use(device)
    network = _network(one, data, store, device)
    return_memory()
    shots = {}
    for shot, some in drawn.items():
        precision = one.trial.evaluation.precision
        shots[shot] = summary(measure(network, some, amount.episodes, device, idle, precision))
        say(f"{name}: {shot}-shot {shots[shot].median_ms:.1f} ms")
    about = {
        "commit": environment.commit(),
        "torch": version("torch"),
        "host": socket.gethostname(),
        "at": time.time(),
    }
    return Timing(place.hardware, shots, parameter_counts(network), busy, about)


def _episodes(
    trial: Trial, data: JobData, shot: int, device: torch.device, say: Say, name: str
) -> list[LoadedEpisode]:
    """The first episodes of the trial's protocol with that many shots; empty if there is none."""
    seed = trial.protocol.episode_seeds[0]
    rules = trial.protocol.model_copy(update={"episodes": DISTINCT, "episode_seeds": (seed,)})
    changed = trial.model_copy(update={"shot": shot, "protocol": rules})
    try:
        found = data.manifests(changed)[seed]
        reason = found.skipped_reason
    except InputError as error:
        reason = str(error)
    if reason:
        say(f"{name}: no {shot}-shot episode ({reason})")
        return []
    return loaded(inputs_of(changed, data.dataset(changed)), found.episodes, shot, device)


def _network(one: ToTime, data: JobData, store: Store, device: torch.device) -> FewShotSegmenter:
    """The trained network if the store's folder has it, otherwise a new one, ready to predict."""
    folder = store.job_folder(one.job.key)
    if (folder / MODEL).is_file():
        try:
            network = Predictor.load(folder, device).network
        except InputError:  # of another version: its time is not that of the present code
            return _new_network(one.trial, data, store, device)
        network.take_scoring_options(one.trial.method.options)
        return network
    return _new_network(one.trial, data, store, device)


def _new_network(
    trial: Trial, data: JobData, store: Store, device: torch.device
) -> FewShotSegmenter:
    artefacts = store.folder / "artefacts" if store.folder is not None else None
    network = prepared_network(trial, data, RunSettings(device, artefacts=artefacts))
    network.take_scoring_options(trial.method.options)
    network.eval()
    with torch.no_grad():
        network.before_evaluation()
    return network


def summary(measured: Measured) -> ShotTime:
    """Median and quartiles of an episode's time."""
    ms = [1000 * seconds for seconds in measured.seconds]
    lower, median, upper = quantiles(ms, n=4, method="inclusive") if len(ms) > 1 else ms * 3
    return ShotTime(median, lower, upper, len(ms), measured.memory)

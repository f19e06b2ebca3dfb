"""Notes: short records that a running job sends to the terminal, the log and MLflow."""

from collections.abc import Mapping
from dataclasses import dataclass

from fssplat.results.records import State

PHASES = ("training", "scoring")  # of a job
CURVE_POINTS = 200  # losses of a training that are shown; the Parquet file has every step


@dataclass(frozen=True)
class LossAtStep:
    """Losses at one step of a training."""

    step: int
    losses: Mapping[str, float]
    lr: float


@dataclass(frozen=True)
class JobStarted:
    key: str
    trial_ids: tuple[str, ...]
    device: str = ""  # e.g. CPU, GPU 3


@dataclass(frozen=True)
class JobProgress:
    key: str
    phase: str  # one of PHASES, or what the job waits for
    done: float  # share of the phase, 0 to 1
    points: tuple[LossAtStep, ...] = ()  # thinned losses since the last note
    step: int = 0  # of a training; while scoring, the episodes of one trial
    steps: int = 0
    loss: float | None = None  # the latest, as minimised
    episodes_per_s: float = 0.0  # 0: not measured yet


@dataclass(frozen=True)
class JobUsage:
    """Use of CPU, memory and GPU by a job, measured from time to time."""

    key: str
    seconds: int  # since the job started
    values: Mapping[str, float]  # see `resource_meter.Meter`


@dataclass(frozen=True)
class TrialDone:
    key: str
    trial_id: str
    metrics: Mapping[str, float]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrialEnded:
    """A trial that ended without a result, and why."""

    key: str
    trial_id: str
    state: State
    reason: str


@dataclass(frozen=True)
class JobEnded:
    key: str
    state: str  # finished, failed, diverged, skipped, interrupted, busy
    reason: str = ""


Note = JobStarted | JobProgress | JobUsage | TrialDone | TrialEnded | JobEnded


def curve_stride(steps: int) -> int:
    """Distance in steps between the losses that are shown of a training."""
    return max(1, -(-steps // CURVE_POINTS))

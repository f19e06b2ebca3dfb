"""The records of the store: the state of a trial, the result of a trial, the cost of a job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["pending", "running", "finished", "failed", "diverged", "skipped"]
SETTLED: tuple[State, ...] = ("finished", "diverged", "skipped")  # not run again by a relaunch


@dataclass(frozen=True)
class TrialStatus:
    """The state of a trial; `reason` is one line for a person."""

    state: State
    reason: str = ""
    job: str = ""
    launch: str = ""
    rerun: bool = False  # a result is there, is kept, and is to be replaced by a new one


@dataclass(frozen=True)
class Result:
    """A finished trial's metrics, and notes on them such as classes that were left out."""

    metrics: dict[str, float]
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)  # launch, commit, source, host, seconds
    checksums: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of each file


@dataclass(frozen=True)
class JobRecord:
    """The cost of a finished job, from which the cost of others is predicted."""

    method: str
    backbone: str
    dataset: str
    size: int  # training input, pixels
    batch: int
    device: str  # cpu, or the GPU's name
    flops: float  # as the cost model estimated them
    seconds: float
    peak_memory: int  # bytes
    device_memory: int = 0  # bytes of the whole GPU; 0 on CPU
    memory_kind: str = ""  # jobs of the same kind need the same memory


@dataclass(frozen=True)
class TrainingRecord:
    """What happened during a training, beside its losses."""

    resumed: tuple[int, ...] = ()  # steps from which another attempt went on
    scores: Mapping[int, float] = field(default_factory=dict)  # step -> mIoU, 0 to 1, by which the
    # weights are selected; empty if the protocol takes the last weights


@dataclass(frozen=True)
class ShotTime:
    """The time and memory of one episode with a number of shots, over several episodes."""

    median_ms: float
    lower_ms: float  # a quarter of the episodes took less
    upper_ms: float  # a quarter took more
    episodes: int
    memory: int  # most bytes above the idle process; 0 if the system does not report it


@dataclass(frozen=True)
class Timing:
    """What an episode of a method costs on one kind of hardware."""

    hardware: str  # the GPU's model, or the CPU's and the number of threads
    shots: Mapping[int, ShotTime]
    parameters: Mapping[str, float]  # by the name of the metric
    busy: float = 0.0  # processes per core that ran before the measurement
    about: Mapping[str, Any] = field(default_factory=dict)  # commit, packages, time

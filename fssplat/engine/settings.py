"""How a job runs on this machine, and the two ways a training can end early."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fssplat.engine.device import best_device, reserved_device
from fssplat.experiment.trial import Job

Stop = Callable[[], bool]  # called between steps; True: save a checkpoint and raise Interrupted


def never() -> bool:
    """A `Stop` for callers that always wait until the end."""
    return False


@dataclass(frozen=True)
class RunSettings:
    """Device, processes, intervals and folders of a job; none of them changes a result."""

    device: torch.device = field(default_factory=best_device)
    workers: int = 0  # processes that load training episodes
    checkpoint_steps: int = 1000  # at least this often,
    checkpoint_seconds: float = 300.0  # and this often
    fetch_steps: int = 50  # steps whose losses stay on the device before they are read
    deterministic: bool = True  # off: faster CUDA kernels whose results vary by rounding
    artefacts: Path | None = None  # folder of an ArtefactCache; None: the user's cache folder

    @classmethod
    def of_job(cls, job: Job, gpu: float, artefacts: Path | None) -> "RunSettings":
        """Settings of a job that reserved `gpu` GPUs, or a share of one."""
        return cls(reserved_device(gpu), job.first.evaluation.workers, artefacts=artefacts)


class Interrupted(Exception):  # noqa: N818 - an end, not an error
    """The job stopped on request; every finished step and every scored trial is kept."""

    def __init__(self, step: int, unit: str = "step") -> None:
        super().__init__(f"stopped after {unit} {step}; run again to resume there")
        self.step = step


class Diverged(Exception):  # noqa: N818 - an end, not an error
    """A loss is no longer a finite number; going on would waste the machine."""

    def __init__(self, step: int, losses: Mapping[str, float]) -> None:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
        super().__init__(f"diverged at step {step}: {shown}")
        self.step = step
        self.losses = dict(losses)

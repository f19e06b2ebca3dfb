"""The display shows the progress of a launch."""

import re
from io import StringIO

import pytest
from rich.console import Console

from fssplat.experiment.trial import Job
from fssplat.launching.display.progress import Progress
from fssplat.results.notes import (
    JobEnded,
    JobProgress,
    JobStarted,
    JobUsage,
    LossAtStep,
    TrialDone,
    TrialEnded,
)
from tests.fakes.trials import job, planned_job, trial


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(
    jobs: list[Job], clock: Clock, devices: int = 1, width: int = 200, terminal: bool = False
) -> tuple[Progress, StringIO]:
    out = StringIO()
    console = Console(file=out, width=width, height=40, force_terminal=terminal)
    trials = {one.trial_ids[0]: one.first for one in jobs}
    planned = tuple(planned_job(one, 10) for one in jobs)
    return Progress(planned, trials, devices, console, clock, "fssplat logs x.yaml"), out


def test_the_line_has_the_counts_the_times_and_the_best_trial() -> None:
    clock = Clock()
    jobs = [job(trial(seed)) for seed in range(4)]
    progress, _ = shown(jobs, clock, devices=2)
    assert progress.eta_s() is None
    for one in jobs[:2]:
        progress.on_note(JobStarted(one.key, one.trial_ids))
        progress.on_note(JobProgress(one.key, "scoring", 0.0))
    clock.now = 8.0
    progress.on_note(TrialDone(jobs[0].key, jobs[0].trial_ids[0], {"miou": 0.614}))
    progress.on_note(JobEnded(jobs[0].key, "finished"))
    # A job takes 8 s: the other one is about to end, and two are left for two devices.
    assert progress.eta_s() == pytest.approx(8.0)
    assert progress.line() == (
        "1 of 4 jobs done, 1 running, 2 waiting, 0 failed, 8 s elapsed, 8 s left, "
        "best mIoU 61.4 (synthetic fold 0 1-shot panet resnet50)"
    )


def test_without_a_terminal_each_trial_prints_one_line_and_a_failure_names_its_log() -> None:
    one = job(trial())
    progress, out = shown([one], Clock())
    with progress:
        progress.on_note(TrialDone(one.key, one.trial_ids[0], {"miou": 0.5}, ("left out: cat",)))
        progress.on_note(TrialEnded(one.key, one.trial_ids[0], "diverged", "at step 3"))
        progress.on_note(JobEnded(one.key, "diverged"))
    assert out.getvalue().splitlines() == [
        "synthetic fold 0 1-shot panet resnet50: mIoU 50.0; left out: cat",
        "synthetic fold 0 1-shot panet resnet50: diverged, at step 3",
        f"    What it printed: fssplat logs x.yaml {one.trial_ids[0]}",
    ]
    assert "0 of 1 job done" in progress.line()
    assert "1 failed" in progress.line()


def train(progress: Progress, one: Job, step: int, steps: int = 400) -> None:
    progress.on_note(JobProgress(one.key, "training", step / steps, (), step, steps, 0.3125, 12.34))


def test_a_running_job_shows_step_loss_speed_time_device_and_memory() -> None:
    clock, one = Clock(), job(trial())
    progress, out = shown([one], clock, terminal=True)
    progress.on_note(JobStarted(one.key, one.trial_ids, "GPU 3"))
    train(progress, one, 0)
    clock.now = 65.0
    train(progress, one, 120)
    progress.on_note(JobUsage(one.key, 60, {"process_memory_megabytes": 1234.0}))
    facts = "step 120 of 400, loss 0.312, 12 episodes/s, 1 min 5 s, GPU 3, 1.2 GB"
    assert facts in progress.report()
    with progress:
        progress._console.print(progress.screen())
    assert facts in out.getvalue()
    assert one.title in out.getvalue()
    progress.on_note(JobProgress(one.key, "scoring", 0.25, (), 50, 200, None, 3.21))
    assert "scoring episode 50 of 200, 3.2 episodes/s, 1 min 5 s, GPU 3" in progress.report()


def test_a_starting_line_says_what_it_waits_for() -> None:
    clock, one = Clock(), job(trial())
    progress, _ = shown([one], clock)
    clock.now = 7.0
    assert "starting: Ray starts workers, which load PyTorch (7 s)" in progress.report()
    for phase in ("starting a worker", "waiting for its claim"):
        progress.on_note(JobProgress(one.key, phase, 0.0))
        assert f"{one.title}: {phase}, 0 s" in progress.report()
    progress.on_note(JobStarted(one.key, one.trial_ids, "CPU"))
    assert "loading data and weights, 0 s, CPU" in progress.report()
    progress.on_note(JobEnded(one.key, "busy", "another launch runs it"))
    assert "waiting for 1 job of another launch" in progress.report()
    assert "0 of 1 job done" in progress.line()


def test_without_a_terminal_a_report_is_printed_every_minute_in_plain_lines() -> None:
    clock, one = Clock(), job(trial())
    progress, out = shown([one], clock, width=40)
    progress.on_note(JobStarted(one.key, one.trial_ids, "CPU"))
    for _ in range(6 * 60):
        clock.now += 0.5
        train(progress, one, int(clock.now))
        progress.report_if_due()
    lines = out.getvalue().splitlines()
    assert len(lines) == 6
    assert "\r" not in out.getvalue()
    assert "\x1b" not in out.getvalue()
    assert lines[4].startswith("0 of 1 job done, 1 running, 0 waiting, 0 failed, 3 min elapsed")
    assert f"{one.title}: step 180 of 400, loss 0.312" in lines[5]


def test_a_wide_or_a_low_terminal_is_never_overfull() -> None:
    clock = Clock()
    jobs = [job(trial(seed)) for seed in range(30)]
    progress, out = shown(jobs, clock, width=80, terminal=True)
    for one in jobs:
        progress.on_note(JobStarted(one.key, one.trial_ids, "GPU 3"))
        train(progress, one, 390_000, 400_000)
    progress._console.print(progress.screen())
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in out.getvalue().splitlines()]
    assert len(lines) == 2 * 12 + 2
    assert max(map(len, lines)) <= 80
    assert "... and 18 more jobs that run" in lines
    assert sum("step 390000 of 400000, loss 0.312" in line for line in lines) == 12


def test_points_of_the_curve_are_not_needed_for_the_loss() -> None:
    one = job(trial())
    progress, _ = shown([one], Clock())
    point = (LossAtStep(1, {"total": 9.0}, 0.1),)
    progress.on_note(JobProgress(one.key, "training", 0.5, point, 2, 4, 0.25))
    assert "loss 0.25" in progress.report()

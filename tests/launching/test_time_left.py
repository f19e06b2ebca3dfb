"""The time that is left never rises without a reason."""

from dataclasses import replace

import pytest

from fssplat.launching.display.time_left import TimeLeft
from fssplat.planning.packing import PlannedJob
from tests.fakes.trials import job, planned_job, trial


class Launch:
    """Jobs that run one after the other, and the time left that is shown at every half second."""

    def __init__(self, jobs: list[PlannedJob], devices: int = 1) -> None:
        self.now = 0.0
        self.jobs, self.left = jobs, TimeLeft(jobs, devices, lambda: self.now)
        self.shown: list[float] = []
        self.reasons: list[str] = []

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * 2)):
            self.now += 0.5
            value, reason = self.left.shown()
            if value is not None:
                self.shown.append(value)
                self.reasons.append(reason)

    def run(self, key: str, training_s: float, scoring_s: float, loading_s: float = 3.0) -> None:
        self.left.start(key)
        self.wait(loading_s)
        for phase, seconds in (("training", training_s), ("scoring", scoring_s)):
            for part in range(11 if seconds else 0):
                take = self.left.report if part else self.left.begin
                take(key, phase, part / 10)
                self.wait(seconds / 10 if part < 10 else 0)
        self.left.end(key, finished=True)

    @property
    def rises(self) -> list[float]:
        pairs = zip(self.shown, self.shown[1:], self.reasons[1:], strict=False)
        return [now - before for before, now, reason in pairs if now > before and not reason]


def planned(
    count: int, seconds: float = 100, share: float = 0.5, **more: object
) -> list[PlannedJob]:
    jobs = [planned_job(job(trial(seed)), seconds) for seed in range(count)]
    return [replace(one, training_share=share, **more) for one in jobs]  # type: ignore[arg-type]


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize(
    ("training_s", "scoring_s"), [(50, 50), (5, 5), (500, 500), (20, 60), (60, 5), (400, 100)]
)
def test_it_never_rises_without_reason(training_s: float, scoring_s: float, measured: bool) -> None:
    jobs = planned(4, measured=measured)
    launch = Launch(jobs)
    launch.wait(10)
    for one in jobs:
        launch.run(one.job.key, training_s, scoring_s)
    assert launch.rises == []
    assert launch.shown[-1] == pytest.approx(0.0, abs=2.0)


def test_it_is_right_once_the_speed_is_measured() -> None:
    jobs = planned(5)
    launch = Launch(jobs)
    total = 5 * (3 + 30 + 60)
    for number, one in enumerate(jobs, 1):
        launch.run(one.job.key, 30, 60)
        left = total * (1 - number / 5)
        assert launch.shown[-1] == pytest.approx(left, rel=0.1, abs=3)


def test_a_silent_job_does_not_make_it_rise() -> None:
    jobs = planned(2)
    launch = Launch(jobs)
    launch.left.start(jobs[0].job.key)
    launch.left.begin(jobs[0].job.key, "training", 0.0)
    launch.wait(10)
    launch.left.report(jobs[0].job.key, "training", 0.2)
    launch.wait(600)
    assert launch.rises == []
    assert not any(launch.reasons)


def test_a_job_that_starts_again_is_a_reason() -> None:
    jobs = planned(1)
    launch, key = Launch(jobs), jobs[0].job.key
    launch.left.start(key)
    launch.left.begin(key, "training", 0.0)
    launch.wait(40)
    launch.left.report(key, "training", 0.8)
    launch.wait(1)
    launch.left.start(key)
    launch.left.begin(key, "training", 0.1)
    launch.wait(1)
    assert "a job started again" in launch.reasons
    assert launch.shown[-1] > launch.shown[-3]


def test_jobs_that_take_much_longer_are_a_reason() -> None:
    jobs = planned(3)
    launch = Launch(jobs)
    launch.run(jobs[0].job.key, 10, 10)
    launch.run(jobs[1].job.key, 500, 500)
    assert "jobs take longer than before" in launch.reasons
    assert launch.rises == []


def test_a_resumed_job_counts_only_what_is_left() -> None:
    jobs = planned(1, seconds=20, share=0.8, done=0.75, step=300, measured=True)
    launch = Launch(jobs)
    launch.wait(1)
    assert launch.shown == [20.0, 20.0]  # as predicted for the rest
    key = jobs[0].job.key
    launch.left.start(key)
    launch.left.begin(key, "training", 0.0)
    launch.wait(10)
    launch.left.report(key, "training", 1.0)  # half of the work that is left
    launch.wait(1)
    assert launch.shown[-1] == pytest.approx(9, abs=1.5)


def test_devices_work_side_by_side() -> None:
    jobs = planned(4, measured=True)
    assert TimeLeft(jobs, 2, lambda: 0.0).estimate() == 200
    assert TimeLeft(jobs, 4, lambda: 0.0).estimate() == 100

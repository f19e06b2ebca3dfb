"""The display shows the progress of a launch."""

from io import StringIO

from rich.console import Console

from fssplat.launching.progress import Progress
from fssplat.results.notes import JobEnded, JobProgress, JobStarted, TrialDone, TrialEnded
from tests.fakes.trials import job, planned_job, trial


def test_the_time_left_follows_the_work_done() -> None:
    now = [0.0]
    jobs = [job(trial(seed)) for seed in range(4)]
    trials = {one.trial_ids[0]: one.first for one in jobs}
    progress = Progress(
        tuple(planned_job(one, 10) for one in jobs),
        trials,
        2,
        Console(file=StringIO()),
        lambda: now[0],
    )
    assert progress.eta_s() is None
    for one in jobs[:2]:
        progress.on_note(JobStarted(one.key, one.trial_ids))
    now[0] = 8.0
    progress.on_note(TrialDone(jobs[0].key, jobs[0].trial_ids[0], {"miou": 0.614}))
    progress.on_note(JobEnded(jobs[0].key, "finished"))
    assert progress.eta_s() == 24.0  # 10 of 40 planned seconds took 8
    progress.on_note(JobProgress(jobs[1].key, "scoring", 1.0))
    assert progress.eta_s() == 8.0
    assert progress.line() == (
        "1 of 4 jobs done, 1 running, 2 waiting, 0 failed, 8 s left, "
        "best mIoU 61.4 (synthetic fold 0 1-shot panet resnet50)"
    )


def test_without_a_terminal_each_trial_prints_one_line() -> None:
    one, out = job(trial()), StringIO()
    trials = {one.trial_ids[0]: one.first}
    with Progress((planned_job(one),), trials, 1, Console(file=out, width=200)) as progress:
        progress.on_note(TrialDone(one.key, one.trial_ids[0], {"miou": 0.5}, ("left out: cat",)))
        progress.on_note(TrialEnded(one.key, one.trial_ids[0], "diverged", "at step 3"))
        progress.on_note(JobEnded(one.key, "diverged"))
    assert out.getvalue().splitlines() == [
        "synthetic fold 0 1-shot panet resnet50: mIoU 50.0; left out: cat",
        "synthetic fold 0 1-shot panet resnet50: diverged, at step 3",
    ]
    assert "0 of 1 jobs done" in progress.line()
    assert "1 failed" in progress.line()


def test_the_screen_lists_running_jobs() -> None:
    one, out = job(trial()), StringIO()
    console = Console(file=out, width=100, force_terminal=True)
    with Progress((planned_job(one),), {one.trial_ids[0]: one.first}, 1, console) as progress:
        progress.on_note(JobStarted(one.key, one.trial_ids))
        progress.on_note(JobProgress(one.key, "training", 0.5))
        console.print(progress.screen())
    assert "training" in out.getvalue()
    assert "1 running" in out.getvalue()

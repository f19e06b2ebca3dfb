"""Charts of jobs over time."""

from pathlib import Path

import pytest

from fssplat.launching.launch import Request, plan_from
from fssplat.planning import gantt
from fssplat.planning.gantt import Bar, draw_results, in_lanes, time_unit, without_pauses
from fssplat.results.store import Store
from fssplat.worker.claimed_job import perform
from fssplat.worker.job_task import JobTask
from tests.fakes.engines import RecordedNotes, train_and_score
from tests.fakes.experiment_files import experiment_without_images


def bar(start_s: float, seconds: float, device: str = "GPU 0") -> Bar:
    return Bar("panet", ("panet fold 0", "0"), device, start_s, seconds)


def test_jobs_that_run_side_by_side_on_a_device_get_lines_of_their_own() -> None:
    bars = [bar(0, 5), bar(1, 2), bar(3, 1), bar(0, 1, "GPU 1")]
    lanes = in_lanes(bars)
    assert [(name, [one.start_s for one in lane]) for name, lane in lanes] == [
        ("GPU 0", [0]), ("GPU 0", [1, 3]), ("GPU 1", [0]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "unit"), [(60, "seconds"), (1200, "minutes"), (3600, "minutes"), (90_000, "hours")]
)
def test_the_unit_suits_the_length(seconds: float, unit: str) -> None:
    assert time_unit(seconds)[0] == unit


def test_a_long_time_without_jobs_is_cut_out() -> None:
    moved, pauses = without_pauses([bar(0, 50), bar(50_050, 50)])
    assert [one.start_s for one in moved] == [0, 55]
    assert [length for _, length in pauses] == [50_000]
    assert 50 < pauses[0][0] < 55
    assert without_pauses([bar(0, 50), bar(52, 50)]) == ([bar(0, 50), bar(52, 50)], [])


def test_a_label_is_on_its_bar_or_in_the_free_room_beside_it() -> None:
    labels = ("panet resnet50 fold 0", "fold 0", "0")
    assert gantt._fitting(labels, 2.0) == "panet resnet50 fold 0"
    assert gantt._fitting(labels, 0.6) == "fold 0"
    assert gantt._fitting(labels, 0.05) == ""


def test_the_real_run_is_drawn_from_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Bar] = []
    whole = gantt._draw
    monkeypatch.setattr(
        gantt, "_draw", lambda bars, *rest: (drawn.extend(bars), whole(bars, *rest))
    )
    plan, _ = plan_from(Request(experiment_without_images(tmp_path)))
    store = Store.open(str(tmp_path / "store"))
    for job in plan.jobs:
        perform(JobTask(job, store.address, "l1"), RecordedNotes(), train_and_score)
    results = store.results(plan.trials)
    assert draw_results(plan, results, tmp_path / "run.png") == ""
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    assert len(drawn) == len(plan.jobs) == 2
    about = [result.about for result in results.values()]
    span = max(a["finished_at"] for a in about) - min(a["started_at"] for a in about)
    assert min(one.start_s for one in drawn) == 0
    assert max(one.end_s for one in drawn) == pytest.approx(span, abs=span / 5)
    assert all(one.device.endswith("CPU") for one in drawn)
    for result in results.values():
        del result.about["started_at"]
    text = draw_results(plan, results, tmp_path / "run.png")
    assert text == "Not drawn: 2 jobs without a recorded start."

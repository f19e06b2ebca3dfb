"""A plan: the unfinished jobs, their cost, their order and their time."""

import json
import random
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from fssplat.common.errors import InputError
from fssplat.launching.launch import Request, plan_from
from fssplat.planning import gantt, plan_table
from fssplat.planning.cost import CostModel, operations, record_of
from fssplat.planning.packing import Machine, in_start_order, machine_with_gpus, place_jobs
from fssplat.planning.plan import Plan
from fssplat.planning.plan_table import duration, summary
from fssplat.results.records import JobRecord
from fssplat.results.store import Store
from tests.fakes.experiment_files import experiment_without_images
from tests.fakes.trials import job, planned_job, trial


def test_shots_that_share_a_training_are_one_job(tmp_path: Path) -> None:
    plan, _ = plan_from(Request(experiment_without_images(tmp_path)))
    facts = summary(plan)
    assert facts["trials"] == 4  # 2 shots x 2 seeds
    assert facts["jobs"] == 2
    assert facts["trainings_saved_by_sharing"] == 2
    assert facts["sharing_methods"] == ["panet"]


def test_sharing_saves_a_third_of_the_trainings_of_the_whole_grid() -> None:
    from fssplat.experiment.expand import expand, jobs
    from fssplat.experiment.reading import load_experiment
    from fssplat.methods import METHODS

    path = Path(__file__).parents[2] / "experiments" / "full_grid.yaml"
    grid = jobs(expand(load_experiment(path), METHODS), {})
    plan = Plan(load_experiment(path), tuple(grid), (), {}, {}, {}, Machine(1, 1), 1)
    saved = plan.saved_trainings / (plan.saved_trainings + len(plan.trained))
    assert saved >= 0.3
    assert plan.sharing == ["panet", "pfenet", "hsnet", "hmfs", "jc2a"]


def test_an_unknown_backbone_is_refused_by_the_plan(tmp_path: Path) -> None:
    path = experiment_without_images(tmp_path, grid="{method: [panet], backbone: [resnet5O]}")
    with pytest.raises(InputError, match=r"'resnet5O' is unknown. Did you mean resnet50\?"):
        plan_from(Request(path))
    change = "backbones.efficientnet-lite0={name: efficientnet-lite0, weights: random}"
    with pytest.raises(InputError, match=r"backbones: .* Did you mean efficientnet_lite0\?"):
        plan_from(Request(experiment_without_images(tmp_path), (change,)))


def test_a_plan_leaves_out_settled_trials_and_keeps_the_others_of_the_job(tmp_path: Path) -> None:
    plan, store = plan_from(Request(experiment_without_images(tmp_path)))
    one, *others = plan.trials
    (tmp_path / "work").mkdir()
    store.finish(plan.trials[one], one, tmp_path / "work", {"miou": 0.5})
    store.mark([others[-1]], "failed", "why")
    again, _ = plan_from(Request(experiment_without_images(tmp_path)))
    left = [trial_id for item in again.pending for trial_id in item.job.trial_ids]
    assert sorted(left) == sorted(others)
    assert {item.job.key for item in again.pending} == {job.key for job in plan.jobs}


def test_the_longest_job_starts_first_and_jobs_are_grouped_by_resources() -> None:
    jobs = [job(trial(seed)) for seed in range(5)]
    half = [planned_job(one, seconds, 0.5) for one, seconds in zip(jobs, (1, 9, 2), strict=False)]
    whole = [planned_job(one, seconds, 1.0) for one, seconds in zip(jobs[3:], (3, 10), strict=True)]
    order = in_start_order([*half, *whole])
    assert [item.seconds for item in order] == [10, 3, 9, 2, 1]


def test_longest_first_ends_close_to_the_lower_bound_unlike_the_order_of_the_grid() -> None:
    draw = random.Random(0)
    seconds = [60 * draw.paretovariate(1.2) for _ in range(2000)]
    seconds = [min(value, 40_000.0) for value in seconds]
    one = job()
    jobs = [planned_job(one, value, 1.0) for value in seconds]
    bound = max(sum(seconds) / 64, max(seconds))
    longest_first = max(p.start_s + p.planned.seconds for p in place_jobs(in_start_order(jobs), 64))
    arrival = max(p.start_s + p.planned.seconds for p in place_jobs(jobs, 64))
    assert longest_first <= 1.05 * bound
    assert arrival > longest_first


def test_jobs_that_take_a_share_run_side_by_side_on_one_gpu() -> None:
    jobs = [planned_job(job(trial(seed)), 10, 0.5) for seed in range(3)]
    starts = sorted(item.start_s for item in place_jobs(jobs, 1))
    assert starts == [0, 0, 10]
    with pytest.raises(InputError, match="needs 2 GPUs at once"):
        place_jobs([planned_job(job(), 1, 2.0)], 1)


@pytest.mark.parametrize(
    ("resources", "machine", "devices"),
    [
        ("{}", Machine(16, 8), 8),
        ("{cpu: 4}", Machine(16, 8), 4),  # the cores of four jobs
        ("{max_concurrent: 3}", Machine(16, 8), 3),
        ("{cpu: 4, max_concurrent: 8}", Machine(16, 8), 4),
        ("{gpu: 2, max_concurrent: 3}", Machine(16, 8), 6),  # two GPUs each
        ("{gpu: 2, cpu: 6}", Machine(16, 8), 4),
        ("{gpu: 0, cpu: 0.1}", Machine(1, 8), 10),
        ("{gpu: 0, max_concurrent: 2}", Machine(16, 8), 2),
        ("{cpu: 99}", Machine(16, 0), 1),
        ("{cpu: 99}", machine_with_gpus(8), 8),
        ("{max_concurrent: 2}", machine_with_gpus(8), 2),
    ],
)
def test_cores_and_max_concurrent_limit_the_devices_of_a_plan(
    tmp_path: Path, resources: str, machine: Machine, devices: int
) -> None:
    grid = "{method: [panet], seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}"
    path = experiment_without_images(tmp_path, grid=grid, resources=resources)
    plan, _ = plan_from(Request(path), machine)
    assert summary(plan)["devices"] == devices
    together = devices // 2 if plan.pending[0].gpu == 2 else devices
    assert sum(item.start_s == 0 for item in plan.placements) == together


def test_measured_times_replace_the_guess() -> None:
    one = job(trial(steps=1000))
    flops = operations(one, {})
    record = JobRecord("panet", "resnet50", "synthetic", 473, 4, "cpu", flops, 123.0, 0)
    assert CostModel([record]).seconds(one, flops) == pytest.approx(123.0)
    assert not CostModel([]).measured(one)
    assert CostModel([record]).measured(one)


def test_measured_memory_decides_how_many_jobs_share_a_gpu() -> None:
    one = job()

    def share(peak: int) -> float:
        record = record_of(one, 1.0, peak, "H200", 100, {})
        return CostModel([record], gpu=True).gpu_share(one)

    assert share(19) == 1 / 4  # 4 x 19 x 1.25 = 95 of 100
    assert share(21) == 1 / 3
    assert share(39) == 1 / 2
    assert share(60) == 1
    assert CostModel([], gpu=True).gpu_share(one) == 1


def test_measured_memory_is_used_for_similar_jobs_and_the_smallest_gpu() -> None:
    one = job()
    measured = [record_of(one, 1.0, 14, "H100", 80, {})]
    assert CostModel(measured, gpu=True).gpu_share(one) == 1 / 4
    training = one.first.training.model_copy(update={"precision": "bf16", "shot": 5})
    others = [job(trial(), trial(shot=5)), job(one.first.model_copy(update={"training": training}))]
    assert [CostModel(measured, gpu=True).gpu_share(other) for other in others] == [1, 1]
    same = job(trial(seed=3, fold=2))
    assert CostModel(measured, gpu=True).gpu_share(same) == 1 / 4
    measured.append(record_of(same, 1.0, 14, "RTX", 24, {}))
    assert CostModel(measured, gpu=True).gpu_share(one) == 1


def test_a_trained_job_is_planned_without_its_training(tmp_path: Path) -> None:
    plan, store = plan_from(
        Request(experiment_without_images(tmp_path, grid="{method: [panet], shot: [1]}"))
    )
    (item,) = plan.pending
    store.record_job(item.job.key, record_of(item.job, 100.0, 0, "cpu", 0, {}))
    more = experiment_without_images(tmp_path, grid="{method: [panet], shot: [5]}")
    (left,) = plan_from(Request(more))[0].pending
    assert left.job.key == item.job.key
    assert left.flops == operations(left.job, {}, trained=True) < operations(left.job, {})


def test_more_steps_and_larger_images_cost_more() -> None:
    assert operations(job(trial(steps=20)), {}) > operations(job(trial(steps=10)), {})


def test_a_share_that_ray_cannot_give_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"resources\.gpu is 1\.5"):
        plan_from(Request(experiment_without_images(tmp_path), ("resources.gpu=1.5",)))


def test_a_missing_data_set_is_one_line_that_says_how_to_build_it(tmp_path: Path) -> None:
    path = experiment_without_images(tmp_path)
    (tmp_path / "data" / "dataset.json").unlink()
    with pytest.raises(InputError, match="fssplat data build"):
        plan_from(Request(path))


def test_the_plan_is_the_same_in_json_and_on_the_screen(tmp_path: Path) -> None:
    plan, _ = plan_from(Request(experiment_without_images(tmp_path)), Machine(4, 2))
    facts = json.loads(json.dumps(plan_table.as_json(plan)))
    assert facts["devices"] == 2
    assert len(facts["order"]) == 2
    assert facts["makespan_hours"] >= facts["lower_bound_hours"] > 0
    from rich.console import Console

    console = Console(width=200, record=True, file=StringIO())
    console.print(plan_table.plan_table(plan))
    text = console.export_text()
    assert "4 trials in 2 jobs (2 trainings saved by sharing)" in text
    assert "2 trainings for 4 trials, 50% fewer; shared by the trials of panet." in text
    assert "1-shot, 5-shot" in text


def test_the_chart_is_written(tmp_path: Path) -> None:
    plan, _ = plan_from(Request(experiment_without_images(tmp_path)))
    gantt.draw_plan(plan, tmp_path / "plan.png")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(42, "42 s"), (200, "3 min 20 s"), (18_720, "5 h 12 min"), (273_600, "3 d 4 h")],
)
def test_durations_are_written_with_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_store_of_a_plan_is_not_made(tmp_path: Path) -> None:
    _, store = plan_from(Request(experiment_without_images(tmp_path)))
    assert isinstance(store, Store)
    assert not (tmp_path / "store").exists()


def test_a_resumed_job_is_planned_from_its_checkpoint(tmp_path: Path) -> None:
    path = experiment_without_images(tmp_path, training="{steps: 400}")
    plan, store = plan_from(Request(path))
    one = plan.pending[0]
    assert (one.step, one.done) == (0, 0.0)
    assert 0 < one.training_share < 1
    for step in (100, 300):
        name = f"jobs/{one.job.key}/checkpoints/step-{step:09d}.safetensors"
        store.files.write(name, b"")
    store.mark(one.job.trial_ids, "pending", "stopped at step 300", one.job.key)
    again, _ = plan_from(Request(path))
    (resumed,) = (item for item in again.pending if item.job.key == one.job.key)
    assert (resumed.step, resumed.done) == (300, 0.75)
    saved = 0.75 * one.training_share * one.flops
    assert resumed.flops == pytest.approx(one.flops - saved)
    assert resumed.training_share == one.training_share
    console = Console(file=StringIO(), width=200)
    console.print(plan_table.plan_table(again))
    assert "panet resnet50 from step 300" in console.file.getvalue()  # type: ignore[attr-defined]

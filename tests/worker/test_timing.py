"""Which methods are timed, when they are timed anew, and what the store keeps."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fssplat.common.errors import InputError
from fssplat.common.locks import try_lock
from fssplat.engine.device import best_device, device_label
from fssplat.engine.job_data import JobData
from fssplat.engine.run import run_job
from fssplat.engine.scoring.timing import WARM_UP, LoadedEpisode, Measured, measure
from fssplat.experiment.reading import made_experiment
from fssplat.methods.base import FewShotSegmenter
from fssplat.planning.plan import Plan, make_plan
from fssplat.report.evidence.timings import times_of, timing_key
from fssplat.results.claims import claim
from fssplat.results.records import ShotTime, Timing
from fssplat.results.store import Store
from fssplat.worker import timing
from fssplat.worker.timing import (
    Amount,
    Place,
    Say,
    ToTime,
    summary,
    time_methods,
    to_time,
)

pytestmark = pytest.mark.usefixtures("timing_lock")
# of a measurement: shapes that pass the backbone, sums of queries, switches, number of times
Work = tuple[tuple[tuple[int, ...], ...], tuple[float, ...], tuple[bool, int], int]
RULES = {
    "name": "fssplat", "episodes": 4, "size": 65, "min_area": 100, "short_classes": "drop",
}  # fmt: skip


def plan_of(synthetic: Path, folder: Path, **changes: object) -> Plan:
    values = {
        "name": "small",
        "dataset": "synthetic",
        "datasets": {"synthetic": {"name": "synthetic", "root": str(synthetic)}},
        "backbones": {"efficientnet_lite0": {"name": "efficientnet_lite0", "weights": "random"}},
        "grid": {
            "fold": [0, 1],
            "shot": [1],
            "method": ["prior"],
            "backbone": ["efficientnet_lite0"],
        },
        "protocol": RULES,
        "store": str(folder / "store"),
        **changes,
    }
    return make_plan(made_experiment(values, None))


@pytest.fixture
def lines() -> list[str]:
    return []


def test_a_method_is_timed_with_one_shot_and_with_five(
    synthetic: Path, tmp_path: Path, lines: list[str]
) -> None:
    plan = plan_of(synthetic, tmp_path)
    store = Store.open(plan.experiment.store)
    hardware = time_methods(plan, store, lines.append, amount=Amount(2))
    assert hardware.startswith("CPU ")
    assert hardware.endswith(", 1 thread")
    assert len(lines) == 2  # one method on two folds, with one shot and with five
    found = times_of(plan.trials, store.timings())
    assert list(found) == [hardware]
    assert set(found[hardware]) == set(plan.trials)
    one = next(iter(found[hardware].values()))
    assert one.parameters["learnable_parameters"] == 0
    assert {shot: time.episodes for shot, time in one.shots.items()} == {1: 2, 5: 2}


def test_a_time_is_measured_anew_on_other_hardware_on_request_and_if_it_is_damaged(
    synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(synthetic, tmp_path)
    store = Store.open(plan.experiment.store)
    measured: list[str] = []
    here = ["machine 1"]

    def fake(one: ToTime, plan: Plan, store: Store, at: Place, amount: Amount, say: Say) -> Timing:
        measured.append(f"{at.hardware}: {amount.episodes}")
        shots = {1: ShotTime(float(len(measured)), 1.0, 2.0, amount.episodes, 0)}
        return Timing(at.hardware, shots, {})

    monkeypatch.setattr(timing, "_timed", fake)
    monkeypatch.setattr(timing, "hardware_name", lambda device, threads: here[0])

    def run(again: bool = False) -> list[str]:
        measured.clear()
        time_methods(plan, store, measured.append, again, amount=Amount(7))
        return [line for line in measured if line.endswith(": 7")]

    assert run() == ["machine 1: 7"]
    assert run() == []
    assert run(again=True) == ["machine 1: 7"]
    here[0] = "machine 2"
    assert run() == ["machine 2: 7"]
    assert set(store.timings()) == {"machine 1", "machine 2"}
    (path,) = (tmp_path / "store" / "timings" / "machine-2").glob("*.json")
    path.write_text(path.read_text().replace('"median_ms"', '"median"'))
    assert set(store.timings()) == {"machine 1"}
    assert run() == ["machine 2: 7"]


def test_a_time_does_not_depend_on_fold_seed_and_how_an_evaluation_is_packed(
    synthetic: Path, tmp_path: Path
) -> None:
    packed = {"cache_gb": 8, "batch": 64, "workers": 3, "panels": 0}
    plans = [plan_of(synthetic, tmp_path), plan_of(synthetic, tmp_path, evaluation=packed)]
    keys = {one.key for plan in plans for one in to_time(plan)}
    assert len(keys) == 1
    other = plan_of(synthetic, tmp_path, evaluation={"precision": "bf16"})
    assert {timing_key(trial) for trial in other.trials.values()} != keys
    larger = plan_of(synthetic, tmp_path, protocol={**RULES, "size": 97})
    assert {timing_key(trial) for trial in larger.trials.values()} != keys


@pytest.mark.slow
def test_what_is_timed_is_the_same_however_an_evaluation_is_packed_and_after_one(
    synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same images, all through the backbone, with the same switches of PyTorch."""
    packed = plan_of(synthetic, tmp_path, evaluation={"cache_gb": 8, "batch": 64, "panels": 0})
    alone = plan_of(synthetic, tmp_path, evaluation={"cache_gb": 0, "batch": 1, "panels": 0})
    found: list[Work] = []

    def recorded(network: FewShotSegmenter, episodes: list[LoadedEpisode], *rest: Any) -> Measured:
        passes: list[tuple[int, ...]] = []
        hook = network.backbone.register_forward_hook(
            lambda module, images, features: passes.append(tuple(images[0].shape))
        )
        measured = measure(network, episodes, *rest)
        hook.remove()
        images = [one.query.sum().item() for one in episodes]
        switches = (torch.are_deterministic_algorithms_enabled(), torch.get_num_threads())
        found.append((tuple(passes), tuple(images), switches, len(measured.seconds)))
        return measured

    monkeypatch.setattr(timing, "measure", recorded)
    store = Store.open(alone.experiment.store)

    def work(plan: Plan) -> list[Work]:
        found.clear()
        time_methods(plan, store, lambda line: None, True, Amount(2))
        return list(found)

    first = work(alone)
    assert [len(passes) for passes, *_ in first[-2:]] == [WARM_UP + 2] * 2  # one pass an episode
    assert [passes[-1][0] for passes, *_ in first[-2:]] == [2, 6]  # its query and its supports
    assert work(packed) == first
    run_job(packed.jobs[0], JobData.open(packed.jobs[0]), tmp_path / "job")
    assert work(packed) == first
    found.clear()
    time_methods(alone, store, lambda line: None)  # the time of the packed plan is its own
    assert found == []


def test_nothing_is_measured_beside_a_launch_of_this_machine(
    synthetic: Path, tmp_path: Path
) -> None:
    plan = plan_of(synthetic, tmp_path)
    store = Store.open(plan.experiment.store)
    held = claim(store.files, "launches/20260101-120000-abcd/claim", "somebody")
    assert held is not None
    with held, pytest.raises(InputError, match="20260101-120000-abcd runs on this machine"):
        time_methods(plan, store, lambda line: None)
    assert store.timings() == {}


def test_two_measurements_do_not_run_side_by_side(synthetic: Path, tmp_path: Path) -> None:
    plan = plan_of(synthetic, tmp_path)
    device = device_label(best_device()).replace(" ", "-")
    held = try_lock(tmp_path / f"fssplat-{os.getuid()}-time-{device}.lock")
    assert held is not None
    with held, pytest.raises(InputError, match="another `fssplat time` measures on the"):
        time_methods(plan, Store.open(plan.experiment.store), lambda line: None)


def test_a_number_of_shots_without_images_is_left_out_with_the_reason(
    synthetic: Path, tmp_path: Path, lines: list[str]
) -> None:
    plan = plan_of(synthetic, tmp_path, protocol={**RULES, "min_area": 6000, "min_area_query": 0})
    time_methods(plan, Store.open(plan.experiment.store), lines.append, amount=Amount(1))
    assert [line for line in lines if "no 5-shot episode (fold 0: 0 of" in line]


def test_the_spread_is_from_quartile_to_quartile() -> None:
    found = summary(Measured((0.001, 0.002, 0.003, 0.004, 0.1), 7))
    assert (found.lower_ms, found.median_ms, found.upper_ms) == pytest.approx((2, 3, 4))
    assert (found.episodes, found.memory) == (5, 7)
    assert summary(Measured((0.25,), 0)).upper_ms == 250


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before

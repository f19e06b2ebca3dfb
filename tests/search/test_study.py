"""The study: which points are drawn, which count, and what happens when a driver dies."""

import math
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from fssplat.engine.settings import Diverged, Interrupted
from fssplat.launching.stop_request import StopRequest
from fssplat.search.asha import passes_milestone
from fssplat.search.output import best_point, ended_points, pareto_front
from fssplat.search.prepare import Prepared
from fssplat.search.space import Point
from fssplat.search.study import study_progress
from fssplat.search.worker import MilestoneScore, PointTask, Report
from tests.fakes.searches import constant, opened, prepared_of, search_file, search_without_ray


def points(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.get_trials(deepcopy=False)]


def test_asha_keeps_the_best_half_of_the_earlier_points() -> None:
    assert passes_milestone(0.1, [], 2)
    assert passes_milestone(0.5, [0.1, 0.5, 0.9], 2)
    assert not passes_milestone(0.49, [0.1, 0.5, 0.9], 2)
    assert passes_milestone(0.46, [0.1, 0.2, 0.3, 0.9], 4)
    assert not passes_milestone(0.44, [0.1, 0.2, 0.3, 0.9], 4)
    assert passes_milestone(0.2, [math.nan], 2)


def test_the_papers_values_are_the_first_point(data: Path, tmp_path: Path) -> None:
    drive = search_without_ray(search_file(tmp_path, data, trials=3))
    first = ended_points(drive.search, drive.study)[0]
    assert first.point == {"loss_weights.alignment": 1.0, "training.lr": 2e-3}
    assert first.origin == "defaults"


def test_an_interrupted_search_draws_the_same_points(data: Path, tmp_path: Path) -> None:
    whole = search_without_ray(search_file(tmp_path / "whole", data, trials=8))
    for trials in (1, 3, 4, 8):
        parts = search_without_ray(search_file(tmp_path / "parts", data, trials=trials))
    assert points(parts.study) == points(whole.study)
    assert len({str(point) for point in points(whole.study)}) == 8


def test_a_better_point_is_found_and_bad_ones_are_pruned(data: Path, tmp_path: Path) -> None:
    drive = search_without_ray(search_file(tmp_path, data, trials=18))
    found = ended_points(drive.search, drive.study)
    top = best_point(found)
    assert top is not None
    assert top.values["miou"] > found[0].values["miou"]
    pruned = [one for one in found if one.state == "pruned"]
    assert len(pruned) >= 5
    assert all(one.values == {} and one.scores for one in pruned)
    assert sum(one.steps for one in found) < 0.75 * 18 * 100
    assert drive.study.best_trial.number == top.number


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "random"])
def test_every_sampler_continues_a_study(sampler: str, data: Path, tmp_path: Path) -> None:
    for trials in (4, 7):
        drive = search_without_ray(search_file(tmp_path, data, trials=trials, sampler=sampler))
    found = ended_points(drive.search, drive.study)
    assert [one.number for one in found] == list(range(7))
    assert all(0 <= one.point["loss_weights.alignment"] <= 4 for one in found)
    assert len({str(one.point) for one in found}) == 7


def test_nsga2_weighs_accuracy_against_speed_and_prunes_nothing(data: Path, tmp_path: Path) -> None:
    drive = search_without_ray(search_file(tmp_path, data, trials=8, sampler="nsga2", population=4))
    found = ended_points(drive.search, drive.study)
    assert {one.state for one in found} == {"complete"}
    assert all(set(one.values) == {"miou", "episodes_per_s"} for one in found)
    front = pareto_front(found)
    assert front[0].number == best_point(found).number  # type: ignore[union-attr]
    assert front[-1].number == 7  # the objective calls the last point the fastest


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_search_whose_points_diverge_ends(sampler: str, data: Path, tmp_path: Path) -> None:
    runs = []

    def diverging(task: PointTask, folder: Path, report: Report, stopping: Any) -> None:
        runs.append(task.number)
        assert len(runs) <= 4
        raise Diverged(3, {"segmentation": math.nan})

    drive = search_without_ray(search_file(tmp_path, data, trials=4, sampler=sampler), diverging)
    found = ended_points(drive.search, drive.study)
    assert [one.state for one in found] == ["diverged"] * 4
    assert study_progress(drive.study).spent == 4


def test_a_value_that_is_not_a_number_ends_its_trial(data: Path, tmp_path: Path) -> None:
    def broken(task: PointTask, folder: Path, report: Report, stopping: Any) -> None:
        report(MilestoneScore(1, 0.25, math.nan if task.number else 0.5, 1.0, {"fold0": 0.5}))
        if task.number == 0:
            report(MilestoneScore(4, 1.0, 0.5, 1.0, {"fold0": 0.5}))

    drive = search_without_ray(search_file(tmp_path, data, trials=3), broken)
    states = [trial.state for trial in drive.study.get_trials()]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL]
    reasons = {one.reason for one in ended_points(drive.search, drive.study)[1:]}
    assert reasons == {"its mIoU is no number"}


def test_the_same_point_is_not_trained_twice(data: Path, tmp_path: Path) -> None:
    calls = []

    def count(task: PointTask, folder: Path, report: Report, stopping: Any) -> None:
        calls.append(task.values)
        report(MilestoneScore(1, 1.0, 0.5, 1.0, {"fold0": 0.5}))

    space = {"options": {"scale": {"choice": [10.0, 20.0]}}}
    path = search_file(tmp_path, data, trials=6, space=space, milestones=[1.0])
    drive = search_without_ray(path, count)
    assert len(calls) == 2
    assert study_progress(drive.study).spent == 6


def test_a_condition_decides_whether_a_parameter_is_drawn(data: Path, tmp_path: Path) -> None:
    space = {
        "training": {
            "optimizer": {"choice": ["sgd", "adam"]},
            "weight_decay": {"log": [1e-6, 1e-2], "when": {"training.optimizer": "adam"}},
        }
    }
    drive = search_without_ray(search_file(tmp_path, data, trials=10, space=space), constant)
    for one in ended_points(drive.search, drive.study):
        assert ("training.weight_decay" in one.point) == (one.point["training.optimizer"] == "adam")


def searcher(prepared: Prepared, slots: int) -> Any:
    """A searcher on the study as it is now."""
    from fssplat.search.tune_searcher import StudySearcher

    def pack(number: int, point: Point) -> dict[str, Any]:
        return {"number": number}

    study, database = opened(prepared), prepared.database
    return StudySearcher(
        prepared.search, study, database, slots, StopRequest(), pack, SimpleQueue()
    )


def at(rung: int, miou: float) -> dict[str, Any]:
    """The result that Tune passes on when a point reaches a milestone."""
    return {"rung": rung, "miou": miou, "share": rung / 4, "steps": rung, "parts": "{}"}


def test_an_interrupted_point_is_not_decided_again_at_milestones_it_passed(
    data: Path, tmp_path: Path
) -> None:
    prepared = prepared_of(search_file(tmp_path, data, trials=9))
    first = searcher(prepared, slots=4)
    for name in "abcd":
        first.suggest(name)
    assert first.keeps("b", at(1, 0.3))
    assert first.keeps("b", at(2, 0.3))
    for name in "acd":
        assert first.keeps(name, at(1, 0.9))
    first.requeue("b")

    second = searcher(prepared, slots=4)
    assert second.suggest("b") == {"number": 4}
    assert second.keeps("b", at(1, 0.3))
    assert second.keeps("b", at(2, 0.3))
    assert second.suggest("e")
    assert not second.keeps("e", at(1, 0.5))  # a new point is compared


def test_a_pruned_point_stays_pruned_if_a_stop_request_follows(data: Path, tmp_path: Path) -> None:
    one = searcher(prepared_of(search_file(tmp_path, data)), slots=2)
    for name, miou in (("a", 0.9), ("b", 0.3)):
        one.suggest(name)
        kept = one.keeps(name, at(1, miou))
    assert not kept
    one._stop.request()
    one.on_trial_complete("b", at(1, 0.3))
    one.on_trial_complete("a", at(1, 0.9))
    states = [trial.state for trial in one._study.get_trials()]
    assert states == [TrialState.FAIL, TrialState.PRUNED, TrialState.WAITING]


def test_a_point_whose_workers_die_is_queued_once_more_and_counts_once(
    data: Path, tmp_path: Path
) -> None:
    one = searcher(prepared_of(search_file(tmp_path, data)), slots=1)
    for name in "ab":
        one.suggest(name)
        assert study_progress(one._study).spent == 0
        one.on_trial_complete(name, None, error=True)
    first, second = one._study.get_trials()
    assert (second.params, second.user_attrs["again"]) == (first.params, first.number)
    assert second.user_attrs["failed"] == "its worker failed too often"
    assert study_progress(one._study).spent == 1


def test_points_whose_workers_die_in_a_row_end_the_search_and_are_queued(
    data: Path, tmp_path: Path
) -> None:
    one = searcher(prepared_of(search_file(tmp_path, data)), slots=4)
    for name in "abcd":
        one.suggest(name)
    one.on_trial_complete("a", {**at(4, 0.5), "state": "finished", "episodes_per_s": 1.0})
    for name in "bcd":
        assert not one._stop.requested.is_set()
        one.on_trial_complete(name, None, error=True)
    assert one._stop.reason == "3 points in a row failed. The last: its worker failed too often"
    assert one.suggest("e") == "FINISHED"
    assert study_progress(one._study).spent == 1
    assert len(one._study.get_trials(states=(TrialState.WAITING,))) == 3


def test_a_point_counts_once_at_a_milestone_however_often_it_was_drawn(
    data: Path, tmp_path: Path
) -> None:
    from fssplat.search.asha import scores_by_milestone

    def cut(task: PointTask, folder: Path, report: Report, stopping: Any) -> None:
        report(MilestoneScore(1, 0.5, 0.5, 1.0, {"fold0": 0.5}))
        if task.number == 0:
            raise Interrupted(1)
        report(MilestoneScore(2, 1.0, 0.5, 1.0, {"fold0": 0.5}))

    space = {"options": {"scale": {"choice": [10.0, 20.0]}}}
    path = search_file(tmp_path, data, trials=5, space=space, milestones=[0.5, 1.0])
    drive = search_without_ray(path, cut)
    assert len(drive.study.get_trials()) == 6  # one cut, two trained, three copies
    scores = scores_by_milestone(drive.study.get_trials())
    assert [len(one) for one in scores.values()] == [2, 2]

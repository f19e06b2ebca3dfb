"""The study: which points are drawn, which count, and what happens when a driver dies."""

import math
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from fssplat.common.errors import InputError
from fssplat.engine.settings import Diverged, Interrupted
from fssplat.launching.launch import Request
from fssplat.launching.stop_request import StopRequest
from fssplat.search.asha import passes_milestone
from fssplat.search.output import best_point, ended_points, pareto_front
from fssplat.search.prepare import Prepared, prepare
from fssplat.search.sampler import draw_point
from fssplat.search.space import Point
from fssplat.search.storage import (
    StudyDatabase,
    database_at,
    requeue_dead_trials,
    sqlalchemy_url,
)
from fssplat.search.study import open_study, study_progress
from fssplat.search.worker import MilestoneScore, PointTask, Report
from tests.fakes.searches import prepared_of, search_file, search_without_ray


def opened(prepared: Prepared) -> optuna.Study:
    return open_study(prepared.search, prepared.database, prepared.mark)


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


def constant(task: PointTask, folder: Path, report: Report, stopping: Any) -> None:
    report(MilestoneScore(1, 1.0, 0.5, 1.0, {"fold0": 0.5}))


# ------------------------------------------------------------------ decided once


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


# ------------------------------------------------------------------ several drivers


def test_a_study_of_another_direction_is_refused(data: Path, tmp_path: Path) -> None:
    prepared = prepared_of(search_file(tmp_path, data, study="mine"))
    storage = prepared.database.connect()
    optuna.create_study(storage=storage, study_name="mine", direction="minimize")
    with pytest.raises(InputError, match="its directions are minimize; this search maximises"):
        opened(prepared)


def test_a_study_of_another_space_is_refused(data: Path, tmp_path: Path) -> None:
    opened(prepared_of(search_file(tmp_path, data, study="mine")))
    other = {"training": {"lr": {"log": [1e-4, 1e-1]}}}
    with pytest.raises(InputError, match="made for another space, data set or schedule"):
        opened(prepared_of(search_file(tmp_path, data, study="mine", space=other)))


def test_opening_a_study_again_queues_no_point_again(data: Path, tmp_path: Path) -> None:
    prepared = prepared_of(search_file(tmp_path, data))
    for _ in range(3):
        study = opened(prepared)
    assert len(study.get_trials(states=(TrialState.WAITING,))) == 1


def test_a_point_is_queued_again_only_when_its_driver_is_dead(data: Path, tmp_path: Path) -> None:
    prepared = prepared_of(search_file(tmp_path, data, heartbeat_s=1))
    study = opened(prepared)
    trial = study.ask()
    point: Point = draw_point(prepared.search, trial)
    requeue_dead_trials(study, prepared.database)
    assert study.trials[0].state is TrialState.RUNNING  # it has just sent a heartbeat
    end = time.monotonic() + 60
    while study.trials[0].state is TrialState.RUNNING and time.monotonic() < end:
        time.sleep(0.5)
        requeue_dead_trials(study, prepared.database)
    assert [one.state for one in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    again = study.ask()
    assert draw_point(prepared.search, again) == point
    assert study.trials[1].user_attrs == {"origin": "defaults", "again": 0}
    assert study_progress(study).spent == 0  # an interrupted point is not counted


def test_points_of_another_study_are_tried_after_the_default(data: Path, tmp_path: Path) -> None:
    first = search_without_ray(search_file(tmp_path, data, trials=6, study="first", pruning="none"))
    best = sorted(
        (t for t in first.study.trials if t.state is TrialState.COMPLETE),
        key=lambda trial: -trial.value,  # type: ignore[operator]
    )
    warm = {"study": "first", "best": 2}
    space = {"loss_weights": {"alignment": {"uniform": [0, 4]}}}
    path = search_file(tmp_path, data, trials=4, study="second", space=space, warm_start=warm)
    second = search_without_ray(path, constant)
    wanted = [trial.params["loss_weights.alignment"] for trial in best[:2]]
    got = [trial.params["loss_weights.alignment"] for trial in second.study.trials]
    assert got[0] == 1.0
    fresh = [value for value in wanted if value != 1.0]  # the default is not queued twice
    assert fresh
    assert got[1 : 1 + len(fresh)] == fresh


@pytest.mark.parametrize("spelling", ["store/../store/studies.db", "link.db", "folder/studies.db"])
def test_a_warm_start_may_spell_its_own_storage_differently(
    spelling: str, data: Path, tmp_path: Path
) -> None:
    search_without_ray(search_file(tmp_path, data, trials=1, study="first"), constant)
    (tmp_path / "link.db").symlink_to(tmp_path / "store" / "studies.db")
    (tmp_path / "folder").symlink_to(tmp_path / "store")
    own = prepared_of(search_file(tmp_path, data)).database
    warm = {"study": "first", "storage": f"sqlite:///{tmp_path / spelling}"}
    path = search_file(tmp_path, data, study="second", warm_start=warm)
    assert database_at("x", warm["storage"], 10).url == own.url  # else opening it hangs for ever
    study = opened(prepared_of(path))
    assert [trial.state for trial in study.get_trials()] == [TrialState.WAITING]


def test_a_warm_start_from_a_missing_study_is_refused(data: Path, tmp_path: Path) -> None:
    search_without_ray(search_file(tmp_path, data, trials=1, study="first"), constant)
    path = search_file(tmp_path, data, study="second", warm_start={"study": "frist"})
    with pytest.raises(InputError, match="has no study frist"):
        opened(prepared_of(path))


def test_an_address_is_completed_and_shown_without_its_password(tmp_path: Path) -> None:
    url = sqlalchemy_url("postgresql://me:secret@db/studies")
    assert url.startswith("postgresql+psycopg2://me:")
    assert sqlalchemy_url(f"sqlite:///{tmp_path}/a.db") == f"sqlite:///{tmp_path}/a.db"
    assert "secret" not in StudyDatabase(url, 10).shown


@pytest.mark.parametrize("where", ["storage", "warm_start.storage"])
@pytest.mark.parametrize("bad", ["postgresql://me:secret@db:notaport/x", "my db://me:secret@db/x"])
def test_an_invalid_address_is_one_line_without_its_password(
    data: Path, tmp_path: Path, where: str, bad: str
) -> None:
    section: dict[str, Any] = {"storage": bad}
    if where != "storage":
        section = {"warm_start": {"study": "first", **section}}
    with pytest.raises(InputError) as caught:
        opened(prepared_of(search_file(tmp_path, data, **section)))
    assert f"search.{where} " in str(caught.value)
    assert "not an address" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_storage_that_cannot_be_used_is_one_line(data: Path, tmp_path: Path) -> None:
    prepared = prepared_of(search_file(tmp_path, data))
    database = StudyDatabase("postgresql+psycopg2://me:x@127.0.0.1:9/none", 10)
    silent = replace(prepared, database=database)
    with pytest.raises(InputError, match="cannot be used") as caught:
        opened(silent)
    assert "\n" not in str(caught.value)


def test_a_dry_run_writes_into_no_database_and_makes_no_file(tmp_path: Path, data: Path) -> None:
    path = search_file(tmp_path, data, experiment={"tracking": ""})
    before = set(tmp_path.rglob("*"))
    prepare(Request(path), make=False)
    assert set(tmp_path.rglob("*")) == before
    open_study((made := prepared_of(path)).search, made.database, made.mark)
    file = tmp_path / "store" / "studies.db"
    contents, files = file.read_bytes(), set(tmp_path.rglob("*"))
    prepare(Request(path), make=False)
    assert file.read_bytes() == contents
    assert {f for f in tmp_path.rglob("*") if f.suffix == ".db"} == {
        f for f in files if f.suffix == ".db"
    }


@pytest.mark.parametrize("make", [True, False])
def test_one_database_for_mlflow_and_optuna_is_refused(
    tmp_path: Path, data: Path, empty_database: Path, make: bool
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    before = (tmp_path / "mlflow.db").read_bytes()
    address = f"sqlite:///{tmp_path}/mlflow.db"
    both = search_file(tmp_path, data, storage=address, experiment={"tracking": address})
    with pytest.raises(InputError, match="is MLflow's database too"):
        prepare(Request(both), make=make)
    alone = search_file(tmp_path, data, storage=address)
    with pytest.raises(InputError, match="is a database of MLflow, not of Optuna"):
        prepare(Request(alone), make=make)
    assert (tmp_path / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize(
    ("revision", "says"), [("v2.6.0.a", "made by an older Optuna"), ("v9", "made by a newer")]
)
def test_a_storage_of_another_optuna_is_refused(
    tmp_path: Path, data: Path, revision: str, says: str
) -> None:
    made = prepared_of(path := search_file(tmp_path, data))
    made.database.connect().engine.dispose()
    with closing(sqlite3.connect(tmp_path / "store" / "studies.db")) as database:
        database.execute("update alembic_version set version_num = ?", (revision,))
        database.commit()
    with pytest.raises(InputError, match=says):
        prepare(Request(path), make=False)

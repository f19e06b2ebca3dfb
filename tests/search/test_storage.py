"""The database of a study: what is refused, and what is continued."""

import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from fssplat.common.errors import InputError
from fssplat.launching.launch import Request
from fssplat.search.prepare import prepare
from fssplat.search.sampler import draw_point
from fssplat.search.space import Point
from fssplat.search.storage import (
    StudyDatabase,
    database_at,
    requeue_dead_trials,
    sqlalchemy_url,
)
from fssplat.search.study import open_study, study_progress
from tests.fakes.searches import constant, opened, prepared_of, search_file, search_without_ray


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

"""Several drivers, one after the other or at once: no point is lost, none is done twice."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import TrialState
from rich.console import Console
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.launching.launch import Request
from fssplat.launching.stop_request import StopRequest
from fssplat.search.driver import SearchDriver, search
from fssplat.search.output import EndedPoint, ended_points
from fssplat.search.prepare import Prepared
from fssplat.search.study import open_study
from tests.fakes.postgres import postgres_server
from tests.fakes.searches import prepared_of, score_by_formula, search_file, start_driver

WAIT_S = 280


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as url:
        yield url


def study_of(prepared: Prepared) -> optuna.Study:
    return open_study(prepared.search, prepared.database, prepared.mark)


def check_whole(prepared: Prepared, trials: int) -> None:
    """Every point has its end, once, under a number of its own."""
    study = study_of(prepared)
    found = ended_points(prepared.search, study)
    assert len(found) == trials
    assert all(one.state in ("complete", "pruned") for one in found)
    numbers = [trial.number for trial in study.get_trials()]
    assert numbers == list(range(len(numbers)))
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    points = Counter(str(sorted(one.point.items())) for one in found)
    assert set(points.values()) == {1}


def run_two(path: Path, trials: int, *more: str) -> None:
    drivers = [start_driver(path, "score_by_formula", *more) for _ in range(2)]
    for one in drivers:
        said, _ = one.communicate(timeout=WAIT_S)
        assert one.returncode == 0, said
    check_whole(prepared_of(path), trials)


@pytest.mark.slow
def test_two_drivers_on_one_postgres_study_share_its_points(
    postgres: str, data: Path, tmp_path: Path
) -> None:
    path = search_file(tmp_path, data, trials=24, storage=postgres, study="quick")
    run_two(path, 24, "--here")


@pytest.mark.slow
def test_two_drivers_with_ray_share_a_hundred_points_on_postgres(
    postgres: str, data: Path, tmp_path: Path
) -> None:
    path = search_file(tmp_path, data, trials=100, storage=postgres, study="hundred")
    run_two(path, 100)


def begun(folder: Path) -> list[str]:
    """Points begun, in order; a point that was cut and drawn again stands there twice."""
    files = list(folder.glob("store/searches/*/begun"))
    return files[0].read_text().split() if files else []


def wait_for(folder: Path, count: int) -> None:
    end = time.monotonic() + WAIT_S
    while len(begun(folder)) < count:
        assert time.monotonic() < end, "the driver has not begun so many points"
        time.sleep(0.05)


def test_a_killed_driver_loses_no_point_and_repeats_none(data: Path, tmp_path: Path) -> None:
    path = search_file(tmp_path, data, trials=8, heartbeat_s=1)
    first = start_driver(path, "score_by_formula_slowly", "--here")
    wait_for(tmp_path, 4)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    prepared = prepared_of(path)
    before = {one.number: one for one in ended_points(prepared.search, study_of(prepared))}
    second = start_driver(path, "score_by_formula_slowly", "--here")
    said, _ = second.communicate(timeout=WAIT_S)
    assert second.returncode == 0, said
    check_after_a_kill(prepared, before, tmp_path, 8)


@pytest.mark.slow
def test_the_next_search_ends_the_mlflow_run_of_a_killed_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = f"sqlite:///{tmp_path}/mlflow.db"
    others = {"tracking": tracking}
    first = start_driver(
        search_file(tmp_path, data, trials=500, experiment=others), "score_by_formula_slowly"
    )
    wait_for(tmp_path, 4)
    client = MlflowClient(tracking_uri=tracking)
    (study,) = study_runs(client)
    assert study.info.status == "RUNNING"
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    monkeypatch.setattr(SearchDriver, "run", lambda _: StopRequest())
    other = search_file(tmp_path, data, study="another", experiment=others)
    search(Request(other), Console(quiet=True), score_by_formula)
    states = {run.info.run_name: run.info.status for run in study_runs(client)}
    assert states == {study.info.run_name: "KILLED", "another": "FINISHED"}


def study_runs(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    kind = "tags.`fssplat.kind` = 'study'"
    return list(client.search_runs([experiment.experiment_id], kind))


def check_after_a_kill(
    prepared: Prepared, before: dict[int, EndedPoint], folder: Path, trials: int, cut: int = 1
) -> None:
    """What had its end keeps it; what was cut is begun once more; everything else once."""
    check_whole(prepared, trials)
    after = {one.number: one for one in ended_points(prepared.search, study_of(prepared))}
    assert all(after[number] == one for number, one in before.items())
    times = Counter(begun(folder))
    assert len(times) == trials
    assert sum(count - 1 for count in times.values()) <= cut


@pytest.mark.slow
def test_a_driver_with_ray_killed_again_and_again_ends_its_search(
    data: Path, tmp_path: Path
) -> None:
    path = search_file(tmp_path, data, trials=16, heartbeat_s=1)
    before: dict[int, EndedPoint] = {}
    for kill_after in (3, 9):
        one = start_driver(path, "score_by_formula_slowly")
        wait_for(tmp_path, kill_after)
        os.killpg(one.pid, signal.SIGKILL)
        one.communicate(timeout=60)
        prepared = prepared_of(path)
        before = {e.number: e for e in ended_points(prepared.search, study_of(prepared))}
    last = start_driver(path, "score_by_formula_slowly")
    said, _ = last.communicate(timeout=WAIT_S)
    assert last.returncode == 0, said
    check_after_a_kill(prepared, before, tmp_path, 16, cut=4)


@pytest.mark.slow
@pytest.mark.parametrize(("by", "code"), [("SIGTERM", 143), ("fssplat stop", 130)])
def test_a_driver_that_is_asked_to_stop_leaves_its_points_to_the_next(
    by: str, code: int, data: Path, tmp_path: Path
) -> None:
    path = search_file(tmp_path, data, trials=24, heartbeat_s=60)
    first = start_driver(path, "score_by_formula_slowly")
    wait_for(tmp_path, 4)
    if by == "SIGTERM":
        first.send_signal(signal.SIGTERM)
    else:
        assert "asked to stop" in CliRunner().invoke(app, ["stop", str(path)]).output
    said, _ = first.communicate(timeout=WAIT_S)
    assert first.returncode == code, said
    assert "To go on: fssplat search" in said
    prepared = prepared_of(path)
    assert not study_of(prepared).get_trials(states=(TrialState.RUNNING,))
    second = start_driver(path, "score_by_formula_slowly")
    said, _ = second.communicate(timeout=WAIT_S)
    assert second.returncode == 0, said
    check_whole(prepared, 24)

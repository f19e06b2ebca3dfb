"""The report that a launch puts into MLflow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fssplat.cli import launch_report
from fssplat.cli.launch_report import report_of_launch
from fssplat.experiment.reading import load_experiment
from fssplat.report.writing import files
from fssplat.results.launch_listener import LaunchInfo
from fssplat.results.store import Store
from tests.fakes.experiment_files import experiment_without_images
from tests.fakes.report_stores import Size, report_trial, small_store

GRID = [report_trial("prior", 0), report_trial("hsnet", 0)]


def info(store: Store, path: Path, trials: Mapping[str, Any], said: list[str]) -> LaunchInfo:
    return LaunchInfo(
        "l1", load_experiment(path), store, trials, {}, "", "fssplat sync x", "fssplat ui x",
        "fssplat launch x", said.append,
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return small_store(tmp_path_factory.mktemp("launch"), GRID, Size(episodes=10))


@pytest.mark.slow
def test_a_launch_writes_its_page_and_its_markdown(store: Store, tmp_path: Path) -> None:
    said: list[str] = []
    trials = {one.trial_id({}): one for one in GRID}
    path = experiment_without_images(tmp_path)
    found = report_of_launch(info(store, path, trials, said), tmp_path)
    assert [one.name for one in found] == ["index.html", "report.md"]
    assert "hsnet has the best mean" in found[0].read_text()
    assert said == ["Writing the report for MLflow."]
    assert report_of_launch(info(store, path, {}, said), tmp_path) == ()


@pytest.mark.parametrize(("most_s", "reason"), [(100.0, "OSError: no room"), (0.0, "longer than")])
def test_a_report_that_fails_or_takes_too_long_is_one_line(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    most_s: float,
    reason: str,
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no room")

    monkeypatch.setattr(files, "write_report", fail)
    said: list[str] = []
    trials = {one.trial_id({}): one for one in GRID}
    launch = info(store, experiment_without_images(tmp_path), trials, said)
    assert report_of_launch(launch, tmp_path, most_s) == ()
    assert said[1].startswith("MLflow gets no report: ")
    assert reason in said[1]
    assert launch_report.MOST_S == 120

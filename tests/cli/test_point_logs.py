"""`fssplat logs` of a search: what its points printed."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.errors import InputError
from tests.fakes.searches import score_by_formula, search_file, search_without_ray


def print_and_fail_once(task: Any, folder: Path, report: Any, stopping: Any) -> None:
    print(f"point {task.number} begins")
    if task.number == 1:
        raise ValueError("x" * 400)
    score_by_formula(task, folder, report, stopping)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, synthetic: Path) -> Path:
    """A search of which point 1 failed."""
    path = search_file(tmp_path_factory.mktemp("search"), synthetic, trials=3)
    search_without_ray(path, print_and_fail_once)
    return path


def logs(*words: str | Path) -> str:
    done = CliRunner().invoke(app, ["logs", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_points_that_failed_are_shown_with_the_whole_reason(path: Path) -> None:
    lines = logs(path).splitlines()
    assert lines[0].startswith("point 1: failed: ValueError: xxx")
    assert lines[0].endswith("xxx...")
    assert lines[2] == "point 1 begins"
    assert f"ValueError: {'x' * 400}" in lines


def test_a_point_is_named_by_its_number(path: Path) -> None:
    for words in ("0", "point 0"):
        assert "point 0 begins" in logs(path, words)
    with pytest.raises(InputError, match=r"point 7 has no log\. These have one: 0, 1, 2"):
        logs(path, "7")


def test_the_log_of_a_remote_search_is_in_its_store(synthetic: Path, tmp_path: Path) -> None:
    store = {"store": f"memory://{tmp_path.name}"}
    storage = f"sqlite:///{tmp_path}/studies.db"
    path = search_file(tmp_path, synthetic, trials=3, storage=storage, experiment=store)
    search_without_ray(path, print_and_fail_once)
    assert "point 1 begins" in logs(path)

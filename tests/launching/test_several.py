"""Several experiment files in one command."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from fssplat.common.errors import InputError
from fssplat.launching import checks, several
from fssplat.launching.cluster import Cluster
from tests.fakes.engines import fail_by_seed, fail_if_started, train_and_score
from tests.fakes.experiment_files import experiment_without_images


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data set of these tests is a description only."""
    monkeypatch.setattr(checks, "check_data", lambda plan: None)


def two_files(folder: Path, second: str) -> tuple[Path, Path]:
    one = experiment_without_images(folder, tracking="none", grid="{method: [panet]}")
    other = folder / "other.yaml"
    other.write_text(f"extends: {one.name}\nname: other\n{second}\n")
    return one, other


def run(paths: tuple[Path, ...], work: Callable[..., None]) -> tuple[int, str]:
    out = StringIO()
    requests = several.requests_for(paths, ())
    code = several.launch_all(requests, list, Console(file=out, width=200), work)
    return code, out.getvalue()


def test_files_run_one_after_the_other_and_share_the_trials_of_one_store(
    tmp_path: Path, machines: Cluster
) -> None:
    paths = two_files(tmp_path, "grid: {shot: [1, 5]}")
    code, text = run(paths, train_and_score)
    assert code == 0
    assert "2 files, one after the other." in text
    assert text.index("File 1 of 2: ") < text.index("File 2 of 2: ")
    assert "other: 2 trials in 1 job" in text
    assert "1 trial done" in text  # the trial of the first file
    assert len(list((tmp_path / "store").glob("*/result.json"))) == 2
    assert run(paths, fail_if_started)[0] == 0


@pytest.mark.slow
def test_a_failed_trial_of_one_file_does_not_stop_the_next(
    tmp_path: Path, machines: Cluster
) -> None:
    paths = two_files(tmp_path, "grid: {seed: [1]}")
    code, text = run((paths[1], paths[0]), fail_by_seed)
    assert code == 1
    assert "File 2 of 2: " in text


def test_a_wrong_file_stops_the_command_before_the_first_launch(tmp_path: Path) -> None:
    paths = two_files(tmp_path, "grid: {fold: [9]}")
    with pytest.raises(InputError, match=r"other: grid.fold has 9"):
        run(paths, fail_if_started)
    assert not (tmp_path / "store").exists()


def test_the_command_that_resumes_a_file_names_those_after_it() -> None:
    paths = [Path("a.yaml"), Path("b c.yaml"), Path("a.yaml")]
    first, second = several.requests_for(paths, ("grid.fold=[0]",))
    assert first.command() == "fssplat launch a.yaml 'b c.yaml' --set 'grid.fold=[0]'"
    assert second.command() == "fssplat launch 'b c.yaml' --set 'grid.fold=[0]'"
    assert first.command("retry") == "fssplat retry a.yaml --set 'grid.fold=[0]'"


def test_a_stopped_file_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = two_files(tmp_path, "grid: {seed: [1]}")
    started = []

    def stopped(request: object, *others: object) -> int:
        started.append(request)
        return 143

    monkeypatch.setattr(several, "launch", stopped)
    assert run(paths, fail_if_started)[0] == 143
    assert len(started) == 1

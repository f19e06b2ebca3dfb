"""The command `fssplat slurm`: what it checks, prints and sends."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.errors import InputError
from fssplat.launching import checks
from tests.fakes.experiment_files import experiment_without_images

RUN = CliRunner()


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data set of these tests is a description only."""
    monkeypatch.setattr(checks, "check_data", lambda plan: None)


def stand_in(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An sbatch that keeps the script in the file `sent`."""
    path = folder / "sbatch"
    path.write_text(f"#!/bin/bash\ncat > {folder / 'sent'}\n{body}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_the_dry_run_prints_the_script_and_makes_no_store(tmp_path: Path) -> None:
    path = experiment_without_images(tmp_path)
    done = RUN.invoke(app, ["slurm", str(path), "--time", "4h", "--array", "3", "--dry-run"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("#!/bin/bash\n# Made by: fssplat")
    assert "#SBATCH --job-name=small\n#SBATCH --time=240\n" in done.output
    assert f"set -- {path}\n" in done.output
    assert not (tmp_path / "store").exists()


def test_the_script_is_sent_and_its_number_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, 'echo "42;cluster"', monkeypatch)
    path = experiment_without_images(tmp_path)
    done = RUN.invoke(app, ["slurm", str(path), "--time", "4h", "--set", "grid.seed=[0]"])
    assert done.exit_code == 0, done.output
    line = f"Submitted batch job 42. To follow it: fssplat status {path} --set 'grid.seed=[0]'"
    assert done.output.splitlines()[-1] == line
    assert "Within 4 h 0 min: 1 worker" in done.output
    assert f"set -- {path} --set 'grid.seed=[0]'\n" in (tmp_path / "sent").read_text()


def test_what_sbatch_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(
        tmp_path, 'echo "sbatch: error: invalid partition specified: x" >&2; exit 1', monkeypatch
    )
    done = RUN.invoke(app, ["slurm", str(experiment_without_images(tmp_path)), "--partition", "x"])
    assert isinstance(done.exception, InputError)
    assert str(done.exception) == "sbatch refused the job: invalid partition specified: x"


def test_a_wrong_experiment_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, "echo 1", monkeypatch)
    path = experiment_without_images(tmp_path, grid="{fold: [9]}")
    assert RUN.invoke(app, ["slurm", str(path)]).exit_code != 0
    assert not (tmp_path / "sent").exists()

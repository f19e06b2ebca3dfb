"""The command `fssplat plan`: its table, JSON, chart and errors."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.errors import InputError
from tests.fakes.experiment_files import experiment_without_images

RUN = CliRunner()


def test_the_plan_names_jobs_cost_and_machines(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["plan", str(experiment_without_images(tmp_path)), "--gpus", "2"])
    assert done.exit_code == 0, done.output
    assert "4 trials in 2 jobs" in done.output
    assert "on 2 GPUs" in " ".join(done.output.split())


def test_the_json_lists_every_job_and_the_chart_is_written(tmp_path: Path) -> None:
    picture = tmp_path / "plan.png"
    path = str(experiment_without_images(tmp_path))
    done = RUN.invoke(app, ["plan", path, "--json", "--gantt", str(picture)])
    facts = json.loads(done.output)
    assert len(facts["order"]) == facts["pending_jobs"] == 2
    assert all(row["hours"] > 0 for row in facts["order"])
    assert picture.is_file()


def test_the_plan_says_how_many_gpus_are_in_time_and_what_they_cost(tmp_path: Path) -> None:
    path = str(experiment_without_images(tmp_path))
    more = ["--gpus", "1", "--limit", "4h", "--price", "3600/h"]
    done = RUN.invoke(app, ["plan", path, *more])
    assert "Within 4 h 0 min: 1 GPU; the last job ends after " in done.output
    facts = json.loads(RUN.invoke(app, ["plan", path, *more, "--json"]).output)
    assert facts["limit"]["slots"] == 1
    seconds = facts["work_hours"] * 3600  # each costs 1
    assert facts["price"] == pytest.approx(seconds)
    assert f"of GPU time at 3600.00 an hour: {seconds:.2f}, a guess" in done.output


@pytest.mark.parametrize("more", [["--price", "cheap"], ["--limit", "soon"]])
def test_a_price_or_limit_that_cannot_be_read_is_refused(tmp_path: Path, more: list[str]) -> None:
    done = RUN.invoke(app, ["plan", str(experiment_without_images(tmp_path)), *more])
    assert isinstance(done.exception, InputError)
    assert more[1] in str(done.exception)


def test_a_change_from_the_command_line_changes_the_plan(tmp_path: Path) -> None:
    path = str(experiment_without_images(tmp_path))
    done = RUN.invoke(app, ["plan", path, "--set", "grid.seed=[0,1,2]", "--json"])
    assert json.loads(done.output)["trials"] == 6


def test_wrong_weights_are_reported_before_the_plan_is_printed(tmp_path: Path) -> None:
    change = "backbones.resnet50={name: resnet50, weights: /proc}"
    path = str(experiment_without_images(tmp_path))
    for more in ([], ["--json"]):
        done = RUN.invoke(app, ["plan", path, "--set", change, *more])
        assert isinstance(done.exception, InputError)
        assert "is a folder" in str(done.exception)
        assert done.output == ""


def test_a_chart_that_is_not_a_png_is_refused_before_planning(tmp_path: Path) -> None:
    done = RUN.invoke(
        app, ["plan", str(experiment_without_images(tmp_path)), "--gantt", str(tmp_path / "plan.x")]
    )
    assert isinstance(done.exception, InputError)
    assert str(done.exception).endswith("Name it plan.png.")
    assert "trials" not in done.output


def test_a_chart_that_cannot_be_written_is_reported_in_one_line(tmp_path: Path) -> None:
    path = experiment_without_images(tmp_path)
    for picture in (path / "plan.png", tmp_path / "folder.png"):
        (tmp_path / "folder.png").mkdir(exist_ok=True)
        done = RUN.invoke(app, ["plan", str(path), "--gantt", str(picture)])
        assert isinstance(done.exception, InputError)
        assert f"--gantt {picture}: cannot be written" in str(done.exception)

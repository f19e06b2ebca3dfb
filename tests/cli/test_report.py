"""`fssplat report` as it is typed."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.errors import InputError
from fssplat.experiment.reading import load_experiment
from fssplat.planning.plan import make_plan
from fssplat.planning.report_sources import first_comment, source_of
from fssplat.results.store import Store
from tests.fakes.engines import write_scores
from tests.fakes.experiment_files import experiment_without_images


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """An experiment file whose trials all have a result of one episode."""
    path = experiment_without_images(tmp_path)
    store = Store.open(str(tmp_path / "store"))
    from fssplat.engine.events import Event, TrialScored

    for job in make_plan(load_experiment(path)).jobs:
        events: list[Event] = []
        write_scores(job, tmp_path / "work", events.append)
        trials = dict(zip(job.trial_ids, job.trials, strict=True))
        for event in events:
            assert isinstance(event, TrialScored)
            one = trials[event.trial_id]
            store.finish(one, event.trial_id, event.folder, event.metrics, (), {"job": job.key})
    return path


def test_the_last_line_names_the_page(small: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(small), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "With a result: 4 of 4 trials." in done.output
    assert done.output.splitlines()[-1] == f"The report: {tmp_path}/out/index.html"
    assert (tmp_path / "out" / "index.html").is_file()


@pytest.mark.slow
def test_a_profile_that_shortens_searches_makes_no_search(small: Path, tmp_path: Path) -> None:
    small.write_text(small.read_text() + "profiles: {smoke: {search: {trials: 2}}}\n")
    words = ["report", str(small), "--set", "profile=smoke", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.exception


def test_without_the_data_set_trials_are_found_by_their_settings(
    small: Path, tmp_path: Path
) -> None:
    experiment = load_experiment(small)
    there = source_of(experiment, small, "fssplat launch small.yaml")
    shutil.rmtree(tmp_path / "data")
    away = source_of(experiment, small, "fssplat launch small.yaml")
    assert there.notes == ()
    assert set(away.trials) == set(there.trials)
    assert {one.state for one in away.states.values()} == {"finished"}
    assert "found by their settings" in away.notes[0]
    assert "no data set there" in away.notes[0]


def test_a_folder_that_cannot_be_written_is_one_line(small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(app, ["report", str(small), "--out", str(tmp_path / "file")])
    assert isinstance(done.exception, InputError)
    assert "Choose another folder" in str(done.exception)


def test_the_claim_of_a_file_is_its_first_comment(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("# Do rankings hold?\n# second\nname: x\n")
    assert first_comment(path) == "Do rankings hold?"
    path.write_text("name: x\n")
    assert first_comment(path) == ""

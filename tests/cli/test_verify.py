"""The command `fssplat verify`: output, errors and the rows that it can run."""

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.errors import InputError
from fssplat.data.build.convert import build
from fssplat.launching import launch as launching
from fssplat.launching.launch import plan_from, stale_note
from fssplat.launching.verify import RowRequest, differs
from fssplat.planning import rerun
from fssplat.report import published
from fssplat.worker.claimed_job import perform
from fssplat.worker.job_task import JobTask
from tests.fakes.command_line import output_of, start_command
from tests.fakes.engines import RecordedNotes, train_and_score
from tests.fakes.official_layouts import voc_layout

BASE = """
datasets: {{pascal-5i: {{name: pascal-5i, root: {data}}}}}
store: {folder}/store
tracking: none
profiles:
  tiny:
    grid: {{fold: [0], backbone: [efficientnet_lite0]}}
    training: {{steps: 1, batch: 2, size: 65}}
    protocol:
      {{episodes: 2, episode_seeds: [0], size: 65, score: [original], training_list: all,
       training_draw: image, min_area: 1, draw: even, selection: last, short_classes: drop}}
    backbones: {{efficientnet_lite0: {{name: efficientnet_lite0, weights: random}}}}
    evaluation: {{panels: 0}}
"""
ROW = "HMFS:1:55"
TINY = ("--set", "profile=tiny")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base file with PASCAL of two tiny pictures per class and split."""
    build("pascal-5i", voc_layout(tmp_path / "official", train=40, val=40), tmp_path / "built")
    path = tmp_path / "base.yaml"
    path.write_text(BASE.format(data=tmp_path / "built", folder=tmp_path))
    return path


def typed(*arguments: str | Path, columns: int = 200) -> tuple[int, str]:
    screen = {"COLUMNS": str(columns)}
    done = CliRunner().invoke(app, ["verify", *map(str, arguments)], env=screen)
    if isinstance(done.exception, InputError):
        return 2, str(done.exception)
    return done.exit_code, done.output


@pytest.mark.slow
def test_a_row_is_run_and_printed_below_the_published_one(base: Path) -> None:
    code, out, err = output_of(start_command("verify", ROW, "--base", base, *TINY))
    assert code == 0, err
    lines = [line.split() for line in out.splitlines()]
    printed = next(line for line in lines if line[:1] == ["printed"])
    ours = next(line for line in lines if line[:1] == ["ours"])
    assert printed[1:] == ["69.0", "70.9", "59.3", "61.0", "65.0"]
    assert 0 <= float(ours[1]) <= 100
    assert ours[2:] == ["-"] * 4  # one fold ran
    assert "other settings" in out
    code, out, err = output_of(start_command("verify", ROW, "--base", base, *TINY))
    assert code == 0, err
    assert "0 jobs left" in out


def test_a_dry_run_plans_the_row_and_starts_nothing(base: Path, tmp_path: Path) -> None:
    code, out = typed(ROW, "--base", base, "--dry-run", *TINY)
    assert code == 0
    assert "1 trials in 1 jobs" in out
    assert "hmfs" in out
    assert "69.0" in out
    assert not (tmp_path / "store").exists()


def test_a_dry_run_names_resources_that_this_machine_lacks(base: Path) -> None:
    code, message = typed(ROW, "--base", base, "--dry-run", *TINY, "--set", "resources.cpu=999")
    assert code == 2
    assert "needs 999 cores" in message


def test_a_public_list_that_was_not_imported_is_named_before_the_launch(base: Path) -> None:
    code, message = typed(ROW, "--base", base, "--dry-run")
    assert code == 2
    assert "needs the public list hsnet-train. Run `fssplat data import-lists" in message


def test_a_changed_setting_is_marked_as_different_from_the_row(base: Path) -> None:
    row = published.find(ROW)
    for changes, other in (((), False), (("grid.fold=[1]",), False), (("training.lr=1",), True)):
        request = RowRequest(row, base, changes)
        plan, _ = plan_from(request)
        assert differs(request, plan) is other


def test_the_hints_about_stale_results_can_be_typed(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = RowRequest(published.find(ROW), base, TINY[1:])
    plan, store = plan_from(request)
    perform(JobTask(plan.jobs[0], store.address, "l1"), RecordedNotes(), train_and_score)
    for module in (launching, rerun):
        monkeypatch.setattr(module, "freshness", lambda *_: "stale")
    hints = stale_note(request, *plan_from(request)).splitlines()
    commands = [hint.partition("fssplat verify ")[2] for hint in hints]
    again, changes = (shlex.split(command) for command in commands if command)
    assert (again[-2:], changes[-1]) == (["--rerun", "stale"], "--changes")
    assert "1 finished trials would run again" in typed(*again, "--dry-run")[1]
    code, output = typed(*changes)
    assert code == 0
    assert "Changes since 1 results were made" in output


def test_the_command_of_a_row_is_quoted_for_the_shell() -> None:
    request = RowRequest(published.find(ROW), Path("my base.yaml"), ("grid.fold=[1]",))
    expected = "fssplat verify HMFS:1:55 --base 'my base.yaml' --set 'grid.fold=[1]'"
    assert request.command("sync") == expected
    assert request.command("retry") == f"{expected} --retry"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("HFMS:2:1", "Did you mean HMFS?"),
        ("HMFS:9:1", "Known: Table 1, Table 2"),
        ("HMFS:2:99", "rows 1 to 40"),
        ("JC2A:1:1", "no method here is 'PGNet'"),
        ("JC2A:4:3", "a ratio of speeds"),
        ("", "`fssplat verify --list`"),
    ],
)
def test_a_wrong_row_is_answered_by_known_rows(base: Path, row: str, says: str) -> None:
    code, message = typed(row, "--base", base)
    assert code == 2
    assert says in message
    assert "\n" not in message


def test_the_list_fits_80_columns_with_whole_names_and_hides_what_cannot_run() -> None:
    code, out = typed("--list", columns=80)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    can_run = {row.name for row in published.rows() if not published.why_not_run(row)}
    names = {row.name for row in published.rows()}
    assert {word for word in out.split() if word in names} == can_run
    assert f"{len(can_run)} of {len(names)} rows can be run." in out
    assert "The others, with the reason: fssplat verify --list --all" in out
    code, out = typed("--list", "JC2A:4", "--all")
    assert code == 0
    assert "JC2A:4:3" in out
    assert "not run: speed_rel_to_NA_1shot is not re-run: a ratio" in " ".join(out.split())


def test_rows_are_listed_by_paper_and_table() -> None:
    code, out = typed("--list", "HMFS:5")
    assert code == 0
    assert "HMFS:5:24" in out
    assert "doubtful" in out
    assert "HMFS:4:" not in out
    code, message = typed("--list", "HFMS")
    assert code == 2
    assert "Did you mean HMFS?" in message


@pytest.mark.slow
def test_a_row_runs_in_the_smoke_profile_on_real_images(shared: Path, tmp_path: Path) -> None:
    build("pascal-5i", shared / "data" / "voc_mini", tmp_path / "data" / "pascal-5i")
    base = tmp_path / "base.yaml"
    shown = Path(__file__).parents[2] / "experiments" / "base.yaml"
    roots = f"datasets: {{pascal-5i: {{name: pascal-5i, root: {tmp_path}/data/pascal-5i}}}}"
    base.write_text(f"extends: {shown}\n{roots}\nstore: {tmp_path}/store\ntracking: none\n")
    smoke = ("--set", "profile=smoke", "--set", "grid.fold=[0]")
    code, out, err = output_of(start_command("verify", "JC2A:3:17", "--base", base, *smoke))
    assert code == 0, err
    ours = next(line.split() for line in out.splitlines() if line.strip().startswith("ours"))
    assert 0 <= float(ours[1]) <= 100

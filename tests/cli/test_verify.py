"""The command `fssplat verify`: output, errors and the rows that it can run."""

import shlex
from io import StringIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.errors import InputError
from fssplat.common.printing import Screen
from fssplat.data.build.convert import build
from fssplat.launching import launch as launching
from fssplat.launching import verify as verify_module
from fssplat.launching.launch import plan_from, stale_note
from fssplat.launching.verify import RowRequest, TableRequest, differs, show
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
       training_draw: image, min_area: 1, min_area_query: 1, draw: even, selection: last,
       short_classes: drop}}
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
    assert "1 trial in 1 job" in out
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
    assert "Changes since 1 result was made" in output


def test_the_command_of_a_row_is_quoted_for_the_shell() -> None:
    request = RowRequest(published.find(ROW), Path("my base.yaml"), ("grid.fold=[1]",))
    expected = "fssplat verify HMFS:1:55 --base 'my base.yaml' --set 'grid.fold=[1]'"
    assert request.command("sync") == expected
    assert request.command("retry") == f"{expected} --retry"


def test_a_table_is_run_in_one_launch_and_printed_with_the_difference(base: Path) -> None:
    request = TableRequest("MM-Net:A", base, TINY[1:])
    plan, store = plan_from(request)
    assert [trial.method.variant for trial in plan.trials.values()] == ["w/o FCM", "w/ FCM"]
    for job in plan.jobs:
        perform(JobTask(job, store.address, "l1"), RecordedNotes(), train_and_score)
    page = StringIO()
    show(request, Screen(file=page, width=80))
    lines = [line.split() for line in page.getvalue().splitlines()]
    assert ["MM-Net", "w/o", "FCM", "printed", "57.5", "68.7", "55.8", "53.7", "58.9"] in lines
    assert ["ours", "50.0", "-", "-", "-", "-"] in lines  # one fold ran
    assert ["difference", "-7.5", "-", "-", "-", "-"] in lines
    assert "other settings" in page.getvalue()


def test_a_dry_run_of_a_table_plans_its_rows_and_names_those_that_cannot_run(base: Path) -> None:
    code, out = typed("MiningFSS:4", "--base", base, "--dry-run", *TINY)
    assert code == 0
    assert "verify-miningfss-4: 2 trials in 2 jobs" in out
    assert "Not run (4 figures): CCT unlabeled source: training set, SimCLR" in out
    assert "training set + remaining: no such method here." in " ".join(out.split())
    assert "MiningFSS, Table 4, PASCAL-5i" in out


def test_rows_that_need_imagenet_run_where_its_images_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for folder, trials in ((str(tmp_path), 5), ("", 3)):
        monkeypatch.setenv("FSSPLAT_IMAGENET", folder)
        for kept in (verify_module._left_out, verify_module._parts):
            kept.cache_clear()
        request = TableRequest("MiningFSS:5")
        assert len(request.parts()) == trials
    assert {"MiningFSS:5:2", "MiningFSS:5:4"} == set(request.left_out())
    assert "$FSSPLAT_IMAGENET is not set" in request.left_out()["MiningFSS:5:2"]
    assert "3 of 5 rows can be run" in typed("--list", "MiningFSS:5")[1]


def test_the_settings_of_a_table_are_those_of_the_paper_until_one_is_changed(base: Path) -> None:
    for changes, other in (((), False), (("grid.fold=[1]",), False), (("training.lr=1",), True)):
        request = TableRequest("MM-Net:7", base, changes)
        plan, _ = plan_from(request)
        assert differs(request, plan) is other


def test_every_table_of_scores_starts_with_one_command() -> None:
    tables = dict.fromkeys((row.paper, row.table) for row in published.rows())
    assert len(tables) == 36
    for paper, table in tables:
        name = f"{paper}:{table.removeprefix('Table ')}"
        if name == "SD-AANet:III":  # parameters, memory and speed: `fssplat time`
            continue
        parts = TableRequest(name).parts()
        assert parts, name
        left_out = TableRequest(name).left_out()
        assert len({row.name for _, rows in parts for row in rows}) + len(left_out) == len(
            published.matching(name)
        )


def test_the_command_of_a_table_starts_it_again() -> None:
    request = TableRequest("SD-AANet:1", None, ("grid.fold=[1]",))
    assert request.command("retry") == "fssplat verify SD-AANet:1 --set 'grid.fold=[1]' --retry"
    assert request.typed().count("name: verify-sd-aanet-i-") == len(request.parts())


@pytest.mark.slow
def test_a_whole_table_runs_to_the_end(base: Path) -> None:
    command = ("verify", "MM-Net:A", "--base", base, *TINY)
    code, out, err = output_of(start_command(*command))
    assert code == 0, err
    ours = [line.split() for line in out.splitlines() if line.strip().startswith("ours")]
    assert len(ours) == 2
    assert all(0 <= float(line[1]) <= 100 for line in ours)
    code, out, err = output_of(start_command(*command, "--rerun", "all", "--dry-run"))
    assert code == 0, err
    assert "2 finished trials would run again" in out


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("HFMS:2:1", "Did you mean HMFS?"),
        ("HMFS:9:1", "Known: Table 1, Table 2"),
        ("HMFS:2:99", "rows 1 to 40"),
        ("JC2A:1:1", "no method here is 'PGNet'"),
        ("JC2A:4:3", "a ratio of speeds"),
        ("HMFS:9", "Known: Table 1, Table 2"),
        ("SD-AANet:III", "no row can be run"),
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

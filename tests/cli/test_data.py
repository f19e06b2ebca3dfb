"""`fssplat data ...` as typed: what it prints, and its exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fssplat.cli import data
from fssplat.data.build.convert import BuildReport
from fssplat.data.build.write_shards import BadImage
from fssplat.data.index import DatasetInfo
from tests.fakes.official_layouts import voc_layout

RUN = CliRunner()


def test_build_info_and_verify_follow_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = voc_layout(tmp_path / "official")
    monkeypatch.setenv("FSSPLAT_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    built = RUN.invoke(data.app, ["build", "pascal-5i", "--source", str(source), "--workers", "1"])
    assert built.exit_code == 0, built.output
    assert "pascal-5i, 20 classes, 6 train, 3 val images in 2 shards" in built.output
    assert "note: 1 SBD images are in VOC val and stay out of training" in built.output
    shown = RUN.invoke(data.app, ["info", "pascal-5i"])
    assert shown.exit_code == 0, shown.output
    assert "train (6)" in shown.output
    assert "aeroplane" in shown.output
    checked = RUN.invoke(data.app, ["verify", str(tmp_path / "pascal-5i")])
    assert checked.exit_code == 0, checked.output
    assert "9 images in 2 shards" in checked.output


def test_images_left_out_are_named_on_the_terminal(tmp_path: Path) -> None:
    source = voc_layout(tmp_path / "official")
    (source / "VOC2012/JPEGImages/t1.jpg").write_bytes(b"no picture")
    arguments = ["build", "pascal-5i", "--source", str(source), "--out", str(tmp_path / "built")]
    done = RUN.invoke(data.app, [*arguments, "--workers", "1", "--skip-bad"])
    assert done.exit_code == 0, done.output
    assert "left out: " in done.output
    assert "t1.jpg: the image cannot be read" in done.output
    assert "1 image left out" in done.output


def test_a_hostile_name_of_an_image_that_is_left_out_stays_on_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = DatasetInfo("synthetic", ("a",), "test", "", "f", {"train": 1}, ())
    bad = BadImage("1", "a\nleft out: b\x1b[2J.jpg: the image cannot be read")
    data._print_report(BuildReport(tmp_path, info, (bad,), ("a\nb",)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "note: a b",
        r"left out: a left out: b\x1b[2J.jpg: the image cannot be read",
    ]


@pytest.mark.parametrize("command", ["build", "info", "verify", "download"])
def test_every_help_has_an_example(command: str) -> None:
    shown = RUN.invoke(data.app, [command, "--help"])
    assert shown.exit_code == 0
    assert f"fssplat data {command} " in " ".join(shown.output.split())


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("audit", "--shot", "0"),
        ("audit", "--way", "0"),
        ("audit", "--episodes", "0"),
        ("audit", "--fold", "-1"),
        ("audit", "--seed", "-1"),
        ("build", "--train-images", "-3"),
        ("build", "--val-images", "0"),
        ("build", "--seed", "-1"),
        ("build", "--workers", "-1"),
        ("verify", "--workers", "-1"),
    ],
)
def test_a_number_that_cannot_be_is_a_line_about_its_option(
    command: str, option: str, value: str
) -> None:
    done = RUN.invoke(data.app, [command, "synthetic", option, value])
    assert done.exit_code == 2
    assert f"Invalid value for '{option}'" in done.output


def typed(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", "from fssplat.cli import main; main()", "data", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    source = voc_layout(tmp_path / "official")
    jpeg = source / "VOC2012/JPEGImages/t1.jpg"
    jpeg.write_bytes(jpeg.read_bytes()[:-300])
    out = tmp_path / "built"
    done = typed("build", "pascal-5i", "--source", str(source), "--out", str(out), "--workers", "1")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("fssplat: pascal-5i: 1 of 9 images cannot be used: ")
    assert "t1.jpg: the image cannot be read" in last
    assert last.endswith("leave these images out with --skip-bad.")


def test_a_missing_data_set_is_exit_code_2(tmp_path: Path) -> None:
    done = typed("info", str(tmp_path / "coco-20i"))
    assert done.returncode == 2
    assert done.stderr.startswith("fssplat: ")
    assert "fssplat data build coco-20i --source FOLDER --out" in done.stderr

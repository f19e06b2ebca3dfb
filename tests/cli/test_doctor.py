"""The command `fssplat doctor`: what it finds, and the remedy of each problem."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from fssplat.cli import app, doctor_checks
from fssplat.cli.doctor_checks import MISSING, OK, PROBLEM, Found
from fssplat.cli.doctor_torch import trial
from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.sources.record import SourceOptions
from tests.fakes.weight_files import write_weights

RUN = CliRunner()


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("FSSPLAT_WEIGHTS", "FSSPLAT_DATA", "RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    return tmp_path


def child(code: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answered(**found: object) -> list[Found]:
    """The lines for a PyTorch that reports this."""
    values = {"torch": "2.0", "torchvision": "0.1", "cuda": "", "gpus": {}, **found}
    return list(doctor_checks.torch_and_gpus(child(f"print({json.dumps(json.dumps(values))})")))


def test_a_healthy_machine_has_no_problem_and_lists_what_can_be_added() -> None:
    done = RUN.invoke(app, ["doctor"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert f"torch                 {torch.__version__}" in done.output
    for name in ("python", "ray", "mlflow", "optuna", "results", "loopback", "GPU"):
        assert f"ok       {name}" in done.output
    assert "missing  resnet50   " in done.output
    assert "https://download.pytorch.org/models/resnet50-0676ba61.pth" in done.output
    assert "missing  synthetic             data/synthetic: no data set there" in done.output
    assert "Run `fssplat data build synthetic`." in done.output
    assert done.output.endswith("No problem found.\n")


def test_a_problem_ends_with_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [Found(OK, "a", "fine"), Found(PROBLEM, "b", "broken. Mend it.")]
    monkeypatch.setattr(doctor_checks, "every_check", lambda: iter(lines))
    done = RUN.invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "problem  b                     broken. Mend it." in done.output


def test_a_gpu_that_computes_something_else_is_a_problem() -> None:
    gpus = {"0 H100": "", "1 H100": "CUDA error: no kernel image is available"}
    _, good, bad = answered(cuda="13.0", gpus=gpus)
    assert (good.state, good.name) == (OK, "GPU 0 H100")
    assert bad.state == PROBLEM
    assert "no kernel image" in bad.text


def test_a_gpu_that_torch_cannot_use_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    *_, found = answered()
    assert found.state == PROBLEM
    assert "this torch is built for the CPU" in found.text
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    *_, found = answered(cuda="13.0")
    assert "unset it" in found.text


def test_the_cpu_computes_what_the_cpu_computes() -> None:
    assert trial("cpu") == ""
    assert trial("cuda:99")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise RuntimeError('operator torchvision::nms does not exist')", "nms does not exist"),
        ("import os; os._exit(139)", "ended with code 139"),
        ("import time; time.sleep(60)", "no answer in"),
    ],
)
def test_a_torch_that_fails_or_hangs_costs_one_line(code: str, says: str) -> None:
    process = child(code)
    (found,) = doctor_checks.torch_and_gpus(process, patience_s=1 if "sleep" in code else 30)
    process.wait(10)
    assert found.state == PROBLEM
    assert says in found.text


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor_checks, "PACKAGES", ("no-such-package", "ray"))
    monkeypatch.setattr(doctor_checks, "tested_versions", lambda: {"ray": "0.1"})
    _, missing, other = doctor_checks.packages()
    assert missing.state == PROBLEM
    assert "-m pip install no-such-package`" in missing.text
    assert other.state == OK
    assert "(tested: 0.1)" in other.text


def test_weight_files_are_found_or_refused(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = empty_folder / "mine"
    folder.mkdir()
    monkeypatch.setenv("FSSPLAT_WEIGHTS", str(folder))
    own = write_weights(folder, "resnet50")
    (folder / "resnet101.pth").write_text("version https://git-lfs.github.com/spec/v1\n")
    (folder / "vgg16.pth").write_bytes(b"<!DOCTYPE html>" + bytes(2_000_000))
    cached = empty_folder / "hub" / "hub" / "checkpoints"
    cached.mkdir(parents=True)
    (cached / "vgg16_bn-6c64b313.pth").write_bytes(b"\x80\x02" + bytes(2_000_000))
    found = {one.name: one for one in doctor_checks.weights()}
    assert found["weights"].text.startswith(f"looked for in {folder} and weights. ")
    assert found["resnet50"] == Found(OK, "resnet50", f"{own}, 94 MB")
    assert found["resnet101"].state == PROBLEM
    assert "is a git-LFS pointer" in found["resnet101"].text
    assert found["vgg16"].state == PROBLEM
    assert found["vgg16_bn"].state == PROBLEM
    assert found["resnet50_v2"].state == MISSING
    assert str(folder / "resnet50_v2.pth") in found["resnet50_v2"].text
    monkeypatch.setenv("FSSPLAT_WEIGHTS", "/no/such/folder")
    assert next(doctor_checks.weights()).state == PROBLEM


def test_data_sets_are_found_or_refused(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSSPLAT_DATA", str(empty_folder / "sets"))
    options = SourceOptions(train_images=24, val_images=12)
    root = empty_folder / "sets" / "synthetic"
    build("synthetic", out=root, settings=BuildSettings(options=options))
    broken = empty_folder / "sets" / "pascal-5i"
    broken.mkdir()
    (broken / "dataset.json").write_text("{")
    found = {one.name: one for one in doctor_checks.data_sets()}
    assert found["synthetic"] == Found(OK, "synthetic", f"{root}: 24 train, 12 val images")
    assert found["pascal-5i"].state == PROBLEM
    assert "fssplat data build pascal-5i" in found["pascal-5i"].text
    assert found["coco-20i"].state == MISSING


def test_folders_that_cannot_be_used_are_problems(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = empty_folder / "file"
    file.write_text("")
    found = doctor_checks.writable("results", file, "Give another.")
    assert found.state == PROBLEM
    assert found.text.endswith("Give another.")
    monkeypatch.setenv("RAY_TMPDIR", f"/tmp/{'a' * 60}")
    assert "its path is too long for a socket" in doctor_checks.ray_folder().text
    monkeypatch.setenv("RAY_TMPDIR", str(file))
    assert doctor_checks.ray_folder().state == PROBLEM
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setattr(doctor_checks, "FREE_BYTES", 10**18)
    assert (
        "GB free. Give another." in doctor_checks.writable("x", empty_folder, "Give another.").text
    )


def test_services_are_asked_only_if_they_are_named(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(doctor_checks.services()) == []
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    ray, mlflow = doctor_checks.services()
    assert (ray.state, mlflow.state) == (PROBLEM, PROBLEM)
    assert "no Ray cluster answers" in ray.text
    assert "secret" not in mlflow.text
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{empty_folder}/new.db")
    assert [one.state for one in doctor_checks.services()] == [OK, OK]
    assert not (empty_folder / "new.db").exists()


def test_a_command_in_the_report_stays_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    command = "fssplat data build pascal-5i --source 'a folder of some length' --overwrite"
    lines = [Found(MISSING, "pascal-5i", f"It is not there at all. Run `{command}`.")]
    monkeypatch.setattr(doctor_checks, "every_check", lambda: iter(lines))
    done = RUN.invoke(app, ["doctor"], env={"COLUMNS": "80"})
    assert f"`{command}`.\n" in done.output

"""The script that `fssplat slurm` makes and sends."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fssplat.common.errors import InputError
from fssplat.launching.batch.slurm import SCRIPT, BatchOptions, batch_script, submit

OPTIONS = BatchOptions("small", limit_s=4 * 3600, partition="gpu", gpus=2, others=("mem-bind=q",))


def options_of(script: str) -> list[str]:
    return [line[10:] for line in script.splitlines() if line.startswith("#SBATCH --")]


def test_the_script_has_the_options_once_and_those_that_the_launch_needs() -> None:
    found = options_of(batch_script(OPTIONS, "fssplat slurm x.yaml", ["x.yaml"]))
    assert found == [
        "job-name=small",
        "partition=gpu",
        "time=240",
        "signal=B:TERM@300",
        "nodes=1",
        "gpus-per-node=2",
        "mem-bind=q",
        "ntasks-per-node=1",
        "requeue",
        "open-mode=append",
    ]


def test_a_short_limit_is_announced_after_two_thirds() -> None:
    short = replace(OPTIONS, limit_s=600)
    assert "signal=B:TERM@200" in options_of(batch_script(short, "", []))


def test_an_array_counts_from_0() -> None:
    assert "array=0-15%4" in options_of(batch_script(replace(OPTIONS, array="16%4"), "", []))
    assert "array=0-15" in options_of(batch_script(replace(OPTIONS, array="16"), "", []))


def test_the_script_launches_with_the_given_arguments(tmp_path: Path) -> None:
    chosen = replace(OPTIONS, setup=("export GREETING='two words'",), container="a b.sif")
    script = batch_script(chosen, "", ["my file.yaml", "--set", "name=it's"])
    whole, _, _ = script.partition("set -euo")
    said = whole + 'printf "%s\\n" "$GREETING" "$CONTAINER" "$@"\n'
    done = subprocess.run(["bash", "-c", said], capture_output=True, text=True, check=True)
    lines = ["two words", "a b.sif", "my file.yaml", "--set", "name=it's"]
    assert done.stdout.splitlines() == lines
    assert script.endswith(SCRIPT.read_text().partition("set -euo")[2])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"array": "0-15"}, "--array 0-15: not a number of tasks."),
        ({"array": "4", "nodes": 2}, "--nodes 2: a task of an array has one node."),
        ({"others": ("--mem=4G",)}, "--option --mem=4G: not an option of sbatch."),
        ({"others": ("a b",)}, "--option a b: not an option of sbatch."),
    ],
)
def test_options_that_sbatch_would_refuse_are_refused(change: dict[str, str], reason: str) -> None:
    with pytest.raises(InputError) as caught:
        batch_script(replace(OPTIONS, **change), "", [])
    assert str(caught.value).startswith(reason)


def test_a_machine_without_slurm_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=r"sbatch: not found, so this machine has no SLURM\."):
        submit("#!/bin/bash\n")

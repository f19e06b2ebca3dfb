"""Artefacts are computed once by all processes together, even if one is killed."""

import errno
import fcntl
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fssplat.common.locks import lock
from fssplat.engine.artefacts import ArtefactCache


def compute_and_note(folder: Path) -> dict[str, Tensor]:
    with (folder / "calls").open("a") as file:
        file.write("x")
    time.sleep(0.1)
    return {"centres": torch.arange(3.0)}


def ask(folder: Path) -> None:
    found = ArtefactCache(folder).get("key", lambda: compute_and_note(folder))
    assert found["centres"].tolist() == [0, 1, 2]


def hold(folder: Path) -> None:
    with lock(folder / "key.lock"):
        (folder / "held").touch()
        time.sleep(60)


def test_a_file_system_without_locks_has_artefacts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    ask(tmp_path)
    ask(tmp_path)
    assert (tmp_path / "calls").read_text() == "x"


@pytest.mark.slow
def test_processes_that_need_an_artefact_together_compute_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=ask, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert (tmp_path / "calls").read_text() == "x"


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path,))
    process.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    ask(tmp_path)


def test_a_damaged_artefact_is_computed_again(tmp_path: Path) -> None:
    ask(tmp_path)
    path = tmp_path / "key.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    ask(tmp_path)
    ask(tmp_path)
    assert (tmp_path / "calls").read_text() == "xx"


def test_a_failed_computation_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> dict[str, Tensor]:
        raise RuntimeError("no images")

    with pytest.raises(RuntimeError, match="no images"):
        ArtefactCache(tmp_path).get("key", fail)
    ask(tmp_path)

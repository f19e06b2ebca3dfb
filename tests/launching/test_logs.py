"""What jobs print in Ray's workers, and in the processes that load data there, is in their logs."""

import ctypes
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from torch.utils.data import DataLoader
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.launching import checks
from fssplat.launching.cluster import Cluster
from fssplat.launching.launch import Request, launch, plan_from
from fssplat.results.job_folder import LOG_FILE
from tests.fakes.engines import write_scores
from tests.fakes.experiment_files import experiment_without_images

pytestmark = pytest.mark.slow
SEEDS = 5  # more jobs than workers, so that a worker runs several


class PrintedItems:
    """A data set whose items print when they are loaded."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        print(f"item {index} of seed {self._seed}", flush=True)
        return index


def print_in_all_processes(one: Any, data: Any, folder: Path, emit: Any, *_: Any) -> None:
    seed = one.first.training.seed
    print(f"Python of seed {seed}")
    libc = ctypes.CDLL(None)
    libc.puts(f"C of seed {seed}".encode())
    libc.fflush(None)
    list(DataLoader(PrintedItems(seed), num_workers=2))  # type: ignore[arg-type]
    if seed == 1:
        raise KeyError("a name")
    write_scores(one, folder, emit)


def test_each_job_has_all_it_printed_and_nothing_of_another(
    tmp_path: Path, machines: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "check_data", lambda plan: None)
    seeds = list(range(SEEDS))
    grid = f"{{method: [panet], seed: {seeds}}}"
    path = experiment_without_images(tmp_path, grid=grid, tracking="none")
    out = StringIO()
    assert launch(Request(path), Console(file=out, width=200), print_in_all_processes) == 1
    plan, store = plan_from(Request(path))
    processes = set()
    for job in plan.jobs:
        seed = job.first.training.seed
        log = (store.files.read(f"jobs/{job.key}/{LOG_FILE}") or b"").decode()
        for line in ("Python", "C", "item 0", "item 1"):
            found = re.findall(rf"^{line} of seed (\d)$", log, re.M)
            assert found == [str(seed)], log
        processes |= set(re.findall(r"process (\d+),", log))
        assert ("KeyError: 'a name'\n" in log) is (seed == 1)
        assert log.endswith("--- failed: KeyError: 'a name'\n" if seed == 1 else "--- finished\n")
    assert len(processes) < SEEDS
    (command,) = re.findall(r"What it printed: fssplat (.*)", out.getvalue())
    shown = CliRunner().invoke(app, command.split())
    assert "item 1 of seed 1" in shown.output
    assert "Traceback" in shown.output

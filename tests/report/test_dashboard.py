"""Optuna's own dashboard reads the storage of a study as it is."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import optuna
import pytest

pytestmark = pytest.mark.slow


def json_at(address: str, timeout_s: float = 120) -> Any:
    """The JSON at an address, once its server answers."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.loads(answer.read())
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def test_optunas_dashboard_shows_the_points_of_a_stored_study(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/studies.db"
    study = optuna.create_study(storage=storage, study_name="pfenet", direction="maximize")
    study.enqueue_trial({"loss_weights.auxiliary": 1.0})
    study.optimize(lambda trial: -trial.suggest_float("loss_weights.auxiliary", 0, 2), n_trials=3)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    command = [str(program), storage, "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}/api/studies"
        (summary,) = json_at(address)["study_summaries"]
        assert summary["study_name"] == "pfenet"
        trials = json_at(f"{address}/{summary['study_id']}?after=0")["trials"]
        assert [trial["number"] for trial in trials] == [0, 1, 2]
        assert trials[0]["values"] == [-1.0]
    finally:
        server.terminate()
        server.wait(timeout=30)

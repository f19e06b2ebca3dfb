"""A claim has one holder at a time, and no holder after its process has ended."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from fssplat.results import claims
from fssplat.results.claims import claim, held
from fssplat.results.files import Files, LocalFiles, open_files


@pytest.fixture(params=["folder", "folder without locks", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """A store of each kind; some mounts of Lustre and FUSE answer a lock with an error."""
    if request.param == "folder without locks":
        monkeypatch.setattr(fcntl, "flock", refuse_to_lock)
    return open_files(f"memory://{tmp_path.name}" if request.param == "memory" else str(tmp_path))


def refuse_to_lock(file: object, operation: int) -> None:
    raise OSError(errno.ENOTSUP, "Operation not supported")


def write_foreign_claim(files: Files, beat: int = 7) -> None:
    note = {"owner": "launch-x", "host": "elsewhere", "token": "t", "beat": beat}
    files.write("jobs/k/claim", json.dumps(note).encode())


def test_a_claimed_name_is_refused_until_released(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "BEAT_S", 0.05)
    first = claim(files, "jobs/k/claim", "one")
    assert first is not None
    assert held(files, "jobs/k/claim")
    assert claim(files, "jobs/k/claim", "two", wait_s=1.0) is None
    first.release()
    assert not held(files, "jobs/k/claim")
    second = claim(files, "jobs/k/claim", "two", wait_s=0.2)
    assert second is not None
    second.release()


def test_a_claim_whose_counter_does_not_change_is_free(files: Files) -> None:
    write_foreign_claim(files)
    taken = claim(files, "jobs/k/claim", "one", wait_s=0.2)
    assert taken is not None
    taken.release()


def test_a_launch_waits_less_for_a_dead_claim_of_its_own(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "OWN_S", 0.5)
    write_foreign_claim(files)
    started = time.monotonic()
    taken = claim(files, "jobs/k/claim", "launch-x", wait_s=120.0)
    assert taken is not None
    assert time.monotonic() - started < 60.0
    taken.release()


def test_a_launch_does_not_take_over_from_its_own_worker_that_still_counts(files: Files) -> None:
    import threading

    write_foreign_claim(files)
    timer = threading.Timer(0.2, write_foreign_claim, (files, 8))
    timer.start()
    assert claim(files, "jobs/k/claim", "launch-x", wait_s=5.0) is None
    timer.join()


def test_a_holder_that_died_on_this_machine_is_not_waited_for() -> None:
    files = open_files("memory://died")
    process = subprocess.Popen(["true"])
    process.wait()
    note = {"owner": "x", "host": claims.host(), "pid": process.pid, "token": "t", "beat": 7}
    files.write("jobs/k/claim", json.dumps(note).encode())
    started = time.monotonic()
    taken = claim(files, "jobs/k/claim", "one", wait_s=120.0)
    assert taken is not None
    assert time.monotonic() - started < 60.0
    taken.release()


def test_a_claim_whose_counter_changes_is_not_taken_over(files: Files) -> None:
    import threading

    write_foreign_claim(files)
    timer = threading.Timer(0.2, write_foreign_claim, (files, 8))
    timer.start()
    assert claim(files, "jobs/k/claim", "one", wait_s=5.0) is None
    timer.join()


def test_the_claim_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path;"
        "from fssplat.results.claims import claim;"
        "from fssplat.results.files import LocalFiles;"
        "held = claim(LocalFiles(Path(sys.argv[1])), 'jobs/k/claim', 'one');"
        "print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    files = LocalFiles(tmp_path)
    assert claim(files, "jobs/k/claim", "two") is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    taken = claim(files, "jobs/k/claim", "two")
    assert taken is not None
    taken.release()


def test_only_one_process_takes_over_a_dead_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(claims, "SETTLE_S", 0.5)
    for turn in range(5):
        files = open_files(f"memory://two-takeovers-{turn}")
        write_foreign_claim(files)
        with ThreadPoolExecutor(4) as pool:
            take_over = partial(claim, files, "jobs/k/claim", wait_s=0.3)
            found = list(pool.map(take_over, "abcd"))
        holders = [one for one in found if one is not None]
        assert len(holders) == 1
        for one in holders:
            one.release()


def test_a_holder_notices_a_takeover_and_keeps_the_new_claim(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims, "BEAT_S", 0.05)
    files = open_files("memory://taken-over")
    first = claim(files, "jobs/k/claim", "one")
    assert first is not None
    write_foreign_claim(files)
    assert first.lost.wait(10)
    first.release()
    assert json.loads(files.read("jobs/k/claim") or b"{}")["owner"] == "launch-x"


def test_an_object_claim_of_an_ended_process_of_this_machine_is_free() -> None:
    files = open_files("memory://dead-holder")
    process = subprocess.Popen(["true"])
    process.wait()
    note = {"owner": "x", "host": claims.host(), "pid": process.pid, "token": "t", "beat": 7}
    files.write("jobs/k/claim", json.dumps(note).encode())
    assert not held(files, "jobs/k/claim")


def test_two_pid_namespaces_are_two_hosts() -> None:
    apart = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"]).returncode:
        pytest.skip("this machine makes no PID namespaces")
    code = "from fssplat.results.claims import host; print(host())"
    there = subprocess.check_output([*apart, sys.executable, "-c", code], text=True).strip()
    assert there != claims.host()
    assert there.rpartition("-")[0] == claims.host().rpartition("-")[0]  # else the same machine

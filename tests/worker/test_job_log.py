"""What a job prints is kept beside it."""

import ctypes
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from fssplat.common.errors import InputError
from fssplat.experiment.trial import Job
from fssplat.results.files import LocalFiles
from fssplat.results.job_folder import LOG_FILE, JobFolder
from fssplat.results.store import Store
from fssplat.worker import job_log
from fssplat.worker.claimed_job import perform
from fssplat.worker.job_log import JobLog, shortened
from fssplat.worker.job_task import JobTask
from tests.fakes.engines import RecordedNotes, write_scores
from tests.fakes.trials import job


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


@pytest.fixture(autouse=True)
def shown_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print warnings as Python does: pytest collects them."""

    def show(message: Any, category: Any, name: str, line: int, *_: Any) -> None:
        sys.stderr.write(warnings.formatwarning(message, category, name, line))

    monkeypatch.setattr(warnings, "showwarning", show)


def log_of(store: Store, one: Job) -> str:
    return (store.files.read(f"jobs/{one.key}/{LOG_FILE}") or b"").decode()


def print_in_every_way(one: Any, data: Any, folder: Path, emit: Any, *_: Any) -> None:
    print("from Python")
    print("an error line", file=sys.stderr)
    warnings.warn("a warning", stacklevel=1)
    os.write(1, b"from the descriptor\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"from C")
    libc.fflush(None)
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    write_scores(one, folder, emit)


def test_everything_that_a_job_prints_is_in_its_log_and_nothing_else(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    one, streams = job(), (sys.stdout, sys.stderr)
    print("before")
    perform(JobTask(one, store.address, "l1"), RecordedNotes(), print_in_every_way)
    print("after")
    os.write(2, b"after on the descriptor\n")
    log = log_of(store, one)
    for line in ("from Python", "an error line", "from the descriptor", "from C", "from a child"):
        assert log.count(f"{line}\n") == 1
    assert "UserWarning: a warning" in log
    assert "before" not in log
    assert "after" not in log
    assert (sys.stdout, sys.stderr) == streams
    out, err = capfd.readouterr()
    assert (out, err) == ("before\nafter\n", "after on the descriptor\n")


def test_each_attempt_has_a_header_and_its_end_and_a_warning_is_shown_in_each(
    store: Store,
) -> None:
    def fail(one: Any, data: Any, folder: Path, emit: Any, *_: Any) -> None:
        warnings.warn("the same place", stacklevel=1)
        raise ConnectionError("the bucket went away") if attempts == 1 else ValueError("shapes")

    one, attempts = job(), 1
    task = JobTask(one, store.address, "l1")
    with pytest.raises(ConnectionError):
        perform(task, RecordedNotes(), fail)
    attempts = 2
    perform(task, RecordedNotes(), fail)
    log = log_of(store, one)
    headers = re.findall(
        r"^--- attempt (\d): (.*), host (.*), process (\d+), launch l1$", log, re.M
    )
    assert [number for number, *_ in headers] == ["1", "2"]
    assert {process for *_, process in headers} == {str(os.getpid())}
    assert log.count("the same place") == 4  # the line of the warning and its source line, twice
    assert "Traceback (most recent call last)" in log
    assert log.endswith("--- failed: ValueError: shapes\n")


def test_an_input_error_has_no_traceback(store: Store) -> None:
    def fail(*_: Any) -> None:
        raise InputError("class a has 1 image.")

    one = job()
    perform(JobTask(one, store.address, "l1"), RecordedNotes(), fail)
    assert log_of(store, one).splitlines()[1:] == ["--- failed: class a has 1 image."]


def test_passwords_are_hidden_in_the_log(store: Store) -> None:
    def work(one: Any, data: Any, folder: Path, emit: Any, *_: Any) -> None:
        print("connected to postgresql://me:secret@host/db")
        raise ValueError("postgresql://me:secret@host/db?password=geheim is odd")

    one = job()
    perform(JobTask(one, store.address, "l1"), RecordedNotes(), work)
    log = log_of(store, one)
    assert "connected to postgresql://me:***@host/db" in log
    assert "secret" not in log
    assert "geheim" not in log


def test_a_long_log_keeps_its_beginning_its_end_and_all_headers() -> None:
    header = b"--- attempt %d: now\n"
    lines = b"".join(b"line %07d\n" % n for n in range(200_000))
    written = header % 1 + lines[: len(lines) // 2] + header % 2 + lines[len(lines) // 2 :]
    kept = shortened(written)
    assert len(kept) <= job_log.HEAD + job_log.TAIL + 200
    assert kept.startswith(header % 1 + b"line 0000000\n")
    assert kept.endswith(b"line 0199999\n")
    assert header % 2 in kept
    (left_out,) = re.findall(rb"^--- (\d+) bytes are left out here$", kept, re.M)
    again = shortened(kept + lines)
    (both,) = re.findall(rb"^--- (\d+) bytes are left out here$", again, re.M)
    assert header % 2 in again
    marker = len(b"--- %d bytes are left out here\n" % int(left_out))
    text = len(written) + len(lines)  # every byte is kept or counted; a header is both
    kept_text = len(again) - len(b"--- %d bytes are left out here\n" % int(both))
    assert marker > 0
    assert text <= kept_text + int(both) <= text + 3 * len(header)


def test_a_job_that_prints_without_end_fills_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("HEAD", 300), ("TAIL", 600), ("LONGEST", 1000)):
        monkeypatch.setattr(job_log, name, size)
    log = JobLog(tmp_path / LOG_FILE, "l1")
    log.start()
    for number in range(1000):
        print("line", number)
        if number % 50 == 0:
            log.keep_short()
            assert log.path.stat().st_size < 2500
    log.close("finished")
    text = log.path.read_text()
    assert text.splitlines()[1] == "line 0"
    assert text.endswith("line 999\n--- finished\n")
    assert len(text) < 1100


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_job_runs_if_its_log_cannot_be_opened(store: Store, kind: str) -> None:
    one = job()
    path = store.job_folder(one.key) / LOG_FILE
    path.parent.mkdir(parents=True)
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    task = JobTask(one, store.address, "l1")
    assert perform(task, RecordedNotes(), print_in_every_way).state == "finished"


def test_the_log_is_sent_to_a_store_behind_an_address(tmp_path: Path) -> None:
    one = job()
    address = f"memory://{tmp_path.name}"
    perform(JobTask(one, address, "l1"), RecordedNotes(), print_in_every_way)
    store = Store(address)
    assert "from a child" in log_of(store, one)
    assert not store.scratch.exists()


def test_the_end_of_the_log_of_a_killed_worker_is_sent_by_the_next_attempt(tmp_path: Path) -> None:
    one = job()
    store = Store(f"memory://{tmp_path.name}")
    folder = JobFolder(store, one.key)
    folder.download()
    store.files.write(f"jobs/{one.key}/{LOG_FILE}", b"first\n")
    (folder.folder / LOG_FILE).write_text("first\nlast words\n")
    JobFolder(store, one.key).download()
    assert log_of(store, one) == "first\nlast words\n"
    store.files.write(f"jobs/{one.key}/{LOG_FILE}", b"of another machine\n")
    JobFolder(store, one.key).download()
    assert (folder.folder / LOG_FILE).read_text() == "of another machine\n"
    assert not isinstance(store.files, LocalFiles)

"""A job reports its resources at fixed intervals."""

import mmap
import time
from pathlib import Path

import pytest

from fssplat.results.notes import JobUsage
from fssplat.results.store import Store
from fssplat.worker import resource_meter as usage
from fssplat.worker.claimed_job import perform
from fssplat.worker.job_task import JobTask
from fssplat.worker.resource_meter import Meter, resident_bytes
from tests.fakes.engines import RecordedNotes, score_after_pause
from tests.fakes.trials import job


def test_a_reading_is_due_every_ten_seconds() -> None:
    now = [100.0]
    meter = Meter(lambda: now[0])
    assert meter.read() is None
    now[0] = 111.0
    found = meter.read()
    assert found is not None
    seconds, values = found
    assert seconds == 11
    assert set(values) == {"process_cpu_percentage", "process_memory_megabytes"}
    assert meter.read() is None
    now[0] = 122.0
    assert meter.read() is not None


def test_cpu_use_is_of_this_process_since_the_last_reading() -> None:
    now = [0.0]
    meter = Meter(lambda: now[0])
    spent = time.process_time()
    while time.process_time() - spent < 0.2:
        sum(range(1000))
    now[0] = 20.0
    reading = meter.read()
    assert reading is not None
    _, values = reading
    assert 1.0 <= values["process_cpu_percentage"] < 50.0  # 0.2 s and a little of 20 s


def test_memory_is_the_current_size_of_the_process() -> None:
    before = resident_bytes()
    with mmap.mmap(-1, 50_000_000) as held:  # new pages: an allocator may hand out old ones
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        assert resident_bytes() - before > 40_000_000


def test_a_running_job_reports_its_resources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "EVERY_S", 0.0)
    monkeypatch.setattr("fssplat.worker.heartbeat.BEAT_S", 0.05)
    notes, one = RecordedNotes(), job()
    perform(JobTask(one, Store.open(str(tmp_path)).address, "l1"), notes, score_after_pause)
    told = [note for note in notes if isinstance(note, JobUsage)]
    assert told
    assert {note.key for note in told} == {one.key}
    assert all(note.values["process_memory_megabytes"] > 10 for note in told)

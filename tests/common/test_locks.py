import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from fssplat.common.locks import lock, try_lock


def test_a_second_holder_gets_nothing_until_the_first_releases(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    first = try_lock(path)
    assert first is not None
    assert try_lock(path) is None
    first.release()
    first.release()
    second = try_lock(path)
    assert second is not None
    second.release()


def test_a_lock_with_a_time_out_raises_after_it(tmp_path: Path) -> None:
    with lock(tmp_path / "lock"):
        start = time.monotonic()
        with pytest.raises(TimeoutError, match=r"still locked after 0\.3 s"):
            lock(tmp_path / "lock", timeout_s=0.3)
        assert time.monotonic() - start >= 0.3


def test_a_waiting_holder_gets_the_lock_when_it_is_released(tmp_path: Path) -> None:
    first = lock(tmp_path / "lock")
    threading.Timer(0.2, first.release).start()
    with lock(tmp_path / "lock", timeout_s=10):
        pass
    with lock(tmp_path / "lock"):
        pass


def _take_and_wait(path: Path, end: Connection) -> None:
    with lock(path):
        end.send("locked")
        time.sleep(60)


def test_a_killed_process_releases_its_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_take_and_wait, args=(tmp_path / "lock", theirs), daemon=True)
    process.start()
    assert ours.recv() == "locked"
    assert try_lock(tmp_path / "lock") is None
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with lock(tmp_path / "lock", timeout_s=5):
        pass

"""What is wrong with Ray before it starts: its address, its folder, the home folder; SIGHUP."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fssplat.common.errors import InputError
from fssplat.launching.ray_faults import address, folder
from fssplat.launching.ray_faults.address import check_address, host_and_port, ray_address
from fssplat.launching.ray_faults.folder import check_ray_folder, give_ray_a_token, ray_folder
from fssplat.launching.ray_faults.leftovers import (
    OWNER,
    mark_as_owned,
    remove_leftovers,
    temporary_folder,
)
from fssplat.launching.stop_request import StopRequest, stop_on_signals


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:6379", ("127.0.0.1", 6379)),
        ("head-1.cluster_a:1", ("head-1.cluster_a", 1)),
        ("[::1]:6379", ("::1", 6379)),
    ],
)
def test_an_address_is_host_and_port(text: str, parts: tuple[str, int]) -> None:
    assert host_and_port(text) == parts


@pytest.mark.parametrize(
    "text",
    ["garbage", ":6379", "head:", "head:0", "head:65536", "head:6379x", "head:99999999999999999999",
     "http://head:6379", "head/a:6379", "two words:6379", "he\nad:1", "-:1", "ray://head:10001",
     "head:²"],
)  # fmt: skip
def test_another_form_is_one_line_that_says_what_to_give(text: str) -> None:
    with pytest.raises(InputError, match=r"RAY_ADDRESS=10\.0\.0\.1:6379") as caught:
        check_address(text)
    assert "unset RAY_ADDRESS" in str(caught.value)


def test_local_and_an_empty_address_mean_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("", "  ", "local"):
        monkeypatch.setenv("RAY_ADDRESS", text)
        assert ray_address() == ""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        opened.listen()
        yield opened


def test_a_port_that_accepts_and_is_silent_is_refused_in_time(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "ANSWER_S", 0.3)
    with pytest.raises(InputError, match=r"no Ray cluster answers \(timed out\)"):
        check_address(f"127.0.0.1:{listener.getsockname()[1]}")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_another_server_is_no_ray(listener: socket.socket, answer: bytes) -> None:
    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(InputError, match="something else than Ray"):
        check_address(f"127.0.0.1:{listener.getsockname()[1]}")
    thread.join()


def test_a_port_at_which_nothing_listens_is_refused() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(InputError, match="Connection refused"):
            check_address(f"127.0.0.1:{free.getsockname()[1]}")


# ------------------------------------------------------------------ its folder


def test_a_folder_that_is_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too long for a socket; at most 37 bytes"):
        check_ray_folder(Path("/" + 37 * "d") / "ray")
    check_ray_folder(Path("/tmp/" + 32 * "d") / "ray")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    file = Path("/tmp") / f"{os.getpid()}.file"
    file.touch()
    try:
        with pytest.raises(InputError, match=r"cannot be written .*export RAY_TMPDIR=<folder>"):
            check_ray_folder(file / "ray")
    finally:
        file.unlink()
    with pytest.raises(InputError, match="cannot be written"):
        check_ray_folder(Path("/proc/nowhere/ray"))


def test_a_full_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "SPARE_BYTES", 10**18)
    with pytest.raises(InputError, match="MB free, Ray needs 1000000000000 MB"):
        check_ray_folder(Path("/tmp/ray"))


def test_our_rule_for_the_folder_is_that_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._common.utils import get_default_ray_temp_dir

    for variables in ({}, {"TMPDIR": "/a"}, {"TMPDIR": "/a", "RAY_TMPDIR": "/b"}):
        for name in ("TMPDIR", "RAY_TMPDIR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert str(ray_folder()) == get_default_ray_temp_dir()


def test_a_home_that_cannot_be_written_gives_ray_a_token_of_this_launch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    give_ray_a_token()
    assert "RAY_AUTH_TOKEN" not in os.environ
    monkeypatch.setenv("HOME", "/proc/nowhere")
    give_ray_a_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    monkeypatch.delenv("RAY_AUTH_TOKEN")


# ------------------------------------------------------------------ a terminal that closes


@pytest.fixture
def hangup_is_not_ignored() -> Iterator[None]:
    """Tests may run under `nohup`, which ignores SIGHUP in them and in what they start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup_is_not_ignored")
def test_sighup_stops_like_sigterm() -> None:
    stop = StopRequest()
    with stop_on_signals(stop):
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.requested.wait(5)
    assert stop.signal == signal.SIGTERM


def test_sighup_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopRequest()
        with stop_on_signals(stop):
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.requested.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


CLOSES_ITS_TERMINAL = """
import os, signal, sys
from fssplat.launching.ray_faults.leftovers import (
    OWNER,
    mark_as_owned,
    remove_leftovers,
    temporary_folder,
)
from fssplat.launching.stop_request import StopRequest, stop_on_signals
stop = StopRequest()
with stop_on_signals(stop):
    print("ready", flush=True)
    stop.requested.wait(20)
    print("a line", flush=True)
os._exit(7 if stop.signal == signal.SIGTERM else 1)
"""


@pytest.mark.usefixtures("hangup_is_not_ignored")
def test_output_after_the_terminal_has_closed_is_no_error() -> None:
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "import os, fcntl, termios; os.setsid(); "
         "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n" + CLOSES_ITS_TERMINAL],
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    assert b"ready" in os.read(ours, 100)
    os.close(ours)
    assert process.wait(timeout=20) == 7


# ------------------------------------------------------------------ what dead launches leave


def test_a_folder_is_removed_once_its_owner_has_ended(tmp_path: Path) -> None:
    owned, left, unmarked = (tmp_path / f"x-{name}" for name in ("owned", "left", "unmarked"))
    for one in (owned, left, unmarked):
        (one / "logs").mkdir(parents=True)
    (left / OWNER).touch()
    with mark_as_owned(owned):
        remove_leftovers(tmp_path, "x-*")
    assert (owned.exists(), left.exists(), unmarked.exists()) == (True, False, True)
    remove_leftovers(tmp_path, "x-*")
    assert (owned.exists(), unmarked.exists()) == (False, True)


def test_a_temporary_folder_is_removed_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_folder("fssplat-test-") as own, temporary_folder("fssplat-test-"):
        assert own.is_dir()
    assert not own.exists()


# ------------------------------------------------------------------ memory


def test_only_the_last_error_of_a_task_counts_as_out_of_memory() -> None:
    from fssplat.launching.tune_hooks import is_out_of_memory

    memory = "Failure # 1 (at 1)\n1 worker(s) were killed due to the node running low on memory.\n"
    other = "Failure # 2 (at 2)\nThe actor died unexpectedly.\n"
    assert is_out_of_memory(memory)
    assert not is_out_of_memory(memory + other)
    assert not is_out_of_memory("")

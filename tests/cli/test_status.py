"""The commands `fssplat status`, `stop`, `sync`, `gc` and `ui`: output and exit codes."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.errors import InputError
from fssplat.launching.launch import Request, plan_from
from tests.fakes.command_line import output_of, start_command
from tests.fakes.experiment_files import experiment_without_images

RUN = CliRunner()


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_every_state_is_counted_and_every_failure_has_its_reason(tmp_path: Path) -> None:
    path = experiment_without_images(tmp_path)
    plan, store = plan_from(Request(path))
    first, second, third, _ = plan.trials
    store.mark([first], "failed", "the bucket went away")
    store.mark([second], "running", job="k")
    (tmp_path / "work").mkdir()
    store.finish(plan.trials[third], third, tmp_path / "work", {"miou": 0.5})
    done = RUN.invoke(app, ["status", str(path)])
    assert done.exit_code == 0, done.output
    assert "4 trials" in done.output
    assert "2 pending" in done.output
    assert "1 finished" in done.output
    assert "1 failed" in done.output
    assert "the bucket went away" in done.output
    assert "was cut; the next launch goes on" in done.output
    assert third not in done.output
    assert third in RUN.invoke(app, ["status", str(path), "--all"]).output


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_screen_breaks_lines_between_words(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    path = experiment_without_images(tmp_path)
    plan, store = plan_from(Request(path))
    first = next(iter(plan.trials))
    reason = "InputError: class tram has 3 images in its fold and shot=5 needs 6 of them"
    store.mark([first], "failed", reason)
    said = RUN.invoke(app, ["status", str(path)]).output
    assert "…" not in said
    words = said.split()
    for word in (*plan.trials[first].title.split(), first, *reason.split(), "failed", "state"):
        assert word in words or f"{word}," in words


def test_stop_asks_every_running_launch_and_says_if_there_is_none(tmp_path: Path) -> None:
    from fssplat.results.claims import claim

    path = experiment_without_images(tmp_path)
    assert "No launch of small is running on" in RUN.invoke(app, ["stop", str(path)]).output
    _, store = plan_from(Request(path))
    held = claim(store.files, "launches/l1/claim", "l1")
    assert held is not None
    with held:
        assert "l1: asked to stop" in RUN.invoke(app, ["stop", str(path)]).output
    assert store.stop_requested("l1")


def test_gc_counts_removable_files_and_deletes_them(tmp_path: Path) -> None:
    path = experiment_without_images(tmp_path)
    plan, store = plan_from(Request(path))
    job = plan.jobs[0]
    store.mark(job.trial_ids, "skipped", "nothing to score")
    store.files.write(f"jobs/{job.key}/checkpoints/step-1.safetensors", b"0" * 1_000_000)
    shown = RUN.invoke(app, ["gc", str(path), "--dry-run"]).output
    assert "1 file, 1.0 MB would be deleted" in shown
    assert "1 file, 1.0 MB deleted" in RUN.invoke(app, ["gc", str(path)]).output
    assert "0 files" in RUN.invoke(app, ["gc", str(path)]).output


def test_sync_fails_with_a_message_if_the_server_does_not_answer(tmp_path: Path) -> None:
    path = experiment_without_images(tmp_path, tracking="http://127.0.0.1:9")
    done = RUN.invoke(app, ["sync", str(path)])
    assert done.exit_code == 1
    assert "MLflow is not available" in done.output


def test_ui_prints_the_address_of_a_remote_server(tmp_path: Path) -> None:
    path = experiment_without_images(tmp_path, tracking="http://head:5000")
    assert "this experiment is http://head:5000" in RUN.invoke(app, ["ui", str(path)]).output


@pytest.mark.parametrize("command", ["sync", "ui"])
def test_without_tracking_there_is_nothing_to_sync_or_show(tmp_path: Path, command: str) -> None:
    path = experiment_without_images(tmp_path, tracking="none")
    done = RUN.invoke(app, [command, str(path)])
    assert isinstance(done.exception, InputError)
    assert done.output == ""
    assert "MLflow is off for this experiment" in str(done.exception)
    assert "--set tracking=sqlite" in str(done.exception)


def test_ui_reports_a_port_in_use_in_one_line(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = RUN.invoke(app, ["ui", str(experiment_without_images(tmp_path)), "--port", port])
    assert isinstance(done.exception, InputError)
    assert str(done.exception).startswith(f"--port {port}: cannot be used (Address already in use)")
    assert done.output == ""


@pytest.mark.slow
def test_ui_serves_the_experiment_on_loopback_only(tmp_path: Path) -> None:
    import signal
    import socket
    import subprocess
    import time
    import urllib.request

    path = experiment_without_images(tmp_path)
    (tmp_path / "store").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start_command("ui", path, "--port", str(port))
    try:
        answer = b""
        end = time.monotonic() + 120
        while not answer and time.monotonic() < end:
            time.sleep(0.5)
            try:
                answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/health").read()
            except OSError:
                continue
        assert answer == b"OK"
        asked = "api/2.0/mlflow/experiments/get-by-name?experiment_name=small"
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/{asked}").status == 200
        running = subprocess.check_output(["ps", "-ww", "-eo", "args"], text=True)
        assert f"--port {port}" in running
        assert str(tmp_path / "store" / "mlflow.db") not in running  # may hold a password
    finally:
        process.send_signal(signal.SIGINT)
        code, _, _ = output_of(process, 60)
    assert code == 0


def failed_job(path: Path, log: bytes | None = None, error: bytes | None = None) -> tuple[str, str]:
    """Mark the first trial as failed and write its job's files; returns its id and title."""
    plan, store = plan_from(Request(path))
    one = plan.jobs[0]
    store.mark([one.trial_ids[0]], "failed", "ValueError: shapes", one.key)
    for name, data in (("log.txt", log), ("error.txt", error)):
        if data is not None:
            store.files.write(f"jobs/{one.key}/{name}", data)
    return one.trial_ids[0], one.trials[0].title


def test_logs_shows_what_the_failed_jobs_printed_and_status_names_the_command(
    tmp_path: Path,
) -> None:
    path = experiment_without_images(tmp_path)
    assert "No trial has failed" in RUN.invoke(app, ["logs", str(path)]).output
    log = b"\x1b[31mred\x1b[0m\r\n10 %\r50 %\r100 %\npostgresql://me:secret@host/x\n\x1b[2Jend\n"
    trial_id, title = failed_job(path, log)
    command = f"fssplat logs {path} {trial_id}"
    assert command in RUN.invoke(app, ["status", str(path)]).output
    found = RUN.invoke(app, ["logs", str(path)])
    assert found.exit_code == 0
    assert found.output.splitlines()[1:] == [
        f"  {trial_id}  {title}: failed, ValueError: shapes",
        "red", "100 %", "postgresql://me:***@host/x", r"\x1b[2Jend",
    ]  # fmt: skip
    store = ["--store", str(tmp_path / "store")]
    for words in ([str(path), trial_id], [str(path), trial_id[:6]], [trial_id, *store], store):
        assert "100 %" in RUN.invoke(app, ["logs", *words]).output
    last = RUN.invoke(app, ["logs", str(path), trial_id, "--lines", "1"]).output.splitlines()
    assert last[-1] == r"\x1b[2Jend"
    assert f"... 3 lines before. All of them: {command}" in last


def test_logs_finds_trials_by_words_of_their_titles(tmp_path: Path) -> None:
    path = experiment_without_images(tmp_path)
    trial_id, _ = failed_job(path, b"printed\n")
    found = RUN.invoke(app, ["logs", str(path), "PANET 1-shot"]).output
    assert trial_id in found
    assert "printed" in found
    assert "Nothing is kept" in found  # of the other job, which has not run
    nothing = RUN.invoke(app, ["logs", str(path), "hsnet"])
    assert isinstance(nothing.exception, InputError)
    assert "no trial has 'hsnet'" in str(nothing.exception)
    unknown = RUN.invoke(app, ["logs", "../x", "--store", str(tmp_path / "store")])
    assert "no trial has the id '../x'" in str(unknown.exception)


def test_logs_shows_the_traceback_that_an_older_version_kept(tmp_path: Path) -> None:
    path = experiment_without_images(tmp_path)
    failed_job(path, error=b"Traceback (most recent call last)\n")
    assert "Traceback" in RUN.invoke(app, ["logs", str(path)]).output

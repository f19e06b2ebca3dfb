"""A real Postgres server on loopback, from the system's binaries, that ends with the test."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

PLACES = "/usr/lib/postgresql"  # Debian keeps a folder per version here
USERS = ("postgres", "nobody")  # the server refuses to run as root
START_S = 120.0


def binaries() -> Path | None:
    """The folder of the newest server's programs; None if none is installed."""
    versions = sorted(Path(PLACES).glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    return Path(found).parent if found else None


@contextmanager
def postgres_server() -> Iterator[str]:
    """The address of an empty database `test`; skips the test if Postgres is not installed."""
    programs = binaries()
    if programs is None:
        pytest.skip("Postgres is not installed (apt-get install postgresql)")
    as_user = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="fssplat-postgres-"))
    try:
        if "user" in as_user:
            os.chown(folder, as_user["user"], as_user["group"])
        data, port = folder / "data", free_port()
        options = ["--auth=trust", "--username=test", "--no-sync", "--encoding=UTF8", "--no-locale"]
        _run([programs / "initdb", "-D", data, *options], as_user)
        settings = [
            "listen_addresses=127.0.0.1",
            f"port={port}",
            f"unix_socket_directories={folder}",
        ]
        settings += ["fsync=off", "max_connections=60"]
        chosen = [part for one in settings for part in ("-c", one)]
        process = subprocess.Popen(
            [str(programs / "postgres"), "-D", str(data), *chosen],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **as_user,
        )
        try:
            yield _create_database(port, process)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _create_database(port: int, process: "subprocess.Popen[bytes]") -> str:
    """Wait until the server answers, create the database and return its address."""
    import psycopg2

    end = time.monotonic() + START_S
    while True:
        assert process.poll() is None, "postgres ended at once"
        try:
            connection = psycopg2.connect(
                host="127.0.0.1", port=port, user="test", dbname="postgres", connect_timeout=5
            )
            break
        except psycopg2.OperationalError:
            assert time.monotonic() < end, "postgres did not answer"
            time.sleep(0.1)
    with closing(connection):
        connection.autocommit = True
        connection.cursor().execute("create database test")
    return f"postgresql://test@127.0.0.1:{port}/test"


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _unprivileged() -> dict[str, Any]:
    """Options of Popen that run the child as another user if this process is root's."""
    if os.getuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in USERS:
        if name in known:
            entry = known[name]
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    return pytest.skip("Postgres does not run as root, and there is no user `postgres` or `nobody`")


def _run(command: list[Any], as_user: dict[str, Any]) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
        cwd="/",
        **as_user,
    )
    assert done.returncode == 0, done.stderr

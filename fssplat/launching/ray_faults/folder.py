"""The folder for Ray's sockets and logs on this machine: whether Ray can start in it."""

import os
import secrets
import shutil
from pathlib import Path

from fssplat.common.errors import InputError
from fssplat.results.files import nearest_existing, try_to_write

SPARE_BYTES = 20_000_000  # for the logs of Ray's processes in one launch
SOCKET_PATH_BYTES = 107  # the longest path of a socket in Linux
# The longest path that Ray adds: the time, its process number, the name of a socket.
ADDED = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1"


def ray_folder() -> Path:
    """The folder in which Ray makes one folder per session, as Ray 2.60 chooses it."""
    parent = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return Path(parent) / "ray"


def check_ray_folder(folder: Path) -> None:
    """Raises InputError if Ray could not make its sockets and logs in `folder`."""
    longest = SOCKET_PATH_BYTES - len(os.fsencode(f"/ray/{ADDED}"))
    if len(os.fsencode(folder / ADDED)) > SOCKET_PATH_BYTES:
        raise _refused(
            folder, f"its path is too long for a socket; at most {longest} bytes before `/ray`"
        )
    try:
        try_to_write(folder)
    except OSError as error:
        raise _refused(folder, f"cannot be written ({error.strerror or error})") from error
    free = shutil.disk_usage(nearest_existing(folder)).free
    if free < SPARE_BYTES:
        needed = f"Ray needs {SPARE_BYTES // 1_000_000} MB"
        raise _refused(folder, f"{free // 1_000_000} MB free, {needed}")


def give_ray_a_token() -> None:
    """Set RAY_AUTH_TOKEN if Ray could not save its token, which it keeps in the home folder.

    Ray's processes on this machine get it from this process, so one launch needs no file.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    try:
        home = Path.home() / ".ray"
        if not (home / "auth_token").is_file():
            home.mkdir(parents=True, exist_ok=True)
            try_to_write(home)
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _refused(folder: Path, reason: str) -> InputError:
    return InputError(
        f"{folder}, the folder for Ray's sockets and logs: {reason}. Give another one, on a disk "
        "of this machine: export RAY_TMPDIR=<folder>"
    )

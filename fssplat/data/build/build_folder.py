"""The folder of a build: file names, the lock against a second build, and whole files."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fssplat.common.disk_space import is_disk_full
from fssplat.common.errors import InputError
from fssplat.common.locks import try_lock
from fssplat.common.whole_files import write_bytes
from fssplat.data.shards import no_room, not_written

STATE_FOLDER = ".build"  # one JSON file per finished shard, until dataset.json is written


def state_path(folder: Path, file: str) -> Path:
    """The JSON file that describes a finished shard of an unfinished build."""
    return folder / STATE_FOLDER / f"{file}.json"


@contextmanager
def only_build_in(folder: Path) -> Iterator[None]:
    """Make the folder and lock it; the kernel releases the lock when the process ends.

    Raises InputError if another build runs in the folder, or if it cannot be written.
    """
    made = next((one for one in (*reversed(folder.parents), folder) if not one.exists()), None)
    try:
        (folder / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
        taken = try_lock(folder / ".lock")
    except OSError as error:
        raise InputError(
            f"{folder}: cannot write there ({error.strerror}). Give another --out."
        ) from error
    if taken is None:
        raise InputError(f"{folder}: another build is running there. Wait for it.")
    with taken:
        try:
            yield
        except InputError:
            if made is not None:
                _remove_if_unused(folder, made)
            raise


def _remove_if_unused(folder: Path, made: Path) -> None:
    """Remove the folder of a build that has written nothing, and the parents made for it.

    `made` is the uppermost of them.
    """
    if {one.name for one in folder.iterdir()} - {STATE_FOLDER, ".lock"}:
        return
    with suppress(OSError):
        (folder / STATE_FOLDER).rmdir()  # if no shard is finished
        (folder / ".lock").unlink()
        for one in (folder, *folder.parents):
            one.rmdir()
            if one == made:
                break


def write_file(path: Path, content: bytes) -> None:
    """Write the complete file or none. Raises InputError if that fails."""
    try:
        write_bytes(path, content)
    except OSError as error:
        raise (no_room(path) if is_disk_full(error) else not_written(path, error)) from error

"""Several experiment files in one command: all are checked first, then run one after the other."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from fssplat.common.printing import Screen
from fssplat.launching.launch import Request, dry_run, launch
from fssplat.planning.share import Share
from fssplat.results.launch_listener import LaunchListener
from fssplat.worker.claimed_job import Work

STOPPED = (130, 143)  # exit codes of a launch that was stopped
Listeners = Callable[[], Sequence[LaunchListener]]  # makes new ones for each launch


def requests_for(
    paths: Sequence[Path], changes: tuple[str, ...], rerun: tuple[str, ...] = ()
) -> list[Request]:
    """A request for each file; one that is given twice counts once.

    The command that resumes a file also names the files after it.
    """
    files = list(dict.fromkeys(paths))
    return [
        Request(path, changes, following=tuple(files[number:]), rerun=rerun)
        for number, path in enumerate(files, 1)
    ]


def launch_all(
    requests: Sequence[Request],
    listeners: Listeners,
    console: Console | None = None,
    work: Work | None = None,
    share: Share | None = None,
) -> int:
    """Launch each request; a failed trial does not stop the next file. Returns the highest code.

    A stopped launch ends the command. Raises InputError before anything starts if one of the files
    cannot be launched.
    """
    console = console or Screen()
    if len(requests) > 1:
        for request in requests:
            dry_run(request, Screen(quiet=True), listeners())
        console.print(f"{len(requests)} files, one after the other.")
    worst = 0
    for number, request in enumerate(requests, 1):
        if len(requests) > 1:
            console.print(f"\nFile {number} of {len(requests)}: {request.path}")
        code = launch(request, console, work, listeners(), share)
        if code in STOPPED:
            return code
        worst = max(worst, code)
    return worst


def dry_run_all(requests: Sequence[Request], console: Console, listeners: Listeners) -> None:
    """Check and print the plan of each request, start nothing. Raises InputError."""
    for request in requests[1:]:  # before the plan of the first is printed
        request.load()
    for request in requests:
        dry_run(request, console, listeners())

"""`fssplat logs` of a search: what its points printed."""

import re
from typing import TYPE_CHECKING

from fssplat.cli.log_text import LAST_LINES, print_log
from fssplat.common.errors import InputError
from fssplat.common.printing import say

if TYPE_CHECKING:
    from fssplat.launching.launch import Request

POINT = re.compile(r"(?:point )?(\d{1,9})")
END = re.compile(rb"^--- (?!attempt |\d+ bytes)([^\n]*)\n*\Z", re.M)  # the last line of a log
BAD = ("failed", "diverged")


def show_points(request: "Request", words: str, lines: int | None) -> bool:
    """Print the log of a point, or of those that failed, else of those that run.

    Returns False, and prints nothing, if the file is no search, if no point has a log, or if
    `words` name a trial. Raises InputError for the number of a point without a log.
    """
    number = POINT.fullmatch(words)
    if (words and not number) or not request.load().search:
        return False
    logs = _logs(request)
    if not logs:
        return False
    if number and int(number[1]) not in logs:
        known = ", ".join(map(str, sorted(logs)))
        raise InputError(f"{request.path}: point {number[1]} has no log. These have one: {known}.")
    ends = {one: _end(log) for one, log in logs.items()}
    chosen = [int(number[1])] if number else _bad(ends)
    if not chosen:
        say("No point has failed and none runs. To see another one, name it:")
        say(f"    {request.command('logs')} {max(logs)}")
    for one in chosen:
        say(f"point {one}: {ends[one] or 'no end is recorded: it runs, or its worker died'}")
        last = lines or (LAST_LINES if len(chosen) > 1 else None)
        print_log(logs[one], last, f"{request.command('logs')} {one}")
    return True


def _logs(request: "Request") -> dict[int, bytes]:
    """The logs of the study's points, by number."""
    from fssplat.results.store import Store
    from fssplat.search.prepare import name_of_study
    from fssplat.search.reading import load_search
    from fssplat.search.worker import point_logs

    search = load_search(request.path, request.changes)
    return point_logs(Store(search.experiment.store), name_of_study(search))


def _bad(ends: dict[int, str]) -> list[int]:
    failed = [one for one, end in ends.items() if end.partition(":")[0] in BAD]
    return failed or [one for one, end in ends.items() if not end]


def _end(log: bytes) -> str:
    """How the last attempt ended, e.g. `failed: shapes`; empty if that is not recorded."""
    found = END.search(log)
    return found[1].decode("utf-8", "replace") if found else ""

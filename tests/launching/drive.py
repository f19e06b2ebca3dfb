"""A launch in a process of its own: python -m tests.launching.drive WORK X.yaml [key=value ...]

WORK names what stands in for the engine, a function of tests/launching/jobs.py.
"""

import sys
from pathlib import Path

from rich.console import Console

from fssplat.common.errors import InputError
from fssplat.launching import launch as launching
from fssplat.launching.launch import Request, launch
from tests.launching import jobs


def main(work: str, path: str, *changes: str) -> int:
    if work != "careful":  # the others need no pictures, so there are none to check
        launching.check_data = lambda plan: None
    try:
        return launch(Request(Path(path), changes), Console(width=200), getattr(jobs, work))
    except InputError as error:
        print(f"fssplat: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Run a launch: python -m tests.fakes.processes.launch ENGINE X.yaml [key=value ...] [--share I/N]

ENGINE names a function of tests/fakes/engines.py that replaces the engine.
"""

import sys
from pathlib import Path

from rich.console import Console

from fssplat.common.errors import InputError
from fssplat.launching import checks
from fssplat.launching.launch import Request, launch
from fssplat.planning.share import Share
from fssplat.tracking.launch_listener import MlflowListener
from tests.fakes import engines


def main(engine: str, path: str, *changes: str) -> int:
    if engine != "run_engine_slowly":  # the others read no images, so there are none to check
        checks.check_data = lambda plan: None
    try:
        *settings, share = changes if "--share" in changes else (*changes, "")
        share_of = Share.parse(share) if share else None
        kept = tuple(one for one in settings if one != "--share")
        request, console = Request(Path(path), kept), Console(width=200)
        work = getattr(engines, engine)
        return launch(request, console, work, [MlflowListener()], share_of)
    except InputError as error:
        print(f"fssplat: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Run a launch: python -m tests.fakes.processes.launch ENGINE X.yaml [key=value ...]

ENGINE names a function of tests/fakes/engines.py that replaces the engine.
"""

import sys
from pathlib import Path

from rich.console import Console

from fssplat.common.errors import InputError
from fssplat.launching import checks
from fssplat.launching.launch import Request, launch
from fssplat.tracking.launch_listener import MlflowListener
from tests.fakes import engines


def main(engine: str, path: str, *changes: str) -> int:
    if engine != "run_engine_slowly":  # the others read no images, so there are none to check
        checks.check_data = lambda plan: None
    try:
        request, console = Request(Path(path), changes), Console(width=200)
        return launch(request, console, getattr(engines, engine), [MlflowListener()])
    except InputError as error:
        print(f"fssplat: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

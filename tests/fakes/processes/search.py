"""Run a search with Ray: python -m tests.fakes.processes.search X.yaml OBJECTIVE [--here].

OBJECTIVE is a key of OBJECTIVES in tests/fakes/searches.py. With `--here` the points run one after
the other in this process, without Ray.
"""

import sys
from pathlib import Path

from fssplat.launching.launch import Request
from fssplat.search.driver import search
from tests.fakes.searches import OBJECTIVES, search_without_ray

if __name__ == "__main__":
    path, objective = Path(sys.argv[1]), OBJECTIVES[sys.argv[2]]
    if "--here" in sys.argv:
        search_without_ray(path, objective)
    else:
        sys.exit(search(Request(path), objective=objective))

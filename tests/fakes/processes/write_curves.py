"""Write a loss curve to one MLflow run: python -m tests.fakes.processes.write_curves URI RUN."""

import sys

from fssplat.results.notes import LossAtStep
from fssplat.tracking.runs import open_tracking

BATCHES, POINTS = 5, 40


def main(uri: str, run_id: str) -> None:
    tracking = open_tracking(uri, "many")
    for batch in range(BATCHES):
        steps = range(batch * POINTS + 1, (batch + 1) * POINTS + 1)
        tracking.log_curve(
            run_id, [LossAtStep(step, {"total": float(step)}, 0.1) for step in steps]
        )


if __name__ == "__main__":
    main(*sys.argv[1:])

"""`fssplat gc`: give back what no result needs."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET


def gc(
    experiment: Path = EXPERIMENT,
    changes: list[str] = SET,
    weights: bool = typer.Option(False, help="Also drop the trained weights of finished jobs."),
    dry_run: bool = typer.Option(False, help="Only say what would go."),
) -> None:
    """Remove unfinished files and the resume state of finished jobs: fssplat gc X.yaml

    Results stay. Nothing of a job that runs or still has to run is touched.
    """
    from fssplat.launching.launch import Request, plan_from
    from fssplat.results.maintenance import removable_files

    plan, store = plan_from(Request(experiment, tuple(changes)))
    found = removable_files(plan.jobs, plan.states, store, weights)
    if not dry_run:
        for name in found:
            store.files.delete(name)
    size = sum(found.values()) / 1e6
    print(f"{len(found)} files, {size:.1f} MB {'would go' if dry_run else 'removed'}.")

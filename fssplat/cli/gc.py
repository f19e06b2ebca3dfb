"""`fssplat gc`: delete files that no result needs."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET
from fssplat.common.printing import counted, say


def gc(
    experiment: Path = EXPERIMENT,
    changes: list[str] = SET,
    weights: bool = typer.Option(False, help="Also delete the trained weights of finished jobs."),
    dry_run: bool = typer.Option(False, help="Only print how much would be deleted."),
) -> None:
    """Delete unfinished files and the checkpoints of finished jobs: fssplat gc X.yaml

    Results are kept, and so are all files of jobs that are running or have not finished.
    """
    from fssplat.launching.launch import Request, plan_from
    from fssplat.results.maintenance import removable_files

    plan, store = plan_from(Request(experiment, tuple(changes)))
    found = removable_files(plan.jobs, plan.states, store, weights)
    if not dry_run:
        for name in found:
            store.files.delete(name)
    size = sum(found.values()) / 1e6
    done = "would be deleted" if dry_run else "deleted"
    say(f"{counted(len(found), 'file')}, {size:.1f} MB {done}.")

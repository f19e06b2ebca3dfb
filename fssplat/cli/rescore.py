"""`fssplat rescore`: add to older trials what their report lacks, without training."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET


def rescore(experiment: Path = EXPERIMENT, changes: list[str] = SET) -> None:
    """Score finished trials again for their report: fssplat rescore experiments/quickstart.yaml

    Trials that are older than the record of wrong pixels and of the sizes of supports get it: from
    their kept masks, or from their stored weights. Nothing is trained, and no number of a trial
    changes. Trials that have the record are left alone, so the command can be repeated.
    """
    from fssplat.cli.progress_bar import Steps
    from fssplat.common.printing import say
    from fssplat.launching.launch import Request, plan_from
    from fssplat.results.store import Store
    from fssplat.worker.rescoring import rescore as rescored

    plan, _ = plan_from(Request(experiment, tuple(changes)))
    store = Store.open(plan.experiment.store)
    with Steps() as step:
        found = rescored(plan, store, say, step)
    say(found.sentence)
    if found.failed:
        raise typer.Exit(1)

"""`fssplat compare`: is one method better than another?"""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssplat.cli.options import SET

if TYPE_CHECKING:
    from fssplat.report.evidence.gather import Evidence


def compare(
    first: str = typer.Argument(help="METHOD or METHOD@BACKBONE with --of, or the id of a trial."),
    second: str = typer.Argument(help="What it is compared with, of the same kind."),
    experiment: Path | None = typer.Option(
        None, "--of", metavar="X.yaml", help="The experiment of the methods.", show_default=False
    ),
    changes: list[str] = SET,
    store: str = typer.Option("results", "--store", help="The store of the trials, for ids."),
) -> None:
    """Compare two methods or trials on the same episodes.

    fssplat compare pfenet hsnet --of experiments/quickstart.yaml

    Prints both rows, their difference, and its 95 % intervals over query images and over classes.
    """
    from fssplat.common.errors import InputError
    from fssplat.common.printing import Screen, command_line
    from fssplat.report.evidence.by_id import is_id
    from fssplat.report.terminal.pair import named_pairs, pair_of_ids, pair_table

    screen = Screen()
    if experiment is not None:
        evidence = _of_experiment(experiment, changes)
        for found in named_pairs(evidence, first, second):
            screen.print(pair_table(*found, evidence))
        return
    for name in (first, second):
        if not is_id(name):
            again = command_line(["fssplat", "compare", first, second, "--of", "X.yaml"])
            raise InputError(
                f"{name}: not the id of a trial. For methods name their experiment: `{again}`."
            )
    evidence = evidence_of_ids(store, [first, second])
    screen.print(pair_table(*pair_of_ids(evidence, first, second), evidence))


def _of_experiment(path: Path, changes: list[str]) -> "Evidence":
    from fssplat.cli.report import source
    from fssplat.report.evidence.gather import Evidence

    evidence = Evidence([source(path, changes)])
    evidence.check()
    return evidence


def evidence_of_ids(address: str, ids: list[str]) -> "Evidence":
    """The trials of a store by their ids. Raises InputError."""
    from fssplat.report.evidence.by_id import source_of_ids
    from fssplat.report.evidence.gather import Evidence
    from fssplat.results.store import Store

    return Evidence([source_of_ids(Store(address), ids)])

"""The argument and the options that commands on an experiment share."""

from collections.abc import Sequence
from pathlib import Path

import typer

EXPERIMENT = typer.Argument(help="An experiment file, e.g. experiments/quickstart.yaml")
EXPERIMENTS = typer.Argument(help="Experiment files, e.g. experiments/quickstart.yaml")
SET = typer.Option(
    [], "--set", metavar="KEY=VALUE", help="Change a setting, e.g. --set training.steps=100"
)
SHOW_CONFIG = typer.Option(
    False,
    "--show-config",
    help="Print the settings of every trial and where each value comes from; start no job.",
)


def show_config(experiments: Sequence[Path], changes: tuple[str, ...]) -> None:
    """Print the settings of the trials of each file with their sources. Raises InputError."""
    from fssplat.common.printing import say
    from fssplat.experiment.explain import explained
    from fssplat.experiment.reading import read_experiment
    from fssplat.methods import methods_named

    texts = []
    for path in experiments:
        reading = read_experiment(path, changes)
        methods = methods_named(entry.name for entry in reading.experiment.grid.method)
        texts.append(explained(reading, methods))
    say("---\n".join(texts), end="")


ANY_EXPERIMENT = typer.Argument(
    None, help="An experiment file.  [default: all experiments in the store]", show_default=False
)
STORE = typer.Option(
    "", "--store", metavar="ADDRESS", help="Without a file: the store.  [default: ./results]",
    show_default=False,
)  # fmt: skip

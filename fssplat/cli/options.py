"""The argument and the options that commands on an experiment share."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

EXPERIMENT = typer.Argument(help="An experiment file, e.g. experiments/quickstart.yaml")
EXPERIMENTS = typer.Argument(help="Experiment files, e.g. experiments/quickstart.yaml")
SET = typer.Option(
    [], "--set", metavar="KEY=VALUE", help="Change a setting, e.g. --set training.steps=100"
)
RERUN = typer.Option(
    [],
    "--rerun",
    metavar="WHERE...",
    help="Run finished trials again: all, stale, unknown, or e.g. method=hsnet fold=0. Their "
    "results are kept until the new ones are complete.",
)
CHANGES = typer.Option(
    False,
    "--changes",
    help="List what has changed since each result: commit, packages, code.",
)
SHOW_CONFIG = typer.Option(
    False,
    "--show-config",
    help="Print the settings of every trial and where each value comes from; start no job.",
)


class RerunCommand(TyperCommand):
    """A command whose option --rerun takes several words, or none for all trials."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(_one_word_each(args)))


CONDITION = re.compile(r"(all|stale|unknown|[a-z]+=\S+)( |$)")


def _one_word_each(words: list[str]) -> Iterator[str]:
    """The command line with `--rerun a b` written as `--rerun a --rerun b`."""
    inside = False
    for word, following in pairwise([*words, ""]):
        if word == "--rerun":
            inside = True
            if not CONDITION.match(following):
                yield from ("--rerun", "all")
        elif inside and CONDITION.match(word):
            yield from ("--rerun", word)
        else:
            inside = False
            yield word


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


GANTT = typer.Option(
    None, "--gantt", help="Draw the jobs over time in this PNG file.", show_default=False
)


def require_png(picture: Path | None) -> None:
    """Raises InputError for a chart whose name does not end in .png, or in no folder."""
    from fssplat.common.errors import InputError

    if picture is not None and picture.suffix.lower() != ".png":
        raise InputError(f"--gantt {picture}: the chart is a PNG file. Name it {picture.stem}.png.")
    if picture is not None and (wrong := [one for one in picture.parents if one.is_file()]):
        raise InputError(
            f"--gantt {picture}: cannot be written ({wrong[0]} is a file). Choose another file."
        )


@contextmanager
def writing(picture: Path) -> Iterator[None]:
    """Raises InputError for an OSError inside: the chart cannot be written."""
    from fssplat.common.errors import InputError

    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"--gantt {picture}: cannot be written ({reason}). Choose another file."
        ) from error


def require_experiment(command: str, given: Mapping[str, object]) -> None:
    """Raises InputError if one of these options, which are about one experiment, is given."""
    from fssplat.common.errors import InputError
    from fssplat.common.printing import command_line

    for option in (name for name, value in given.items() if value):
        typed = command_line(["fssplat", command, "X.yaml", *option.split()])
        raise InputError(f"{option.split()[0]}: needs an experiment, as in `{typed}`.")


def require_no_store(address: str) -> None:
    """Raises InputError for --store beside an experiment file, where it would have no effect."""
    from fssplat.common.errors import InputError
    from fssplat.common.printing import command_line

    if address:
        change = command_line(["--set", f"store={address}"])
        raise InputError(
            f"--store {address}: has no effect beside an experiment file, which names its store. "
            f"Leave out one of them, or give {change}."
        )


ANY_EXPERIMENT = typer.Argument(
    None, help="An experiment file.  [default: all experiments in the store]", show_default=False
)
STORE = typer.Option(
    "", "--store", metavar="ADDRESS", help="Without a file: the store.  [default: ./results]",
    show_default=False,
)  # fmt: skip

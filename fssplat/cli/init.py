"""`fssplat init`: write a method of one's own that trains, or a first experiment, to be changed."""

import importlib.util
import keyword
from importlib import resources
from pathlib import Path
from string import Template

import typer

import fssplat
from fssplat.cli.unknown_command import Commands
from fssplat.common.errors import InputError
from fssplat.common.printing import command_line, say

app = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Write files to start from, e.g. a method of your own.",
)
# Template in the package -> the file that is written
FILES = {
    "method.py.txt": "$NAME.py",
    "method.yaml.txt": "$NAME.yaml",
    "test_method.py.txt": "test_$NAME.py",
}


@app.command()
def method(
    name: str = typer.Argument(help="Its name: lower case, digits and _, e.g. my_method."),
) -> None:
    """Write a module, an experiment and a test into this folder: fssplat init method my_method

    It is a small network that trains; replace its maths by yours. docs/add-a-method.md explains it.
    """
    title = require_name(name)
    written = {Path(place): text for place, text in rendered(name, title).items()}
    for path in written:
        if path.exists():
            raise InputError(f"{path}: exists already. Choose another name, or remove the file.")
    try:
        for path, text in written.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be written ({reason}). Use another folder.") from error
    say(f"Wrote {', '.join(map(str, written))}. Next:")
    for line in next_commands(name, title):
        say(f"  {line}")


@app.command()
def experiment(
    dataset: str = typer.Argument("synthetic", help="A data set that is built, e.g. cells."),
) -> None:
    """Write a first experiment with comments: fssplat init experiment synthetic

    With schema.json beside it, editors complete and check its settings.
    """
    from fssplat.cli.json_schema import schema

    path = Path(f"{dataset}.yaml")
    if path.exists():
        raise InputError(f"{path}: exists already. Remove or rename it.")
    text = first_experiment(dataset)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be written ({reason}). Use another folder.") from error
    say(f"Wrote {path}")
    schema(Path("schema.json"))
    say("Next:")
    say(f"  {command_line(['fssplat', 'launch', str(path), '--dry-run'])}")
    say(f"  {command_line(['fssplat', 'launch', str(path)])}")


def first_experiment(dataset: str) -> str:
    """The text of the file. Raises InputError if the data set is unknown or not built."""
    from fssplat.experiment.datasets import BUILT_IN, default_root, known_dataset

    facts = known_dataset(dataset, "", "init experiment")
    folds = ", ".join(str(fold) for fold in range(min(2, facts.folds)))
    place = (
        f"datasets:\n  {dataset}: {{root: {default_root(dataset)}}} # built by `fssplat data build`"
    )
    small = facts.recipe in ("synthetic", "fss-1000")
    area = (
        "  min_area: 256 # pixels of the class in a support; 2,048 is too many for small images\n"
    )
    area += "  min_area_query: 256\n"
    template = resources.files("fssplat.cli").joinpath("templates", "experiment.yaml.txt")
    return Template(template.read_text("utf-8")).substitute(
        NAME=dataset,
        FOLDS=folds,
        DATASETS="# `fssplat data build` has built it" if dataset in BUILT_IN else place,
        AREA=area if small else "",
    )


def require_name(name: str) -> str:
    """The class name for a method's name. Raises InputError if it cannot name a new module."""
    if not name.isascii() or not name.isidentifier() or name != name.lower():
        raise InputError(
            f"method {name!r}: a name has lower-case letters, digits and _, and begins with a "
            "letter, e.g. my_method."
        )
    title = "".join(part.capitalize() for part in name.split("_"))
    known = importlib.util.find_spec(name) is not None and not Path(f"{name}.py").exists()
    if keyword.iskeyword(name) or known or not title.isidentifier():
        raise InputError(f"method {name!r}: Python uses this name. Choose another, e.g. my_{name}.")
    return title


def rendered(name: str, title: str) -> dict[str, str]:
    """The files to write, by name."""
    folder = resources.files("fssplat.cli").joinpath("templates")
    return {
        Template(place).substitute(NAME=name): Template(
            folder.joinpath(template).read_text("utf-8")
        ).substitute(NAME=name, CLASS=title)
        for template, place in FILES.items()
    }


def next_commands(name: str, title: str) -> list[str]:
    """What to type after the files are written, in the same folder."""
    contract = (
        Path(fssplat.__file__).resolve().parents[1] / "tests" / "methods" / "test_contract.py"
    )
    commands = [command_line(["python", "-m", "pytest", f"test_{name}.py"])]
    if contract.is_file():  # not part of an installed package
        test = command_line(["python", "-m", "pytest", contract])
        commands.append(f"FSSPLAT_CONTRACT={name}:{title} {test}")
    launch = command_line(["fssplat", "launch", f"{name}.yaml"])
    return [*commands, "fssplat data build synthetic", launch]

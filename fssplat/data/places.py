"""Where a data set is by default, and the command that builds it, for messages about it."""

from pathlib import Path

from fssplat.common.printing import command_line
from fssplat.experiment.datasets import BUILT_IN, default_root

__all__ = ["default_root", "rebuild"]


def build_command(name: str, *options: object) -> str:
    """The command that builds a data set.

    FOLDER stands for the folder of the official layout, if that is not in its default place.
    """
    from fssplat.data.sources import default_source  # imports a reader for each layout

    there = name == "synthetic" or default_source(name).is_dir()
    source = () if there else ("--source", "FOLDER")
    return command_line(["fssplat", "data", "build", name, *source, *options])


def rebuild(root: str, name: str = "", overwrite: bool = True) -> str:
    """A sentence with the command for the data set at `root`, a folder or an address.

    Its name is read from `root` if it is not given.
    """
    folder = root.rstrip("/") or "."
    last = folder.rsplit("/", 1)[-1]
    known = name or (last if last in BUILT_IN else "NAME")
    again = ["--overwrite"] if overwrite else []
    if "://" in folder:  # a build writes into a folder of this machine
        return f"Run `{build_command(known, *again)}`, then copy its folder to {folder}."
    out = ["--out", folder] if Path(folder) != Path(default_root(known)) else []
    return f"Run `{build_command(known, *out, *again)}`."

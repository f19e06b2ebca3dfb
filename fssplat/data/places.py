"""Where a data set is by default, and the command that builds it, for messages about it."""

from pathlib import Path

from fssplat.common.printing import command_line
from fssplat.experiment.datasets import BUILT_IN, default_root

__all__ = ["default_root", "rebuild"]


def rebuild(root: str, name: str = "", overwrite: bool = True) -> str:
    """A sentence with the command for the data set at `root`, a folder or an address.

    Its name is read from `root` if it is not given. FOLDER in the command stands for the folder of
    the official layout, if that is not in its default place.
    """
    from fssplat.data.sources import default_source  # imports a reader for each layout

    folder = root.rstrip("/") or "."
    last = folder.rsplit("/", 1)[-1]
    known = name or (last if last in BUILT_IN else "NAME")
    words = ["fssplat", "data", "build", known]
    again = ["--overwrite"] if overwrite else []
    if known != "synthetic" and not default_source(known).is_dir():
        words += ["--source", "FOLDER"]
    if "://" in folder:  # a build writes into a folder of this machine
        return f"Run `{command_line([*words, *again])}`, then copy its folder to {folder}."
    if Path(folder) != Path(default_root(known)):
        words += ["--out", folder]
    return f"Run `{command_line([*words, *again])}`."

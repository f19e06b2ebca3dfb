"""A cache of tensors that methods compute from the base images before training.

Prototypes, clusters and pseudo masks take minutes and depend only on the data, the fold and the
backbone, so trials that have these in common share one file. A lock of the operating system lets
one process compute while the others wait; it is released when its process ends, even if killed.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fssplat.common.locks import lock, locks_are_missing
from fssplat.common.whole_files import write_whole


class ArtefactCache:
    """A folder of safetensors files, each named by the key of its tensors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def default(cls) -> "ArtefactCache":
        """$FSSPLAT_CACHE/artefacts, else the user's cache folder."""
        chosen = os.environ.get("FSSPLAT_CACHE") or Path.home() / ".cache" / "fssplat"
        return cls(Path(chosen) / "artefacts")

    def get(self, key: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors stored under `key`, on the CPU; of all processes that need them only one
        computes them.

        `key` must change with everything that can change the tensors.
        """
        path = self.folder / f"{key}.safetensors"
        found = _read(path)
        if found is not None:
            return found
        with _lock_if_possible(self.folder / f"{key}.lock"):
            found = _read(path)  # another process may have finished meanwhile
            if found is None:
                computed = {
                    name: value.detach().cpu().contiguous() for name, value in compute().items()
                }
                write_whole(path, lambda temporary: save_file(computed, temporary))
                found = computed
        return found


def _lock_if_possible(path: Path) -> AbstractContextManager[object]:
    """The lock, or nothing on a file system without locks: then two processes may compute."""
    try:
        return lock(path)
    except OSError as error:
        if not locks_are_missing(error):
            raise
        return nullcontext()


def _read(path: Path) -> dict[str, Tensor] | None:
    """The stored tensors, or None if the file is absent or damaged."""
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None

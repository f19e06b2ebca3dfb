"""What a method computes from the base images before training, kept by content.

Prototypes, clusters and pseudo masks take minutes and depend on the data, the fold and the
backbone alone, so trials that agree on those share one file. A lock of the operating system lets
one process compute while the others wait; it vanishes with its holder, however that dies.
"""

import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fssplat.common.locks import lock
from fssplat.common.whole_files import write_whole


class ArtefactCache:
    """A folder of safetensors files, each named by the key of what it holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def default(cls) -> "ArtefactCache":
        """$FSSPLAT_CACHE/artefacts, else the user's cache folder."""
        chosen = os.environ.get("FSSPLAT_CACHE") or Path.home() / ".cache" / "fssplat"
        return cls(Path(chosen) / "artefacts")

    def get(self, key: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors stored under `key`, computed once among all processes that ask.

        `key` must change with whatever can change the tensors. They come back on the CPU.
        """
        path = self.folder / f"{key}.safetensors"
        found = _read(path)
        if found is not None:
            return found
        with lock(self.folder / f"{key}.lock"):
            found = _read(path)  # another process may have finished meanwhile
            if found is None:
                computed = {
                    name: value.detach().cpu().contiguous() for name, value in compute().items()
                }
                write_whole(path, lambda temporary: save_file(computed, temporary))
                found = computed
        return found


def _read(path: Path) -> dict[str, Tensor] | None:
    """None where the file is absent or damaged, which computes it again."""
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None

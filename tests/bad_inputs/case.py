"""One bad input: how it is made, the command that reads it, and what its answer must say."""

import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Sections of an experiment that passes every check. A case replaces some, as YAML text.
SOUND: Mapping[str, str] = {
    "dataset": "synthetic",
    "datasets": "{synthetic: {root: data}}",
    "store": "store",
    "tracking": "none",
    "grid": "{method: [panet], backbone: [efficientnet_lite0]}",
    "backbones": "{efficientnet_lite0: {weights: random}}",
    "training": "{steps: 2, batch: 1, size: 65}",
    "protocol": "{name: fssplat, episodes: 4, episode_seeds: [0], size: 65, score: [original], "
    "min_area: 1, min_area_query: 1, short_classes: drop}",
    "resources": "{cpu: 1}",
}


@dataclass(frozen=True)
class Folder:
    """An empty folder in which a case makes its input; the command runs there."""

    path: Path
    built: Path  # a built synthetic data set; do not change it

    def write(self, name: str, content: str | bytes) -> Path:
        place = self.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        return place

    def experiment(self, name: str = "x.yaml", /, **sections: str | None) -> Path:
        """Write an experiment over the data set `data`; None leaves a section out."""
        self.data()
        chosen = {**SOUND, **sections}
        lines = (f"{key}: {text}\n" for key, text in chosen.items() if text is not None)
        return self.write(name, "".join(lines))

    def data(self) -> Path:
        """The built data set as `data`, a link to it if the case has made no copy there."""
        place = self.path / "data"
        if not place.exists():
            place.symlink_to(self.built)
        return place

    def copied_data(self) -> Path:
        """A copy of the built data set as `data`, which may be damaged."""
        return shutil.copytree(self.built, self.path / "data")


Make = Callable[[Folder], object]


def nothing(folder: Folder) -> None:
    """The folder stays empty."""


def file(name: str, content: str | bytes) -> Make:
    """A folder with one file."""
    return lambda folder: folder.write(name, content)


def experiment(name: str = "x.yaml", /, **sections: str | None) -> Make:
    """A folder with a file x.yaml that is sound but for these sections."""
    return lambda folder: folder.experiment(name, **sections)


def all_of(*steps: Make) -> Make:
    """The steps one after the other."""

    def make(folder: Folder) -> None:
        for step in steps:
            step(folder)

    return make


@dataclass(frozen=True)
class Case:
    """A bad input. `what`, `where` and `to_do` are parts of the one line that answers it."""

    name: str  # unique; what is wrong with the input
    make: Make
    what: str
    where: str  # the file, setting or option
    to_do: str  # what is needed, or what to do next
    command: str = "plan x.yaml"  # what is typed after `fssplat`, quoted as in a shell
    code: int = 2
    leaves: tuple[str, ...] = ()  # patterns of the files that the command may make or change
    not_one_line: str = ""  # why the answer is no single line that says all three
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        return shlex.split(self.command)

"""Every ablation file to its end on the small real images of ../shared: `make ablations-smoke`.

Tiny schedule, random weights, one fold: the scores mean nothing, the paths are those of a real run.
Ends with a table of files, trials and seconds; exit code 1 where any trial has no result.
"""

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from fssplat.data.build.convert import build
from fssplat.data.index import Dataset
from fssplat.launching.launch import Request, launch, plan_from

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
FEWEST = 7  # images of a class in the small FSS-1000: five supports, a query, and a choice


@dataclass(frozen=True)
class Run:
    """How one file went."""

    name: str
    states: Counter[str]
    seconds: float

    @property
    def whole(self) -> bool:
        return set(self.states) <= {"finished"}


def data_sets(folder: Path) -> None:
    """PASCAL and COCO as they come, and FSS-1000's layout over COCO's own images."""
    for name, source in (("pascal-5i", "voc_mini"), ("coco-20i", "coco_mini")):
        if not (folder / name / "dataset.json").is_file():
            build(name, SHARED / source, folder / name)
    if not (folder / "fss-1000" / "dataset.json").is_file():
        fss_layout(Dataset.open(str(folder / "coco-20i")), folder / "fss-1000-official")
        build("fss-1000", folder / "fss-1000-official", folder / "fss-1000")


def fss_layout(coco: Dataset, folder: Path) -> None:
    """Class folders of up to ten pictures and masks; every third class trains, tests, validates."""
    lists: dict[str, list[str]] = {"train": [], "test": [], "val": []}
    for class_id, name in enumerate(coco.info.classes, start=1):
        rows = [*coco.rows_of(class_id, "train", 2048), *coco.rows_of(class_id, "val", 2048)]
        if len(rows) < FEWEST:
            continue
        split = min(lists, key=lambda item: len(lists[item]))
        lists[split].append(name.replace(" ", "_"))
        place = folder / lists[split][-1]
        place.mkdir(parents=True, exist_ok=True)
        for number, row in enumerate(rows[:10], start=1):
            (place / f"{number}.jpg").write_bytes(coco.jpeg(row))
            mask = np.where(coco.mask(row, class_id) == 1, 255, 0).astype(np.uint8)
            Image.fromarray(mask).save(place / f"{number}.png")
    for split, names in lists.items():
        (folder / f"{split}.txt").write_text("\n".join(names) + "\n")


def run(path: Path, folder: Path) -> Run:
    """One file in the smoke profile; what it printed is shown where a trial has no result."""
    changes = ("profile=smoke", f"store={folder / 'results'}", "tracking=none")
    data = [f"datasets.{name}.root={folder / name}" for name in ("pascal-5i", "coco-20i")]
    data.append(f"datasets.fss-1000.root={folder / 'fss-1000'}")
    request = Request(path, (*changes, *data))
    out = StringIO()
    started = time.monotonic()
    launch(request, Console(file=out, width=160))
    seconds = time.monotonic() - started
    plan, _ = plan_from(request)
    found = Run(path.stem, Counter(status.state for status in plan.states.values()), seconds)
    if not found.whole:
        print(out.getvalue(), flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "ablations-smoke")
    parser.add_argument("--only", default="", help="a part of the file names")
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()
    data_sets(folder)
    files = sorted((ROOT / "experiments" / "ablations").glob("*.yaml"))
    runs = []
    for path in files:
        if path.stem != "base" and chosen.only in path.stem:
            runs.append(run(path, folder))
            states = ", ".join(f"{count} {state}" for state, count in runs[-1].states.items())
            print(f"{runs[-1].name:26} {states:24} {runs[-1].seconds:6.0f} s", flush=True)
    bad = [one.name for one in runs if not one.whole]
    total = sum(one.seconds for one in runs)
    trials = sum(sum(one.states.values()) for one in runs)
    print(
        f"{len(runs)} files, {trials} trials, {total / 60:.1f} min; without result: {bad or 'none'}"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

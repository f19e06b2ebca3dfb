"""What does a report cost: seconds, megabytes of the page, peak memory?

python bench/report.py --store results --data data       the quickstart, 432 trials, and 48
python bench/report.py --grid grid.fold=[0] grid.shot=[1]     a smaller grid

It needs the finished store of experiments/quickstart.yaml. Three reports are written in processes
of their own: of that store; of 432 trials, the full grid with `profile=smoke`; of 48 of these. The
store of the grid is made here without training: every trial gets the episodes, masks and losses of
a real trial of the quickstart. Its images are those of the quickstart's data set. The page of 48
trials is also opened in Chromium, if this machine has it.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # docs.browser

import pyarrow.parquet as pq  # noqa: E402

from docs.browser import Browser, chromium  # noqa: E402
from fssplat.data.index import INDEX_FILE, DatasetInfo, fingerprint_of  # noqa: E402
from fssplat.experiment.datasets import INFO_FILE  # noqa: E402
from fssplat.experiment.reading import load_experiment  # noqa: E402
from fssplat.experiment.trial import Trial  # noqa: E402
from fssplat.planning.plan import make_plan  # noqa: E402
from fssplat.results.records import Result  # noqa: E402
from fssplat.results.store import Store  # noqa: E402

QUICKSTART = ROOT / "experiments" / "quickstart.yaml"
GRID = ROOT / "experiments" / "full_grid.yaml"
SMOKE = "profile=smoke"
SOME = ("grid.method=[prior,pfenet,hsnet]", "grid.backbone=[resnet50]")  # 48 of 432 trials
COPIED = ("episodes.parquet", "predictions.parquet")  # of a trial
OPENINGS = 5
LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"  # ms; 0 before
MEGABYTE = 1e6


@dataclass(frozen=True)
class Cost:
    """What one report took."""

    name: str
    seconds: float
    processor: float  # seconds of the process on all cores
    page: int  # bytes
    memory: int  # bytes at most

    def line(self, seconds: float, page: float, memory: float = 0.0) -> str:
        """The figures, each with its bar."""
        parts = [
            f"{self.seconds:.1f} s (at most {seconds:g}; {self.processor:.1f} s of a processor)",
            f"page {self.page / MEGABYTE:.2f} MB (at most {page:g})",
            f"memory {self.memory / MEGABYTE:.0f} MB"
            + (f" (at most {memory:g})" if memory else ""),
        ]
        return f"{self.name}: {', '.join(parts)}"


def report(name: str, experiment: Path, settings: Sequence[str], data: Path, out: Path) -> Cost:
    """Write a report in a process of its own."""
    program = Path(sys.executable).with_name("fssplat")
    changes = [part for one in settings for part in ("--set", one)]
    command = [str(program), "report", str(experiment), *changes, "--out", str(out)]
    environment = {**os.environ, "FSSPLAT_DATA": str(data), "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    assert process.stdout is not None
    said = process.stdout.read().decode()
    process.stdout.close()
    assert status == 0, said
    print(said.splitlines()[0], flush=True)
    page = (out / "index.html").stat().st_size
    processor = usage.ru_utime + usage.ru_stime
    return Cost(name, seconds, processor, page, usage.ru_maxrss * 1024)


def grid_store(
    quickstart: Store, data: Path, folder: Path, changes: Sequence[str], grid_changes: Sequence[str]
) -> tuple[Path, int]:
    """A store with a result of every trial of the grid, with the settings of both experiments.

    Returns the folder of its data sets, which are the quickstart's under other names, and the
    number of trials.
    """
    sets = folder / "data"
    for name in ("pascal-5i", "coco-20i"):
        shutil.copytree(data / "synthetic", sets / name)
        rename(sets / name, name)
    os.environ["FSSPLAT_DATA"] = str(sets)
    plan = make_plan(load_experiment(GRID, (*grid_changes, f"store={folder / 'store'}")))
    os.environ["FSSPLAT_DATA"] = str(data)
    real = make_plan(load_experiment(QUICKSTART, (*changes, f"store={quickstart.address}"))).trials
    results = quickstart.results(real)
    assert results, f"{quickstart.shown_address} has no result of the quickstart"
    store = Store.open(str(folder / "store"))
    for job in plan.jobs:
        for trial_id, trial in zip(job.trial_ids, job.trials, strict=True):
            source = like(trial, {one: real[one] for one in results})
            copy_trial(quickstart, source, results[source], store, trial_id, trial, job.key)
        losses = f"jobs/{results[source].about['job']}/steps.parquet"
        curve = quickstart.files.read(losses)
        if curve is not None:
            store.files.write(f"jobs/{job.key}/steps.parquet", curve)
    return sets, len(plan.trials)


def rename(folder: Path, name: str) -> None:
    """Give a built data set another name."""
    about = folder / INFO_FILE
    info = DatasetInfo.from_json(about.read_text(), str(about))
    table = pq.read_table(folder / INDEX_FILE)
    fingerprint = fingerprint_of(name, info.classes, table, info.folds)
    about.write_text(replace(info, name=name, fingerprint=fingerprint).to_json())


def like(trial: Trial, real: dict[str, Trial]) -> str:
    """The real trial that is most like one of the grid, if possible of one shot."""

    def differences(trial_id: str) -> tuple[bool, bool, bool, str]:
        other = real[trial_id]
        untrained = (trial.method.name == "prior") != (other.method.name == "prior")
        return untrained, other.fold != trial.fold % 2, other.shot != 1, trial_id

    return min(real, key=differences)


def copy_trial(
    quickstart: Store, source: str, result: Result, store: Store, to: str, trial: Trial, job: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in COPIED:
            data = quickstart.files.read(f"{source}/{name}")
            if data is not None:
                (Path(folder) / name).write_bytes(data)
        about = {**result.about, "job": job}
        store.finish(trial, to, Path(folder), result.metrics, result.notes, about)


def opening_seconds(page: Path) -> float:
    """Median time until the page is loaded, in a new browser."""
    seconds = []
    for _ in range(OPENINGS):
        with Browser() as browser:
            browser.open(page.as_uri(), "Verdict")
            while not (loaded := browser.run(LOADED)):
                time.sleep(0.1)
            seconds.append(float(loaded) / 1000)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", default="results", help="store of a finished quickstart")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of its data set")
    parser.add_argument("--set", nargs="+", default=[], help="settings of the quickstart's store")
    parser.add_argument("--grid", nargs="+", default=[], help="settings that make the grid smaller")
    given = parser.parse_args()
    store, data = Store(given.store), given.data.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = [*given.set, f"store={store.address}"]
        print(report("quickstart", QUICKSTART, own, data, folder / "quick").line(30, 5))
        changes = [SMOKE, *given.grid]
        sets, trials = grid_store(store, data, folder, given.set, changes)
        settings = [*changes, f"store={folder / 'store'}"]
        print(report(f"{trials} trials", GRID, settings, sets, folder / "grid").line(90, 15, 2000))
        some = report("some of them", GRID, [*settings, *SOME], sets, folder / "some")
        print(some.line(90, 15, 2000))
        if chromium():
            seconds = opening_seconds(folder / "some" / "index.html")
            print(f"some of them: the page opens in {seconds:.2f} s (at most 2)")
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()

"""Build a data set: read its official layout, write shards, then index and dataset.json.

The plan of the shards is made before the first image is read, so the bytes are the same for any
number of workers, and an interrupted build resumes: a finished shard stays if its sources are
unchanged. dataset.json is written last; a folder without it is not a data set yet.
"""

import re
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from fssplat.common.errors import InputError
from fssplat.data.build.already_built import finished_build, finished_synthetic
from fssplat.data.build.build_folder import only_build_in
from fssplat.data.build.index_and_report import write_index, write_report
from fssplat.data.build.resume import keep_finished_shards
from fssplat.data.build.shard_plan import SHARD_SAMPLES, plan_shards
from fssplat.data.build.write_shards import BadImage, OnProgress, write_shards
from fssplat.data.index import REPORT_FILE, DatasetInfo
from fssplat.data.places import default_root
from fssplat.data.sources import check_name, default_source, read_source
from fssplat.data.sources.record import Source, SourceOptions


@dataclass(frozen=True)
class BuildSettings:
    """How to build. Only `options`, `skip_bad` and `shard_samples` can change the bytes."""

    options: SourceOptions = field(default_factory=SourceOptions)
    workers: int = 1  # processes
    skip_bad: bool = False  # leave out images that cannot be used, instead of raising InputError
    overwrite: bool = False  # replace a data set from other files or options
    shard_samples: int = SHARD_SAMPLES  # images per shard, at most


@dataclass(frozen=True)
class BuildReport:
    """The outcome of a build."""

    root: Path
    info: DatasetInfo
    bad: tuple[BadImage, ...] = ()  # images that were left out
    notes: tuple[str, ...] = ()  # what the source leaves out on purpose
    shards_kept: int = 0  # shards that an earlier run had finished
    seconds: float = 0.0


def build(
    name: str,
    source: Path | None = None,
    out: Path | None = None,
    settings: BuildSettings = BuildSettings(),
    on_progress: OnProgress = lambda done, total: None,
) -> BuildReport:
    """Build a data set from its official layout, or resume an interrupted build.

    An image cannot be used if it is unreadable, or if its label has another size or a value
    outside the classes. Every image is checked, and report.json lists the unusable ones; then the
    build raises InputError, or leaves them out with `skip_bad`.
    """
    started = time.monotonic()
    check_name(name, source, settings.options)  # before a folder is made for it
    folder = _local_folder(name, out)
    with only_build_in(folder):
        report = _build_in(folder, name, source, settings, on_progress)
    return replace(report, seconds=time.monotonic() - started)


def _local_folder(name: str, out: Path | None) -> Path:
    folder = Path(default_root(name)) if out is None else out
    if re.match(r"\w+:/", str(folder)):  # Path("s3://bucket") keeps one of the two slashes
        raise InputError(f"{folder}: build into a local folder, then copy it to the bucket.")
    return folder


def _build_in(
    folder: Path, name: str, source: Path | None, settings: BuildSettings, on_progress: OnProgress
) -> BuildReport:
    """Return the finished data set if there is one, else build it."""
    if not settings.overwrite:  # before `read_source`, which draws synthetic pictures
        info = finished_synthetic(folder, name, settings.options)
        if info is not None:
            return BuildReport(folder, info, shards_kept=len(info.shards))
    source = default_source(name, folder) if source is None else source
    content = read_source(name, source, settings.options)
    plan = plan_shards(content, folder, settings.shard_samples, settings.skip_bad)
    if not settings.overwrite:
        built = finished_build(folder, content, plan, settings.workers, on_progress)
        if built is not None:
            return BuildReport(folder, *built, content.notes, len(plan))
    kept = keep_finished_shards(folder, plan)
    results = write_shards(folder, plan, kept, settings.workers, on_progress)
    write_report(folder, source, content.notes, plan, results)
    bad = tuple(item for result in results for item in result.bad)
    _check_bad(folder, content, bad, settings.skip_bad)
    info = write_index(folder, content, results)
    return BuildReport(folder, info, bad, content.notes, len(kept))


def _check_bad(folder: Path, content: Source, bad: tuple[BadImage, ...], skip_bad: bool) -> None:
    """Raise InputError if an image cannot be used; with `skip_bad`, if no image can be used."""
    images = len(content.records)
    if bad and not skip_bad:
        shown = "; ".join(item.reason for item in bad[:3])
        more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise InputError(
            f"{content.name}: {len(bad)} of {images} images cannot be used: {shown}{more}. "
            f"{folder / REPORT_FILE} lists them. Replace the files and run the same command "
            f"again, or leave these images out with --skip-bad."
        )
    if len(bad) == images:
        raise InputError(
            f"{content.name}: none of {images} images can be used; {folder / REPORT_FILE} "
            f"lists the reasons. Replace the files and run the same command again."
        )

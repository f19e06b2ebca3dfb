"""Is the data set in a folder the one that a build would make?"""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from fssplat.common.errors import InputError
from fssplat.data.build.build_folder import write_file
from fssplat.data.build.samples import checksum, convert_record, stored_jpeg
from fssplat.data.build.shard_plan import PlannedShard, file_state, plan_digest
from fssplat.data.build.write_shards import BadImage, OnProgress
from fssplat.data.index import REPORT_FILE, Dataset, DatasetInfo
from fssplat.data.shards import Member
from fssplat.data.sources import expected_synthetic
from fssplat.data.sources.record import BadSampleError, Record, Source, SourceOptions
from fssplat.experiment.datasets import INFO_FILE


def finished_synthetic(folder: Path, name: str, options: SourceOptions) -> DatasetInfo | None:
    """Return the data set in the folder if it was generated from these options.

    Returns None for data sets that are read from files, and if the folder has no data set.
    Raises InputError if the folder has another data set: pictures must not be drawn over the
    source of that one.
    """
    expected = expected_synthetic(name, options)
    if expected is None or not (folder / INFO_FILE).exists():
        return None
    info = Dataset.open(folder).info
    if (info.name, info.source, dict(info.counts)) != (name, *expected):
        raise _other_data_set(folder)
    return info


def finished_build(
    folder: Path,
    content: Source,
    plan: tuple[PlannedShard, ...],
    workers: int,
    on_progress: OnProgress,
) -> tuple[DatasetInfo, tuple[BadImage, ...]] | None:
    """Return the finished data set of the same source and its unusable images, or None.

    Source files whose dates changed are read again, because copying changes dates. Raises
    InputError if the folder has a data set from other sources.
    """
    if not (folder / INFO_FILE).exists():
        return None
    try:
        report = json.loads((folder / REPORT_FILE).read_bytes())
        bad = tuple(BadImage(**item) for item in report["bad"])
        same = report["plan"] == plan_digest(plan)
    except (OSError, ValueError, TypeError, KeyError):
        raise _other_data_set(folder) from None
    if bad and not plan[0].skip_bad:
        raise _other_data_set(folder)
    dataset = Dataset.open(folder)
    if dataset.info.folds != content.folds:
        raise _other_data_set(folder)
    if not same:
        if not _same_content(dataset, content, bad, workers, on_progress):
            raise _other_data_set(folder)
        report["plan"] = plan_digest(plan)  # the next build need not read the files again
        write_file(folder / REPORT_FILE, json.dumps(report, indent=1).encode())
    return dataset.info, bad


def _other_data_set(folder: Path) -> InputError:
    return InputError(
        f"{folder}: a data set from other files or options is there already. Give --overwrite "
        f"to replace it, or choose another --out."
    )


def _same_content(
    dataset: Dataset,
    content: Source,
    bad: tuple[BadImage, ...],
    workers: int,
    on_progress: OnProgress,
) -> bool:
    """Return whether the source would give this data set, whatever the dates of its files."""
    info, left_out = dataset.info, {item.key for item in bad}
    if (info.name, info.classes, info.labels, info.year, info.class_counts, info.folds) != (
        content.name, content.classes, content.labels, content.year, content.class_counts,
        content.folds,
    ):  # fmt: skip
        return False
    used = [record for record in content.records if record.key not in left_out]
    if not _same_listing(dataset, used):  # cheap: reads no image
        return False
    with ThreadPoolExecutor(max(1, workers)) as pool:  # reading and hashing release the GIL
        same = pool.map(partial(_same_record, dataset, left_out), content.records)
        for done, one in enumerate(same, start=1):
            on_progress(done, len(content.records))
            if not one:
                pool.shutdown(cancel_futures=True)
                return False
    return True


def _same_listing(dataset: Dataset, records: list[Record]) -> bool:
    """Return whether keys, splits, classes and file sizes of the images are the data set's."""
    members: dict[str, Member] = {}
    for number in range(len(dataset.info.shards)):
        members |= dataset.members(number)
    rows = zip(dataset.keys, dataset.splits.tolist(), dataset.object_classes.tolist(), strict=True)
    upright = {record.key for record in records if record.upright}  # another size may be stored
    found = {
        (key, split, c, -1 if key in upright else members[f"{key}.jpg"].size)
        for key, split, c in rows
    }
    return found == {
        (r.key, r.split, r.object_class, -1 if r.upright else file_state(r.image)[0])
        for r in records
    }


def _same_record(dataset: Dataset, left_out: set[str], record: Record) -> bool:
    """Return whether image and label are the data set's, or the image is still unusable."""
    info = dataset.info
    if record.key in left_out:
        try:
            convert_record(record, len(info.classes), info.labels == "binary")
        except BadSampleError:
            return True
        return False
    try:
        found = checksum(stored_jpeg(record), record.label.read())
    except (OSError, BadSampleError):
        return False
    return found == dataset.checksums[dataset.row_of(record.key)]

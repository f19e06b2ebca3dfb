"""Official layouts -> shards and index.

Which image goes into which shard is fixed before the first one is read (order: split, then key),
so the bytes are the same for any number of workers, and a build that was cut goes on where it
stopped: a finished shard stays if its sources are unchanged. dataset.json is written last; a
folder without it is not a data set yet.
"""

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from io import BytesIO
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fssplat.common.errors import InputError
from fssplat.data.index import (
    FORMAT_VERSION,
    INDEX_FILE,
    INFO_FILE,
    REPORT_FILE,
    SCHEMA,
    SPLITS,
    Dataset,
    DatasetInfo,
    default_root,
    fingerprint_of,
)
from fssplat.data.labels import (
    IGNORE,
    UNREADABLE,
    Label,
    class_pixels,
    encode_label,
    image_size,
)
from fssplat.data.shards import (
    NO_ROOM,
    Member,
    Sample,
    Shard,
    digest_of,
    no_room,
    not_written,
    write_shard,
)
from fssplat.data.sources import check_name, default_source, foretold, read_source
from fssplat.data.sources.record import BadSampleError, Record, Source, SourceOptions

SHARD_SAMPLES = 1000
SHARD_BYTES = 256 * 2**20
LABEL_ALLOWANCE = 32 * 2**10  # bytes set aside for a label, its JSON and the tar headers
STATE_FOLDER = ".build"  # what finished shards hold, until dataset.json is written

OnProgress = Callable[[int, int], None]  # images done, images in all


@dataclass(frozen=True)
class Bad:
    """An image that was left out."""

    key: str
    reason: str


@dataclass(frozen=True)
class ShardJob:
    """One shard to write. `digest` changes with anything that its bytes depend on."""

    folder: Path
    file: str
    records: tuple[Record, ...]
    classes: int
    binary: bool
    skip_bad: bool
    digest: str


@dataclass(frozen=True)
class ShardResult:
    """A finished shard; `bytes` is 0 where it was not written, because of `bad`."""

    file: str
    digest: str
    bytes: int
    rows: list[dict[str, Any]]
    bad: list[Bad]


@dataclass(frozen=True)
class BuildReport:
    """What a build did."""

    root: Path
    info: DatasetInfo
    bad: tuple[Bad, ...]
    notes: tuple[str, ...]  # what the source leaves out on purpose
    shards_kept: int  # finished by an earlier run
    seconds: float


class _ShardHasBadImagesError(Exception):
    """Stops a shard that must not be written."""


def build(
    name: str,
    source: Path | None = None,
    out: Path | None = None,
    *,
    options: SourceOptions = SourceOptions(),
    workers: int = 1,
    skip_bad: bool = False,
    overwrite: bool = False,
    shard_samples: int = SHARD_SAMPLES,
    on_progress: OnProgress = lambda done, total: None,
) -> BuildReport:
    """Build a data set from its official layout, or go on with a build that was cut.

    Images that cannot be used (unreadable, label of another size, label value outside the
    classes) end the build with an InputError once every image was looked at; with `skip_bad` they
    are left out. report.json lists them either way.
    """
    started = time.monotonic()
    check_name(name)  # before a folder is made for it
    folder = Path(default_root(name)) if out is None else out
    if re.match(r"\w+:/", str(folder)):  # a path keeps one of the slashes of s3://
        raise InputError(f"{folder}: build into a local folder, then copy it to the bucket.")
    with _building(folder):
        known = None if overwrite else _foretold_before(folder, name, options)
        if known is not None:
            kept = len(known.shards)
            return BuildReport(folder, known, (), (), kept, time.monotonic() - started)
        place = default_source(name, folder) if source is None else source
        content = read_source(name, place, options)
        jobs = plan_shards(content, folder, shard_samples, skip_bad)
        built = None if overwrite else _built_before(folder, content, jobs, workers, on_progress)
        if built is not None:
            return BuildReport(folder, *built, content.notes, len(jobs), time.monotonic() - started)
        done = _finished(folder, jobs)
        results = _convert_all(folder, jobs, done, workers, on_progress)
        bad = tuple(item for result in results for item in result.bad)
        _write_report(folder, place, content.notes, jobs, results)
        if bad and not skip_bad:
            raise _bad_images(folder, content, bad)
        if not any(result.bytes for result in results):
            raise InputError(
                f"{content.name}: none of {len(bad)} images can be used; {folder / REPORT_FILE} "
                f"says why. Replace the files and run the same command again."
            )
        info = _write_index(folder, content, results)
    seconds = time.monotonic() - started
    return BuildReport(folder, info, bad, content.notes, len(done), seconds)


# ---------------------------------------------------------------- which image goes where


def plan_shards(
    content: Source, folder: Path, shard_samples: int, skip_bad: bool
) -> tuple[ShardJob, ...]:
    """The shards in order: each of one split, at most `shard_samples` images and SHARD_BYTES."""
    if not content.records:
        raise InputError(f"{content.name}: the source has no images. Check --source.")
    ordered = sorted(content.records, key=lambda record: (SPLITS.index(record.split), record.key))
    first: dict[str, Path] = {}
    for record in ordered:
        if record.key not in first:
            first[record.key] = record.image
        elif first[record.key] == record.image:
            raise InputError(f"{record.image}: the source lists this image twice. Keep one entry.")
        else:
            raise InputError(
                f"{record.image}: {first[record.key]} has the key {record.key!r} too. Rename one."
            )
    stat = lru_cache(maxsize=4096)(_file_state)
    jobs: list[ShardJob] = []
    for split in SPLITS:
        of_split = [record for record in ordered if record.split == split]
        for number, group in enumerate(_groups(of_split, shard_samples, stat)):
            states = [_record_state(record, stat) for record in group]
            head = [FORMAT_VERSION, content.name, content.classes, content.labels]
            digest = digest_of([json.dumps([head, states]).encode()])
            file = f"{split}-{number:06d}.tar"
            binary = content.labels == "binary"
            classes = len(content.classes)
            jobs.append(ShardJob(folder, file, tuple(group), classes, binary, skip_bad, digest))
    return tuple(jobs)


def _groups(
    records: Sequence[Record], most: int, stat: Callable[[Path], tuple[int, int]]
) -> Iterator[list[Record]]:
    group: list[Record] = []
    total = 0
    for record in records:
        size = max(stat(record.image)[0], 0) + LABEL_ALLOWANCE
        if group and (len(group) == most or total + size > SHARD_BYTES):
            yield group
            group, total = [], 0
        group.append(record)
        total += size
    if group:
        yield group


def _file_state(path: Path) -> tuple[int, int]:
    """(bytes, time of last change in ns); (-1, 0) for a missing file."""
    try:
        state = path.stat()
    except OSError:
        return -1, 0
    return state.st_size, state.st_mtime_ns


def _record_state(record: Record, stat: Callable[[Path], tuple[int, int]]) -> list[Any]:
    files = (record.image, *record.label.files)
    return [record.key, record.object_class, [(path.name, *stat(path)) for path in files]]


# ---------------------------------------------------------------- one shard


def convert_shard(job: ShardJob) -> ShardResult:
    """Write one shard. Raises InputError when the disk is full."""
    rows: list[dict[str, Any]] = []
    bad: list[Bad] = []
    path = job.folder / job.file
    try:
        places = write_shard(path, _samples(job, rows, bad))
    except _ShardHasBadImagesError:
        return ShardResult(job.file, job.digest, 0, [], bad)
    for row in rows:
        _add_places(row, places)
    return ShardResult(job.file, job.digest, path.stat().st_size, rows, bad)


def _samples(job: ShardJob, rows: list[dict[str, Any]], bad: list[Bad]) -> Iterator[Sample]:
    """The shard's samples; what cannot be used goes to `bad`, what the index needs to `rows`."""
    for record in job.records:
        try:
            sample, row = convert_record(record, job.classes, job.binary)
        except BadSampleError as error:
            bad.append(Bad(record.key, str(error)))
            continue
        if not bad or job.skip_bad:  # otherwise the shard is lost: go on looking, not writing
            rows.append(row)
            yield sample
    if bad and (not job.skip_bad or not rows):
        raise _ShardHasBadImagesError


def convert_record(record: Record, classes: int, binary: bool) -> tuple[Sample, dict[str, Any]]:
    """One image -> its sample and its row of the index (places are added later)."""
    jpg, (height, width) = _read_image(record)
    label = record.label.read()
    where = record.label.files[0]
    if label.shape != (height, width):
        shape = " x ".join(map(str, label.shape))
        raise BadSampleError(
            f"{where}: the label of {record.key} is {shape} (height x width), the image "
            f"{record.image} is {height} x {width}"
        )
    pixels = class_pixels(label)
    outside = [value for value in pixels if value > (1 if binary else classes)]
    if outside:
        raise BadSampleError(
            f"{where}: the label of {record.key} has the value {outside[0]}; classes are 1 to "
            f"{1 if binary else classes}, 0 is background, {IGNORE} is ignored"
        )
    if binary:
        pixels = {record.object_class: pixels[1]} if pixels else {}
    details = {
        "key": record.key,
        "split": record.split,
        "origin": record.origin,
        "file": record.image.name,
        "height": height,
        "width": width,
        "object_class": record.object_class,
        "pixels": {str(class_id): count for class_id, count in pixels.items()},
    }
    row = {
        "key": record.key,
        "split": record.split,
        "height": height,
        "width": width,
        "object_class": record.object_class,
        "classes": list(pixels),
        "pixels": list(pixels.values()),
        "checksum": checksum(jpg, label),
    }
    text = json.dumps(details, separators=(",", ":")).encode()
    return Sample(record.key, jpg, encode_label(label), text), row


def checksum(jpg: bytes, label: Label) -> str:
    """Of the JPEG's bytes and the label's pixels: another PNG compressor changes nothing."""
    return digest_of([jpg, repr(label.shape).encode(), np.ascontiguousarray(label).tobytes()])


def _read_image(record: Record) -> tuple[bytes, tuple[int, int]]:
    try:
        jpg = record.image.read_bytes()
        return jpg, image_size(jpg)
    except FileNotFoundError:
        raise BadSampleError(f"{record.image}: the image is missing") from None
    except UNREADABLE as error:
        raise BadSampleError(f"{record.image}: the image cannot be read ({error})") from error


def _add_places(row: dict[str, Any], places: dict[str, Member]) -> None:
    for kind in ("jpg", "png", "json"):
        place = places[f"{row['key']}.{kind}"]
        row[f"{kind}_at"], row[f"{kind}_size"] = place.offset, place.size


# ---------------------------------------------------------------- all shards


def _convert_all(
    folder: Path,
    jobs: tuple[ShardJob, ...],
    done: dict[str, ShardResult],
    workers: int,
    on_progress: OnProgress,
) -> list[ShardResult]:
    """Results in the order of the shards; each is noted as soon as its shard is finished."""
    pending = [job for job in jobs if job.file not in done]
    _check_room(folder, pending)
    total = sum(len(job.records) for job in jobs)
    images = sum(len(job.records) for job in jobs if job.file in done)
    on_progress(images, total)
    results = dict(done)
    for result in _run(pending, workers):
        if result.bytes:
            write_whole(_state_path(folder, result.file), json.dumps(asdict(result)).encode())
        results[result.file] = result
        images += len(result.rows) + len(result.bad)
        on_progress(images, total)
    return [results[job.file] for job in jobs]


def _run(jobs: list[ShardJob], workers: int) -> Iterator[ShardResult]:
    """Results as they come. A worker that dies (killed, out of memory) ends the build."""
    if workers <= 1 or len(jobs) <= 1:
        yield from map(convert_shard, jobs)
        return
    waiting = iter(jobs)
    count = min(workers, len(jobs))
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        running: set[Future[ShardResult]] = set()
        try:
            running |= {pool.submit(convert_shard, job) for job in islice(waiting, 2 * count)}
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
                running |= {
                    pool.submit(convert_shard, job) for job in islice(waiting, len(finished))
                }
        except BrokenProcessPool as error:
            raise InputError(
                "a worker of the build died (killed, or out of memory). Run the same command "
                "again with fewer --workers: finished shards are kept."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _check_room(folder: Path, jobs: list[ShardJob]) -> None:
    images = [_file_state(record.image)[0] for job in jobs for record in job.records]
    needed = sum(max(size, 0) for size in images)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder}: the shards need more than {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB "
            f"are free. Free some space or choose another --out."
        )


def _foretold_before(folder: Path, name: str, options: SourceOptions) -> DatasetInfo | None:
    """A finished data set whose pictures the options decide; None where its source must be read.

    Raises InputError where the folder holds another one: nothing may be drawn for it then, nor
    over the pictures of the one that stays.
    """
    told = foretold(name, options)
    if told is None or not (folder / INFO_FILE).exists():
        return None
    info = Dataset.open(folder).info
    if (info.name, info.source, dict(info.counts)) != (name, *told):
        raise _other_files(folder)
    return info


def _built_before(
    folder: Path,
    content: Source,
    jobs: tuple[ShardJob, ...],
    workers: int,
    on_progress: OnProgress,
) -> tuple[DatasetInfo, tuple[Bad, ...]] | None:
    """What an earlier build of the same sources left; None where there is nothing yet.

    Files with other dates are read again, as copies have them. Raises InputError where the folder
    holds a data set from other sources.
    """
    if not (folder / INFO_FILE).exists():
        return None
    try:
        report = json.loads((folder / REPORT_FILE).read_bytes())
        bad = tuple(Bad(**item) for item in report["bad"])
        same = report["plan"] == _plan_digest(jobs)
    except (OSError, ValueError, TypeError, KeyError):
        raise _other_files(folder) from None
    if bad and not jobs[0].skip_bad:
        raise _other_files(folder)
    dataset = Dataset.open(folder)
    if not same:
        if not _same_content(dataset, content, bad, workers, on_progress):
            raise _other_files(folder)
        report["plan"] = _plan_digest(jobs)  # the next build need not read them
        write_whole(folder / REPORT_FILE, json.dumps(report, indent=1).encode())
    return dataset.info, bad


def _other_files(folder: Path) -> InputError:
    return InputError(
        f"{folder}: a data set from other files or options is there already. Give --overwrite "
        f"to replace it, or choose another --out."
    )


def _same_content(
    dataset: Dataset,
    content: Source,
    bad: tuple[Bad, ...],
    workers: int,
    on_progress: OnProgress,
) -> bool:
    """Whether the data set is what the source would give, whatever the dates of its files."""
    info, left_out = dataset.info, {item.key for item in bad}
    if (info.name, info.classes, info.labels, info.year, info.class_counts) != (
        content.name, content.classes, content.labels, content.year, content.class_counts
    ):  # fmt: skip
        return False
    used = [record for record in content.records if record.key not in left_out]
    if not _same_listing(dataset, used):  # before the first one is read
        return False
    with ThreadPoolExecutor(max(1, workers)) as pool:  # reading and hashing release the lock
        same = pool.map(partial(_same_record, dataset, left_out), content.records)
        for done, one in enumerate(same, start=1):
            on_progress(done, len(content.records))
            if not one:
                pool.shutdown(cancel_futures=True)
                return False
    return True


def _same_listing(dataset: Dataset, records: list[Record]) -> bool:
    """Whether keys, splits, classes and the images' bytes in number are the data set's."""
    places: dict[str, Member] = {}
    for number in range(len(dataset.info.shards)):
        places |= dataset.members(number)
    rows = zip(dataset.keys, dataset.splits.tolist(), dataset.object_classes.tolist(), strict=True)
    found = {(key, split, c, places[f"{key}.jpg"].size) for key, split, c in rows}
    return found == {(r.key, r.split, r.object_class, _file_state(r.image)[0]) for r in records}


def _same_record(dataset: Dataset, left_out: set[str], record: Record) -> bool:
    """The same bytes and label as in the data set, or still not to be used."""
    info = dataset.info
    if record.key in left_out:
        try:
            convert_record(record, len(info.classes), info.labels == "binary")
        except BadSampleError:
            return True
        return False
    try:
        found = checksum(record.image.read_bytes(), record.label.read())
    except (OSError, BadSampleError):
        return False
    return found == dataset.checksums[dataset.row_of(record.key)]


def _plan_digest(jobs: tuple[ShardJob, ...]) -> str:
    return digest_of(job.digest.encode() for job in jobs)


def _finished(folder: Path, jobs: tuple[ShardJob, ...]) -> dict[str, ShardResult]:
    """Shards of an unfinished run that can stay, by file name; others of ours are removed.

    The folder may hold other archives, such as downloads. Raises InputError, before anything is
    changed, where one of them has the name of a shard.
    """
    ours, planned = _made_here(folder), {job.file for job in jobs}
    for file in sorted(planned - ours):
        if os.path.lexists(folder / file):
            raise InputError(
                f"{folder / file}: a shard would be written there, but no build of this folder "
                f"made that file. Move it away, or choose another --out."
            )
    for file in planned | ours:  # whose they are must be known after a kill, too
        _state_path(folder, file).touch()
    (folder / INFO_FILE).unlink(missing_ok=True)
    found = [_read_state(folder, job) for job in jobs]
    done = {result.file: result for result in found if result is not None}
    for file in ours - done.keys():
        (folder / file).unlink(missing_ok=True)
        (folder / f".{file}.partial").unlink(missing_ok=True)
        if file not in planned:
            _state_path(folder, file).unlink()
    return done


def _made_here(folder: Path) -> set[str]:
    """Files of the shards that an earlier build of this folder made, or was about to make."""
    names = [path.stem for path in (folder / STATE_FOLDER).glob("*.tar.json")]
    names += _listed(folder / INFO_FILE, lambda info: [shard["file"] for shard in info["shards"]])
    names += _listed(folder / REPORT_FILE, lambda report: report["shards"])
    return {name for name in names if re.fullmatch(rf"({'|'.join(SPLITS)})-\d{{6,}}\.tar", name)}


def _listed(path: Path, names: Callable[[Any], list[str]]) -> list[str]:
    """File names in a JSON file; none where it is missing or damaged."""
    try:
        return [str(name) for name in names(json.loads(path.read_bytes()))]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _read_state(folder: Path, job: ShardJob) -> ShardResult | None:
    """The note on a finished shard, if it fits the job and the shard has its length."""
    try:
        values = json.loads(_state_path(folder, job.file).read_bytes())
        values["bad"] = [Bad(**item) for item in values["bad"]]
        result = ShardResult(**values)
        size = (folder / job.file).stat().st_size
    except (OSError, ValueError, TypeError, KeyError):
        return None
    fits = result.digest == job.digest and size == result.bytes
    return result if fits and (job.skip_bad or not result.bad) else None


def _state_path(folder: Path, file: str) -> Path:
    return folder / STATE_FOLDER / f"{file}.json"


# ---------------------------------------------------------------- index and report


def _write_index(folder: Path, content: Source, results: list[ShardResult]) -> DatasetInfo:
    """index.parquet, then dataset.json: from here on the folder is a data set."""
    written = [result for result in results if result.bytes]
    rows = [
        {**row, "shard": number} for number, result in enumerate(written) for row in result.rows
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    splits = table["split"].to_pylist()
    info = DatasetInfo(
        name=content.name,
        classes=content.classes,
        source=content.source,
        year=content.year,
        fingerprint=fingerprint_of(content.name, content.classes, table),
        counts={split: splits.count(split) for split in SPLITS if split in splits},
        shards=tuple(Shard(item.file, item.bytes, len(item.rows)) for item in written),
        labels=content.labels,
        class_counts=content.class_counts,
    )
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_whole(folder / INDEX_FILE, buffer.getvalue())
    write_whole(folder / INFO_FILE, info.to_json().encode())
    shutil.rmtree(folder / STATE_FOLDER)
    return info


def _write_report(
    folder: Path,
    source: Path,
    notes: tuple[str, ...],
    jobs: tuple[ShardJob, ...],
    results: list[ShardResult],
) -> None:
    report = {
        "source": str(source),
        "plan": _plan_digest(jobs),
        "images": sum(len(job.records) for job in jobs),
        "shards": [result.file for result in results if result.bytes],
        "notes": notes,
        "bad": [asdict(item) for result in results for item in result.bad],
    }
    write_whole(folder / REPORT_FILE, json.dumps(report, indent=1).encode())


def _bad_images(folder: Path, content: Source, bad: tuple[Bad, ...]) -> InputError:
    shown = "; ".join(item.reason for item in bad[:3])
    more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    return InputError(
        f"{content.name}: {len(bad)} of {len(content.records)} images cannot be used: {shown}"
        f"{more}. {folder / REPORT_FILE} lists them. Replace the files and run the same "
        f"command again, or leave these images out with --skip-bad."
    )


def write_whole(path: Path, content: bytes) -> None:
    """The file appears complete or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno in NO_ROOM:
            raise no_room(path) from error
        raise not_written(path, error) from error


@contextmanager
def _building(folder: Path) -> Iterator[None]:
    """One build at a time in a folder; the lock goes with its holder, however that ends."""
    try:
        (folder / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise InputError(f"{folder}: cannot write there ({error.strerror}).") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{folder}: another build is running there. Wait for it.") from None
        yield

"""Write planned shards, in parallel processes if asked to."""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fssplat.common.errors import InputError
from fssplat.data.build.build_folder import state_path, write_file
from fssplat.data.build.samples import add_positions, convert_record
from fssplat.data.build.shard_plan import PlannedShard, file_state
from fssplat.data.shards import Sample, write_shard
from fssplat.data.sources.record import BadSampleError

OnProgress = Callable[[int, int], None]  # images done, images in all


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be used."""

    key: str
    reason: str


@dataclass(frozen=True)
class ShardResult:
    """The outcome of one planned shard; `bytes` is 0 if it was not written because of `bad`."""

    file: str
    digest: str
    bytes: int
    rows: list[dict[str, Any]]
    bad: list[BadImage]


class _ShardHasBadImagesError(Exception):
    """Stops a shard that must not be written."""


def write_shards(
    folder: Path,
    plan: tuple[PlannedShard, ...],
    finished: dict[str, ShardResult],
    workers: int,
    on_progress: OnProgress,
) -> list[ShardResult]:
    """Write all shards that are not in `finished`; results in the order of the plan.

    Each result is saved as soon as its shard is complete, so that an interrupted build can resume.
    Raises InputError if the disk is too small or a worker dies.
    """
    pending = [shard for shard in plan if shard.file not in finished]
    _check_free_space(folder, pending)
    total = sum(len(shard.records) for shard in plan)
    images = sum(len(shard.records) for shard in plan if shard.file in finished)
    on_progress(images, total)
    results = dict(finished)
    for result in run_parallel(pending, workers):
        if result.bytes:
            write_file(state_path(folder, result.file), json.dumps(asdict(result)).encode())
        results[result.file] = result
        images += len(result.rows) + len(result.bad)
        on_progress(images, total)
    return [results[shard.file] for shard in plan]


def run_parallel(shards: list[PlannedShard], workers: int) -> Iterator[ShardResult]:
    """Results in the order in which shards finish.

    Raises InputError if a worker process dies (killed, out of memory).
    """
    if workers <= 1 or len(shards) <= 1:
        yield from map(convert_shard, shards)
        return
    waiting = iter(shards)
    count = min(workers, len(shards))
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        running: set[Future[ShardResult]] = set()
        try:
            running |= {pool.submit(convert_shard, shard) for shard in islice(waiting, 2 * count)}
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
                running |= {
                    pool.submit(convert_shard, shard) for shard in islice(waiting, len(finished))
                }
        except BrokenProcessPool as error:
            raise InputError(
                "a worker of the build died (killed, or out of memory). Run the same command "
                "again with fewer --workers: finished shards are kept."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def convert_shard(shard: PlannedShard) -> ShardResult:
    """Write one shard. Raises InputError if the disk is full."""
    rows: list[dict[str, Any]] = []
    bad: list[BadImage] = []
    path = shard.folder / shard.file
    try:
        members = write_shard(path, _usable_samples(shard, rows, bad))
    except _ShardHasBadImagesError:
        return ShardResult(shard.file, shard.digest, 0, [], bad)
    for row in rows:
        add_positions(row, members)
    return ShardResult(shard.file, shard.digest, path.stat().st_size, rows, bad)


def _usable_samples(
    shard: PlannedShard, rows: list[dict[str, Any]], bad: list[BadImage]
) -> Iterator[Sample]:
    """Yield the shard's samples; index rows are added to `rows`, unusable images to `bad`."""
    for record in shard.records:
        try:
            sample, row = convert_record(record, shard.classes, shard.binary)
        except BadSampleError as error:
            bad.append(BadImage(record.key, str(error)))
            continue
        # Without skip_bad a bad image cancels the shard: the others are only checked from then on.
        if not bad or shard.skip_bad:
            rows.append(row)
            yield sample
    if bad and (not shard.skip_bad or not rows):
        raise _ShardHasBadImagesError


def _check_free_space(folder: Path, shards: list[PlannedShard]) -> None:
    images = [file_state(record.image)[0] for shard in shards for record in shard.records]
    needed = sum(max(size, 0) for size in images)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder}: the shards need more than {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB "
            f"are free. Free some space or choose another --out."
        )

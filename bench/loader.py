"""Measures how fast training episodes are loaded, and samples read by offset in a tar file.

python bench/loader.py                         real images of voc_mini, PFENet's augmentation
python bench/loader.py --root data/pascal-5i   the same on a data set that you built

Episodes: both sides load the same episodes with the same random draws and the same number of worker
processes, one thread each. The baseline has one file per image and label and a plain torch
DataLoader. Like PFENet's public code it uses OpenCV in float32, one step after the other: read,
scale, rotate, blur, flip, crop, normalise. Our loader returns bytes, which the training device
normalises; the second pair of lines includes this cost if the device is this CPU. Processor seconds
are the sum over all processes. Without workers nothing is sent between processes.

Samples: JPEG, label and JSON of random keys from one shard of 1,000 samples, read by offset, and by
name from an open tar file. By offset a decoder gets a view of the mapped file; a copy of that view
is also timed, since a tar file copies.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import platform
import resource
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from timeit import timeit

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from fssplat.data.augmentation import REDRAWS, draw_change
from fssplat.data.build.convert import build
from fssplat.data.episodes.seeded_draws import stream
from fssplat.data.index import Dataset
from fssplat.data.loader import TrainingBatches
from fssplat.data.masks.labels import IGNORE, decode_image
from fssplat.data.shards import Sample, Shard, ShardFolder, write_shard
from fssplat.data.transforms import DEVIATION, MEAN
from fssplat.experiment.protocols import resolve_protocol
from fssplat.experiment.schema import AugmentSpec, TrainingSpec

VOC_MINI = Path(__file__).resolve().parents[2] / "shared/data/voc_mini"
PFENET = AugmentSpec(scale=(0.9, 1.1), rotate=10, blur=True, flip=True, keep_object=0.85)
MEAN_255 = tuple(255 * value for value in MEAN)
SAMPLES = 1000  # in the shard of the second measurement


class FilePerImage(TorchDataset[tuple[torch.Tensor, ...]]):
    """The baseline: OpenCV on one file per image and label, step by step."""

    def __init__(self, batches: TrainingBatches, folder: Path, episodes: int) -> None:
        self.batches, self.folder, self.episodes = batches, folder, episodes
        for row in range(len(batches.dataset)):
            key = batches.dataset.keys[row]
            (folder / f"{key}.jpg").write_bytes(batches.dataset.jpeg(row))
            (folder / f"{key}.png").write_bytes(batches.dataset.png(row))

    def __len__(self) -> int:
        return self.episodes

    def __getitem__(self, number: int) -> tuple[torch.Tensor, ...]:
        epoch, i = self.batches.episodes.at(number)
        episode = self.batches.episodes(epoch, i)
        rng = stream("augment", self.batches.training.seed, epoch, i)
        class_id = episode.classes[0]
        query, target = self.image(episode.query, class_id, rng)
        shown = [self.image(row, class_id, rng) for row in episode.supports]
        supports = torch.stack([image for image, _ in shown])[None]
        masks = torch.stack([mask for _, mask in shown])[None]
        return query, target, supports, masks, torch.tensor([class_id])

    def image(
        self, row: int, class_id: int, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        key = self.batches.dataset.keys[row]
        image = cv2.cvtColor(cv2.imread(str(self.folder / f"{key}.jpg")), cv2.COLOR_BGR2RGB)
        stored = cv2.imread(str(self.folder / f"{key}.png"), cv2.IMREAD_GRAYSCALE)
        label = np.where(stored == IGNORE, IGNORE, stored == class_id).astype(np.uint8)
        change = draw_change(rng, PFENET)
        image = np.float32(image)
        image = cv2.resize(image, None, fx=change.scale, fy=change.scale)
        label = cv2.resize(
            label, None, fx=change.scale, fy=change.scale, interpolation=cv2.INTER_NEAREST
        )
        if change.degrees:
            image, label = rotated(image, label, change.degrees)
        if change.blur:
            image = cv2.GaussianBlur(image, (5, 5), 0)
        if change.flip:
            image, label = cv2.flip(image, 1), cv2.flip(label, 1)
        image, label = cropped(image, label, self.batches.training.size, rng)
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()
        for channel, mean, deviation in zip(tensor, MEAN, DEVIATION, strict=True):
            channel.sub_(255 * mean).div_(255 * deviation)
        return tensor, torch.from_numpy(np.ascontiguousarray(label)).long()


def rotated(image: np.ndarray, label: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    height, width = label.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    size = (width, height)
    image = cv2.warpAffine(
        image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT,
        borderValue=MEAN_255,
    )  # fmt: skip
    label = cv2.warpAffine(
        label, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT,
        borderValue=IGNORE,
    )  # fmt: skip
    return image, label


def cropped(
    image: np.ndarray, label: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pad to the size on all sides, then crop at a random place that keeps enough of the object."""
    missing = [max(size - side, 0) for side in label.shape]
    if any(missing):
        borders = (missing[0] // 2, missing[0] - missing[0] // 2)
        borders += (missing[1] // 2, missing[1] - missing[1] // 2)
        image = cv2.copyMakeBorder(image, *borders, cv2.BORDER_CONSTANT, value=MEAN_255)
        label = cv2.copyMakeBorder(label, *borders, cv2.BORDER_CONSTANT, value=IGNORE)
    height, width = label.shape
    whole = np.count_nonzero(label == 1)
    for _ in range(1 + REDRAWS):
        top, left = (
            int(v * (side - size + 1)) for v, side in zip(rng.random(2), label.shape, strict=True)
        )
        part = label[top : top + size, left : left + size]
        if (height, width) == (size, size) or np.count_nonzero(part == 1) >= 0.85 * whole:
            break
    return image[top : top + size, left : left + size], part


def thousand(folder: Path, dataset: Dataset) -> tuple[Callable[[], int], ...]:
    """Readers of 200 random samples of one shard: as views, as copies, and by name."""
    rows = [number % len(dataset) for number in range(SAMPLES)]
    samples = [
        Sample(f"{n:06d}", dataset.jpeg(row), dataset.png(row), b"{}") for n, row in enumerate(rows)
    ]
    places = write_shard(folder / "shard.tar", samples)
    size = (folder / "shard.tar").stat().st_size
    shards = ShardFolder(folder, (Shard("shard.tar", size, SAMPLES),))
    tar = tarfile.open(folder / "shard.tar")  # noqa: SIM115 - open for as long as it is read
    keys = [f"{n:06d}" for n in np.random.default_rng(0).permutation(SAMPLES)[:200]]
    names = [f"{key}.{kind}" for key in keys for kind in ("jpg", "png", "json")]

    def by_offset() -> int:
        found = (shards.member(0, name, places[name].offset, places[name].size) for name in names)
        return sum(len(data) for data in found)

    def copied() -> int:
        found = (shards.member(0, name, places[name].offset, places[name].size) for name in names)
        return sum(len(bytes(data)) for data in found)

    def by_name() -> int:
        found = (tar.extractfile(name) for name in names)
        return sum(len(data.read()) for data in found if data)

    assert by_offset() == copied() == by_name()
    return by_offset, copied, by_name


def speedups(
    ours: Callable[[], object],
    baseline: Callable[[], object],
    pairs: int,
    timer: Callable[[], float] = perf_counter,
) -> list[float]:
    """Baseline seconds over ours, sorted. Runs alternate, so noise affects both sides."""
    seconds = [
        (timeit(baseline, number=1, timer=timer), timeit(ours, number=1, timer=timer))
        for _ in range(pairs + 1)
    ]
    return sorted(slow / fast for slow, fast in seconds[1:])  # the first pair only fills the caches


def processor_seconds() -> float:
    """Processor seconds of this process and of its workers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def shown(ratios: list[float]) -> str:
    return (
        f"{median(ratios):.2f} x  (from {ratios[0]:.2f} to {ratios[-1]:.2f}, {len(ratios)} pairs)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", default="", help="a built data set; default: voc_mini")
    parser.add_argument("--steps", type=int, default=32, help="batches of 4 episodes in a run")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2, help="processes on either side")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        root = options.root or str(build("pascal-5i", VOC_MINI, folder / "voc").root)
        dataset = Dataset.open(root)
        training = TrainingSpec(steps=options.steps, batch=4, augment=PFENET)
        rules = resolve_protocol({"name": "fssplat", "short_classes": "drop"})
        batches = TrainingBatches(dataset, 0, rules, training)
        print(f"{platform.machine()}, {os.cpu_count()} cores, one thread per process")
        for workers in (0, options.workers):
            episodes(batches, folder, options.pairs, workers)
        members(folder, dataset, options.pairs)


def episodes(batches: TrainingBatches, folder: Path, pairs: int, workers: int) -> None:
    """Measure episodes per second, and the share of our time that JPEG decoding takes."""
    steps, size = batches.training.steps or 0, batches.training.batch
    (folder / "files").mkdir(exist_ok=True)
    files = FilePerImage(batches, folder / "files", steps * size)
    drawn = [batches.episodes(*batches.episodes.at(number)) for number in range(steps * size)]
    rows = [row for episode in drawn for row in (episode.query, *episode.supports)]

    def delivered() -> None:
        for _ in DataLoader(batches, batch_size=None, sampler=range(steps), num_workers=workers):
            pass

    def normalised() -> None:
        for batch in DataLoader(batches, None, sampler=range(steps), num_workers=workers):
            batch.to("cpu")

    def baseline() -> None:
        for _ in DataLoader(files, batch_size=size, num_workers=workers):
            pass

    def decoding() -> None:
        for row in rows:
            decode_image(batches.dataset.jpeg(row))

    rate = len(drawn) / median(timeit(delivered, number=1) for _ in range(3))
    print(f"{workers} workers, {rate:.1f} episodes/s delivered. Ours over OpenCV's:")
    for what, ours in (("delivered", delivered), ("normalised on the CPU", normalised)):
        print(f"  episodes/s, {what:<24} {shown(speedups(ours, baseline, pairs))}")
        ratios = speedups(ours, baseline, pairs, processor_seconds)
        print(f"  per processor second, {what:<14} {shown(ratios)}")
    if not workers:
        shares = sorted(1 / ratio for ratio in speedups(decoding, delivered, pairs, process_time))
        print(f"  JPEG decoding takes {median(shares):.0%} of our time")


def members(folder: Path, dataset: Dataset, pairs: int) -> None:
    """Measure samples per second, by offset and by name."""
    by_offset, copied, by_name = thousand(folder, dataset)
    for what, ours in (("", by_offset), (", copied", copied)):
        ratios = speedups(ours, by_name, 3 * pairs, process_time)
        rate = 200 / median(timeit(ours, number=1, timer=process_time) for _ in range(9))
        print(f"samples by offset{what}, over by name: {shown(ratios)}; {rate:,.0f} samples/s")


if __name__ == "__main__":
    main()

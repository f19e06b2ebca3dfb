"""Measures how fast one training step and one episode are, against an earlier commit.

python bench/step.py --against 3129767        heads and steps of five methods, both precisions
python bench/step.py --against 3129767 --method hsnet --work head --precision bf16    one cell

The earlier commit is checked out into a temporary folder. Each side runs in a process of its own on
the same random images and weights, ResNet-50, sizes of the papers; the processes take turns, so
that noise of the machine affects both. Printed is the median over the pairs of the earlier time
divided by today's, with the smallest and the largest. Without `--against`, seconds alone.

Works: `head` segments one 1-shot episode whose features are ready, `step` trains on a batch of two
1-shot episodes, `five` predicts one 5-shot episode from its images.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"hsnet": 400, "hmfs": 400, "pfenet": 473, "mmnet": 473, "jc2a": 473}
STEMS = {"pfenet": "resnet50_v2", "mmnet": "resnet50_v2"}  # others take the plain stem
WORKS = ("head", "step", "five")


# ------------------------------------------------------------------ one side, in its own process


class RandomBaseImages:
    """A few images of noise with boxes of two classes, for methods that prepare from images."""

    key, classes = "bench", (1, 2)

    def __init__(self, side: int) -> None:
        import torch

        self.side, self.draw = side, torch.Generator().manual_seed(1)

    def __len__(self) -> int:
        return 2

    def image(self, index: int) -> Any:
        import torch

        shape = (3, self.side, self.side)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=self.draw)

    def label(self, index: int) -> Any:
        import torch

        label = torch.zeros(self.side, self.side, dtype=torch.int64)
        label[: self.side // 2, : self.side // 2] = index + 1
        return label

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for index in range(len(self)):
            yield self.image(index)[None].float() / 255, self.label(index)[None]

    def remaining(self) -> "RandomBaseImages":
        return self


class NotKept:
    """Artefacts that are computed each time."""

    def get(self, key: str, compute: Callable[[], Any]) -> Any:
        return compute()


def work_of(method: str, work: str, precision: str, size: int) -> Callable[[], None]:
    """The function to time; it uses only what both commits have."""
    import torch

    from fssplat.data.batch import EpisodeBatch
    from fssplat.engine.random_state import seed_everything
    from fssplat.experiment.schema import BackboneSpec, MethodSpec
    from fssplat.methods import build_method
    from fssplat.methods.layers.fusion import fuse_shots

    seed_everything(0)
    backbone = BackboneSpec(name=STEMS.get(method, "resnet50"), weights="random")
    network = build_method(MethodSpec(name=method), backbone)
    network.to(memory_format=torch.channels_last)
    network.prepare(RandomBaseImages(size), NotKept())
    b, k = (2, 1) if work == "step" else (1, 5 if work == "five" else 1)
    supports, query = torch.randn(b, 1, k, 3, size, size), torch.randn(b, 3, size, size)
    masks = torch.zeros(b, 1, k, size, size, dtype=torch.int64)
    masks[..., size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 1
    batch = EpisodeBatch(query, masks[:, 0, 0], supports, masks)
    reduced = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")

    def step() -> None:
        with reduced:
            total = sum(network.training_losses(batch).values())
        optimizer.zero_grad()
        total.backward()  # type: ignore[union-attr]
        optimizer.step()

    @torch.no_grad()
    def head() -> None:
        with reduced:
            network.segment(*encoded, masks, (size, size))

    @torch.no_grad()
    def five() -> None:
        with reduced:
            q, s = network.encode_episodes(query, supports, masks)
            if network.SHOT_FUSION == "network":
                network.segment(q, s, masks, (size, size))
                return
            one = [{name: value[:, :, [shot]] for name, value in s.items()} for shot in range(k)]
            shots = [network.segment(q, o, masks[:, :, :1], (size, size)) for o in one]
            fuse_shots(torch.cat(shots).float(), network.SHOT_FUSION)

    if work == "step":
        network.train()
        optimizer = torch.optim.SGD(network.learnable().values(), lr=1e-6)
        return step
    network.eval()
    with torch.no_grad(), reduced:
        encoded = network.encode_episodes(query, supports, masks)
    return head if work == "head" else five


def answer(given: argparse.Namespace) -> None:
    """Time the work once for each line of the standard input."""
    import torch

    torch.set_num_threads(given.threads)
    clock = time.process_time if given.cpu_seconds else time.perf_counter
    run = work_of(given.method[0], given.work[0], given.precision[0], given.size)
    run()
    for _ in sys.stdin:
        started = clock()
        for _ in range(given.repeats):
            run()
        print(json.dumps((clock() - started) / given.repeats), flush=True)


# ------------------------------------------------------------------ both sides


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """The tree of a commit in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        archive = subprocess.run(
            ["git", "archive", commit, "fssplat"], cwd=ROOT, capture_output=True, check=True
        )
        subprocess.run(["tar", "-x", "-C", name], input=archive.stdout, check=True)
        yield Path(name)


@contextmanager
def side(tree: Path, arguments: list[str], threads: int) -> Iterator[Callable[[], float]]:
    """A process of the tree's code that times its work on request."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--answer", *arguments], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": str(threads)},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def seconds() -> float:
        stdin.write("\n")
        stdin.flush()
        return float(json.loads(stdout.readline()))

    try:
        yield seconds
    finally:
        process.kill()
        process.wait()


def measure(given: argparse.Namespace, before: Path | None, method: str, work: str) -> None:
    for precision in given.precision:
        size = given.size or SIZES[method]
        arguments = [
            "--method", method, "--work", work, "--precision", precision, "--size", str(size),
            "--threads", str(given.threads), "--repeats", str(given.repeats),
        ] + ["--cpu-seconds"] * given.cpu_seconds  # fmt: skip
        name = f"{method:7s} {work:5s} {precision} {size}px:"
        with side(ROOT, arguments, given.threads) as today:
            if before is None:
                print(name, f"{median(today() for _ in range(given.pairs)):.3f} s", flush=True)
                continue
            with side(before, arguments, given.threads) as earlier:
                pairs = [(earlier(), today()) for _ in range(given.pairs)]
        ratios = [then / now for then, now in pairs]
        then, now = (median(one[i] for one in pairs) for i in (0, 1))
        print(
            f"{name} {median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f}), "
            f"{then:.3f} s before, {now:.3f} s now",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", default="", help="commit to compare with")
    parser.add_argument("--method", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--work", nargs="+", default=["head", "step"], choices=WORKS)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--size", type=int, default=0, help="pixels; 0: the paper's")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1, help="runs per turn")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--cpu-seconds",
        action="store_true",
        help="on a CPU that others use: the processor's seconds in place of the clock's",
    )
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.answer:
        answer(given)
        return
    print(f"{platform.machine()}, {given.threads} threads, median of {given.pairs} pairs")
    with checkout(given.against or "HEAD") as before:
        for method in given.method:
            for work in given.work:
                measure(given, before if given.against else None, method, work)


if __name__ == "__main__":
    main()

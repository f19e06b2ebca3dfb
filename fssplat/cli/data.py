"""`fssplat data ...`: from the official archives to shards, and what is in them."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from fssplat.data.convert import BuildReport
    from fssplat.data.index import Dataset

app = typer.Typer(
    no_args_is_help=True, help="Download, build, check and describe data sets of shards."
)

NAMES = "pascal-5i, coco-20i, fss-1000 or synthetic"
ROOT = typer.Argument(help=f"The folder or s3:// address of a built data set, or {NAMES}.")


@app.command()
def build(
    name: str = typer.Argument(help=NAMES),
    source: Path = typer.Option(
        None, help="The official layout.  [default: $FSSPLAT_DATA/raw/<name>]", show_default=False
    ),
    out: Path = typer.Option(
        None, help="Where the shards go.  [default: $FSSPLAT_DATA/<name>]", show_default=False
    ),
    workers: int = typer.Option(0, help="Processes; 0: one per core. They change no byte."),
    skip_bad: bool = typer.Option(
        False, help="Leave out images that cannot be used instead of stopping; both list them."
    ),
    overwrite: bool = typer.Option(False, help="Replace a data set made from other files."),
    year: str = typer.Option("", help="COCO: 2014 or 2017, where the folder holds both."),
    lists: Path = typer.Option(
        None, help="FSS-1000: folder of trn.txt, val.txt, test.txt.", show_default=False
    ),
    seed: int = typer.Option(0, help="Synthetic: which pictures."),
    train_images: int = typer.Option(700, help="Synthetic: training images."),
    val_images: int = typer.Option(300, help="Synthetic: test images."),
) -> None:
    """Write the shards and the index of a data set: fssplat data build synthetic

    fssplat data build pascal-5i --source VOCdevkit-and-SBD --out data/pascal-5i
    """
    from fssplat.data.convert import build as build_dataset
    from fssplat.data.sources.record import SourceOptions

    count = workers or _cores()
    options = SourceOptions(lists, year, seed, train_images, val_images, count)
    with _progress(f"building {name}") as advance:
        report = build_dataset(
            name,
            source,
            out,
            options=options,
            workers=count,
            skip_bad=skip_bad,
            overwrite=overwrite,
            on_progress=advance,
        )
    _print_report(report)


@app.command()
def info(
    root: str = ROOT,
    contiguous: bool = typer.Option(False, help="COCO: folds of 20 classes in a row."),
) -> None:
    """Show the classes of each fold and their images: fssplat data info synthetic

    A cell counts the images with at least 2,048 pixels of the class, then all of them.
    """
    from fssplat.data.index import Dataset

    _print_info(Dataset.open(_root(root)), contiguous)


@app.command()
def verify(
    root: str = ROOT,
    workers: int = typer.Option(0, help="Threads that decode; 0: one per core."),
) -> None:
    """Read every byte again and compare with the index: fssplat data verify data/pascal-5i"""
    from fssplat.data.verify import verify as verify_dataset

    with _progress("verifying") as advance:
        found = verify_dataset(_root(root), workers or _cores(), advance)
    typer.echo(
        f"{root}: {found.images:,} images in {found.shards} shards, "
        f"{found.bytes / 2**20:,.1f} MiB: all as indexed."
    )


@app.command()
def download(
    name: str = typer.Argument(help="pascal (VOC2012 and SBD) or coco"),
    out: Path = typer.Option(
        None, help="Where to unpack.  [default: $FSSPLAT_DATA/raw/<name>]", show_default=False
    ),
    year: str = typer.Option("2017", help="COCO: 2014 or 2017."),
    mirror: str = typer.Option("", help="Another place with the same files, e.g. http://host/dir"),
    keep_archives: bool = typer.Option(False, help="Do not delete an archive once unpacked."),
) -> None:
    """Fetch the official archives, check their MD5 and unpack: fssplat data download pascal"""
    from fssplat.data.download import BUILDS, download_set

    folder = download_set(
        name, out, year=year, mirror=mirror, keep_archives=keep_archives, say=typer.echo
    )
    typer.echo(f"Next: fssplat data build {BUILDS[name]} --source {folder}")


# ---------------------------------------------------------------- shown by the commands


def _root(text: str) -> str:
    """An address as given; a data set's bare name stands for its usual folder."""
    from fssplat.data.index import default_root
    from fssplat.spec import DATASETS

    return default_root(text) if text in DATASETS and not Path(text).exists() else text


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0))


def _progress(title: str) -> "_Bar":
    return _Bar(title)


class _Bar:
    """A rich progress bar that is called with (done, total)."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("images"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task(title, total=None)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)


def _print_report(report: "BuildReport") -> None:
    from fssplat.data.index import REPORT_FILE

    info = report.info
    images = ", ".join(f"{count:,} {split}" for split, count in info.counts.items())
    for note in report.notes:
        typer.echo(f"note: {note}")
    for item in report.bad:
        typer.echo(f"left out: {item.reason}")
    if report.bad:
        typer.echo(
            f"{len(report.bad)} images were left out; {report.root / REPORT_FILE} lists them."
        )
    kept = f", {report.shards_kept} kept from before" if report.shards_kept else ""
    typer.echo(
        f"{report.root}: {info.name}, {len(info.classes)} classes, {images} images in "
        f"{len(info.shards)} shards{kept}; fingerprint {info.fingerprint}; {report.seconds:.1f} s"
    )


def _print_info(dataset: "Dataset", contiguous: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from fssplat.data.summary import DEFAULT, class_lines

    info = dataset.info
    lines = class_lines(dataset, "contiguous" if contiguous else "interleaved")
    table = Table(title=f"{info.name}: images per class with >= {DEFAULT.min_area:,} px / any")
    table.add_column("fold" if info.labels == "class-index" else "split")
    table.add_column("id", justify="right")
    table.add_column("class")
    for split, count in info.counts.items():
        table.add_column(f"{split} ({count:,})", justify="right")
    for number, line in enumerate(lines):
        last = number + 1 == len(lines) or lines[number + 1].fold != line.fold
        cells = [f"{large:,} / {every:,}" for every, large in line.images.values()]
        table.add_row(line.fold, str(line.class_id), line.name, *cells, end_section=last)
    console = Console()
    console.print(table)
    console.print(
        f"{info.source or info.name}; format {info.format_version}; {len(info.shards)} shards; "
        f"fingerprint {info.fingerprint}",
        highlight=False,
    )

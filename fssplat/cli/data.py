"""`fssplat data ...`: download, build, check and describe data sets."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssplat.cli.progress_bar import Bar
from fssplat.cli.unknown_command import Commands
from fssplat.common.errors import InputError
from fssplat.common.printing import Screen, command_line, counted, one_line, say

if TYPE_CHECKING:
    from fssplat.data.build.convert import BuildReport
    from fssplat.data.checks.audit import Audit
    from fssplat.data.index import Dataset
    from fssplat.data.loader import TrainingBatches

app = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Download, build, check and describe data sets of shards.",
)

NAMES = "pascal-5i, coco-20i, fss-1000, synthetic, or a name of your own"
ROOT = typer.Argument(help=f"The folder or s3:// address of a built data set, or {NAMES}.")


@app.command()
def build(
    context: typer.Context,
    name: str = typer.Argument(help=NAMES),
    source: Path = typer.Option(
        None,
        help="Folder with the official layout.  [default: $FSSPLAT_DATA/raw/<name>]",
        show_default=False,
    ),
    out: Path = typer.Option(
        None, help="Folder for the shards.  [default: $FSSPLAT_DATA/<name>]", show_default=False
    ),
    workers: int = typer.Option(
        0, min=0, help="Processes; 0: one per core. No effect on the result."
    ),
    skip_bad: bool = typer.Option(
        False, help="Leave out images that cannot be used, instead of stopping with a list of them."
    ),
    overwrite: bool = typer.Option(False, help="Replace a data set made from other files."),
    year: str = typer.Option("", help="COCO: 2014 or 2017, if the folder has both."),
    lists: Path = typer.Option(
        None, help="FSS-1000: folder with trn.txt, val.txt, test.txt.", show_default=False
    ),
    seed: int = typer.Option(0, min=0, help="Synthetic: of the pictures. Own: of folds and split."),
    train_images: int = typer.Option(700, min=1, help="Synthetic: training images."),
    val_images: int = typer.Option(300, min=1, help="Synthetic: test images."),
    folds: str = typer.Option("4", help="Own: number of folds, or a YAML file with their classes."),
    classes: list[str] = typer.Option(
        [], "--class", metavar="NAME", help="Own: only this class; red=cat names a value of masks."
    ),
    layout: str = typer.Option("", help="Own: layout of the annotations, if several are found."),
    images: list[Path] = typer.Option([], help="Own: another folder with the pictures."),
    val_share: float = typer.Option(
        0.3, min=0.05, max=0.95, help="Own: share of the test images, if the layout has no splits."
    ),
) -> None:
    """Write the shards and the index of a data set: fssplat data build synthetic

    fssplat data build pascal-5i --source VOCdevkit-and-SBD --out data/pascal-5i

    fssplat data build cells --source my/folder --folds 4
    """
    from fssplat.data.build.convert import BuildSettings
    from fssplat.data.build.convert import build as build_dataset
    from fssplat.data.readers.class_choice import parsed_choice
    from fssplat.data.sources.record import OwnOptions, SourceOptions

    _require_own_options(context, name)
    workers = workers or _cores()
    own = OwnOptions(layout, parsed_choice(classes), tuple(images), folds, val_share)
    options = SourceOptions(lists, year, seed, train_images, val_images, workers, own)
    settings = BuildSettings(options, workers, skip_bad, overwrite)
    with Bar(f"building {name}") as advance:
        report = build_dataset(name, source, out, settings, advance)
    _print_report(report)


OWN = "a data set of your own"
OPTIONS_OF = {  # options of `build` -> the data sets that they are about
    "year": ("coco-20i",),
    "lists": ("fss-1000",),
    "seed": ("synthetic", OWN),
    **dict.fromkeys(("train_images", "val_images"), ("synthetic",)),
    **dict.fromkeys(("folds", "classes", "layout", "images", "val_share"), (OWN,)),
}


def _require_own_options(context: typer.Context, name: str) -> None:
    """Raises InputError for an option that is about another data set than `name`."""
    from fssplat.experiment.datasets import BUILT_IN

    kind = name if name in BUILT_IN else OWN
    for option, of in OPTIONS_OF.items():
        source = context.get_parameter_source(option)
        if kind not in of and source is not None and source.name == "COMMANDLINE":
            typed = {"classes": "class"}.get(option, option).replace("_", "-")
            raise InputError(
                f"--{typed}: is about {' and '.join(of)}, and has no effect on {name}. Leave it "
                "out."
            )


@app.command()
def info(
    root: str = ROOT,
    contiguous: bool = typer.Option(False, help="COCO: folds of 20 classes in a row."),
) -> None:
    """Show the classes of each fold and their images: fssplat data info synthetic

    A cell counts the images with at least 2,048 pixels of the class, then all of them. Of a data
    set of your own, it also looks for empty labels, short classes, and near-duplicates.
    """
    from fssplat.data.checks.own_data import remarks
    from fssplat.data.index import Dataset

    dataset = Dataset.open(_root(root))
    _print_info(dataset, contiguous)
    if dataset.info.folds:
        with Bar("comparing") as advance:
            found = list(remarks(dataset, _cores(), advance))
        for remark in found:
            say(f"warning: {remark}")
        say(f"methods use their recipes for {dataset.info.recipe}")


@app.command()
def verify(
    root: str = ROOT,
    workers: int = typer.Option(0, min=0, help="Threads for decoding; 0: one per core."),
) -> None:
    """Read every byte again and compare it with the index: fssplat data verify data/pascal-5i"""
    from fssplat.data.checks.verify import verify as verify_dataset

    with Bar("verifying") as advance:
        found = verify_dataset(_root(root), workers or _cores(), advance)
    say(
        f"{root}: {counted(found.images, 'image')} in {counted(found.shards, 'shard')}, "
        f"{found.bytes / 2**20:,.1f} MiB: all as in the index."
    )


@app.command()
def audit(
    root: str = ROOT,
    fold: int = typer.Option(0, min=0, help="Fold; decides which classes are novel."),
    protocol: str = typer.Option("fssplat", help="Name of a protocol."),
    novel: str = typer.Option(
        "", help="Policy for novel classes, instead of the protocol's: background, ignore, ..."
    ),
    way: int = typer.Option(1, min=1, help="Classes per episode."),
    shot: int = typer.Option(1, min=1, help="Supports per class."),
    episodes: int = typer.Option(200, min=1, help="Training episodes to check."),
    seed: int = typer.Option(0, min=0, help="Training seed that draws the episodes."),
) -> None:
    """Check that training never sees a novel label: fssplat data audit synthetic --fold 0

    Draws the episodes of a training and compares every mask and target with the stored labels.
    Ends with exit code 2 if one is wrong.
    """
    from fssplat.data.checks.audit import audit as audit_training
    from fssplat.data.index import Dataset
    from fssplat.data.loader import TrainingBatches
    from fssplat.experiment.protocols import resolve_protocol
    from fssplat.experiment.schema import AugmentSpec, TrainingSpec

    rules = resolve_protocol(
        {"name": protocol, "short_classes": "drop", **({"novel": novel} if novel else {})}, "audit"
    )
    changes = AugmentSpec(scale=(0.9, 1.1), rotate=10, blur=True, flip=True, keep_object=0.85)
    training = TrainingSpec(steps=episodes, batch=1, shot=shot, seed=seed, augment=changes)
    batches = TrainingBatches(Dataset.open(_root(root)), fold, rules, training, way)
    with Bar("auditing", "episodes") as advance:
        found = audit_training(batches, episodes, advance)
    found.require_clean()
    _print_audit(found, batches)


@app.command()
def import_lists(
    root: str = ROOT,
    source: Path = typer.Option(..., help="Folder with the public code's list files."),
) -> None:
    """Store the lists of public code beside a data set, for the protocols that are named after it.

    fssplat data import-lists pascal-5i --source FOLDER
    """
    from fssplat.data.build.import_lists import import_lists as import_all
    from fssplat.data.index import Dataset

    for found in import_all(Dataset.open(_root(root)), source):
        kind = "as published" if found.published else "NOT the published list"
        size = f"{counted(found.lines, 'line')}, {counted(found.images, 'image')}"
        say(f"{found.name}: {size}, {kind}")
        if found.unmatched:
            shown = one_line(", ".join(found.unmatched[:3]))
            say(f"  not in the data set: {counted(len(found.unmatched), 'line')}, e.g. {shown}")


@app.command()
def download(
    context: typer.Context,
    name: str = typer.Argument(help="pascal (VOC2012 and SBD) or coco"),
    out: Path = typer.Option(
        None, help="Folder to unpack into.  [default: $FSSPLAT_DATA/raw/<name>]", show_default=False
    ),
    year: str = typer.Option("2017", help="COCO: 2014 or 2017."),
    mirror: str = typer.Option(
        "", help="Another address with the same files, e.g. http://host/dir"
    ),
    keep_archives: bool = typer.Option(False, help="Do not delete unpacked archives."),
) -> None:
    """Download the official archives, check and unpack them: fssplat data download pascal"""
    from fssplat.data.build.download import BUILDS, download_set

    _require_own_options(context, BUILDS.get(name, name))
    folder = download_set(name, out, year=year, mirror=mirror, keep_archives=keep_archives, say=say)
    command = command_line(["fssplat", "data", "build", BUILDS[name], "--source", folder])
    say(f"Next: {command}")


# ---------------------------------------------------------------- helpers and output


def _root(text: str) -> str:
    """The address as given, or the default folder if it is the name of a data set."""
    from fssplat.data.places import default_root
    from fssplat.experiment.datasets import valid_name

    named = valid_name(text) and not Path(text).exists()
    return default_root(text) if named else text


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0))


def _print_report(report: "BuildReport") -> None:
    from fssplat.data.index import REPORT_FILE

    info = report.info
    images = ", ".join(f"{count:,} {split}" for split, count in info.counts.items())
    for note in report.notes:
        say(one_line(f"note: {note}"))
    for item in report.bad:
        say(one_line(f"left out: {item.reason}"))
    if report.bad:
        say(f"{counted(len(report.bad), 'image')} left out, see {report.root / REPORT_FILE}.")
    classes, shards = counted(len(info.classes), "class"), counted(len(info.shards), "shard")
    kept = f", {report.shards_kept} kept from an earlier run" if report.shards_kept else ""
    say(
        f"{report.root}: {info.name}, {classes}, {images} images in "
        f"{shards}{kept}; fingerprint {info.fingerprint}; {report.seconds:.1f} s"
    )


def _print_audit(found: "Audit", batches: "TrainingBatches") -> None:
    names = batches.dataset.info.classes
    drawn = ", ".join(f"{names[c - 1]} {n}" for c, n in sorted(found.classes.items()))
    seen = " and ".join(f"{n:,} as {kind}" for kind, n in sorted(found.novel_pixels.items()) if n)
    say(f"fold {batches.fold}, protocol {batches.protocol.name}: no novel label is seen.")
    say(
        f"{counted(found.episodes, 'training episode')}, {counted(len(found.images), 'image')}; "
        + one_line(drawn)
    )
    say(f"With novel classes: {counted(len(found.with_novel), 'image')}; pixels: {seen or 'none'}")
    for note in batches.episodes.notes:
        say(one_line(f"note: {note}"))
    if batches.episodes.dropped:
        say(one_line(f"left out, too few images: {', '.join(batches.episodes.dropped)}"))


def _print_info(dataset: "Dataset", contiguous: bool) -> None:
    from rich.table import Table

    from fssplat.data.checks.summary import DEFAULT, class_summaries

    info = dataset.info
    summaries = class_summaries(dataset, "contiguous" if contiguous else "interleaved")
    table = Table(title=f"{info.name}: images per class with >= {DEFAULT.min_area:,} px / any")
    table.add_column("fold" if info.labels == "class-index" else "split")
    table.add_column("id", justify="right")
    table.add_column("class")
    for split, count in info.counts.items():
        table.add_column(f"{split} ({count:,})", justify="right")
    for number, one in enumerate(summaries):
        last = number + 1 == len(summaries) or summaries[number + 1].fold != one.fold
        cells = [f"{large:,} / {every:,}" for every, large in one.images.values()]
        table.add_row(one.fold, str(one.class_id), one.name, *cells, end_section=last)
    console = Screen()
    console.print(table)
    console.print(
        f"{info.source or info.name}; format {info.format_version}; "
        f"{counted(len(info.shards), 'shard')}; fingerprint {info.fingerprint}",
        highlight=False,
    )

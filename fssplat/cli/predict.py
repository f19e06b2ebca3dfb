"""`fssplat predict`: mark an object in a few images, find it in all the others."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssplat.cli.progress_bar import Bar
from fssplat.common.errors import InputError
from fssplat.common.printing import counted, one_line, say

if TYPE_CHECKING:
    from fssplat.engine.predicting.prepared import PreparedSupports
    from fssplat.serving.folders.run import RunSummary

MODEL = typer.Option(
    help="A model of the store (`fssplat models`), models:/... of MLflow, a bundle, or prior."
)
STORE = typer.Option("results", help="The store with the models.")
BACKBONE = typer.Option(
    "", help="For a method without training.  [default: efficientnet_lite0]", show_default=False
)


def predict(
    model: str = MODEL,
    support: list[Path] = typer.Option(
        help="Images in which the object is marked: a folder or an annotation file of any layout."
    ),
    query: list[str] = typer.Option(help="Images to search: a folder, a file or a pattern."),
    out: Path = typer.Option(help="Folder for the masks and predictions.csv."),
    classes: list[str] = typer.Option(
        [], "--class", metavar="NAME", help="Only this class; red=cat names what is red in masks."
    ),
    formats: str = typer.Option("png", "--format", help="One or more of png,coco,labelme,yolo."),
    overlay: bool = typer.Option(False, help="Also write pictures with the masks drawn in."),
    threshold: float = typer.Option(
        0.5, min=0, max=1, help="Least probability of a pixel; at 0.5 the method decides."
    ),
    layout: str = typer.Option("", help="Layout of the supports, if several are found."),
    images: list[Path] = typer.Option([], help="Another folder with the pictures of the supports."),
    shots: int = typer.Option(0, min=0, help="Most supports of a class; 0: all."),
    score: bool = typer.Option(True, help="First find the supports themselves, and print the IoU."),
    overwrite: bool = typer.Option(False, help="Replace predictions of another model or supports."),
    store: str = STORE,
    backbone: str = BACKBONE,
) -> None:
    """Find in all images what is marked in a few.

    fssplat predict --model hsnet-fold0 --support refs --query photos --out masks

    Run it again to resume, or to add images and formats.
    """
    from fssplat.data.readers.class_choice import parsed_choice
    from fssplat.engine.predicting.prepared import PreparedSupports
    from fssplat.serving.folders.queries import find_queries
    from fssplat.serving.folders.run import OutputSettings, predict_all
    from fssplat.serving.models.opening import load_model
    from fssplat.serving.supports import read_supports

    names = tuple(dict.fromkeys(name.strip() for name in formats.split(",")))
    settings = OutputSettings(out, names, overlay, overwrite)
    queries = find_queries(query)
    given = read_supports(support, parsed_choice(classes), layout, images, shots or None)
    for note in given.notes:
        say(one_line(note))
    loaded = load_model(model, store, backbone)
    say(one_line(f"model: {loaded.name}, {loaded.source}"))

    def prepared() -> PreparedSupports:
        supports = PreparedSupports(loaded.predictor, given.classes, threshold)
        if score:
            _print_scores(supports)
        return supports

    identity = {"model": loaded.key, "supports": given.key, "threshold": threshold}
    with Bar(f"predicting {counted(len(queries), 'image')}", speed=True) as advance:
        summary = predict_all(prepared, list(given.classes), queries, settings, identity, advance)
    _print_summary(summary, settings.out)


def _print_scores(supports: "PreparedSupports") -> None:
    from fssplat.serving.self_check import self_scores

    for name, one in self_scores(supports).items():
        who = one_line(name)
        if one.left_out:
            each = f"{counted(one.supports, 'support')}, each by the others"
            say(f"{who}: finds its own supports at {100 * one.iou:.0f} IoU ({each})")
        else:
            say(f"{who}: finds its only support, by itself, at {100 * one.iou:.0f} IoU")


def _print_summary(summary: "RunSummary", out: Path) -> None:
    """Print what was found. Raises InputError if a query could not be read."""
    from fssplat.serving.folders.run import TABLE

    done = summary.queries - len(summary.faults)
    before = done - summary.predicted
    rate = summary.predicted / summary.seconds if summary.seconds else 0.0
    kept = f" ({before} of them before)" if before else ""
    say(f"{done} of {counted(summary.queries, 'image')}{kept}, {rate:.1f} images/s")
    for name, count in summary.found.items():
        say(f"  {one_line(name)}: in {count}, absent in {done - count}")
    say(f"Wrote {shlex.quote(str(out))} and {TABLE} in it")
    if summary.faults:
        first = next(iter(summary.faults.values()))
        more = (
            f" {len(summary.faults) - 1} more are in predictions.csv."
            if len(summary.faults) > 1
            else ""
        )
        raise InputError(f"{first}{more}")

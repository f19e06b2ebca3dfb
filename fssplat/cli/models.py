"""`fssplat models`, `export` and `import`: the models of a store, and models as one file."""

from pathlib import Path

import typer

from fssplat.cli.predict import STORE
from fssplat.cli.store_status import DEFAULT_STORE
from fssplat.common.errors import InputError
from fssplat.common.printing import command_line, one_line, say


def models(store: str = STORE) -> None:
    """Show the models of a store, by the names that predict takes: fssplat models"""
    from fssplat.results.store import Store
    from fssplat.serving.models.catalogue import BUNDLES, models_in

    opened = Store(store)
    found = models_in(opened)
    if not found:
        raise InputError(
            f"store {opened.shown_address}: no model is there. Name another with --store, run "
            "`fssplat launch X.yaml`, or predict with a method without training: --model prior."
        )
    rows = [("name", "mIoU: 1-shot", "5-shot", "id", "trained on", "backbone")]
    for one in found:
        scores = (f"{100 * one.miou[k]:.1f}" if one.miou and k in one.miou else "" for k in (1, 5))
        first, second = scores
        short = one.id if one.folder.startswith(BUNDLES) else one.id[:8]
        data = f"{one.trial.train_on.name} fold {one.trial.fold}"
        rows.append((one.name, first, second, short, data, one.trial.backbone.name))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if column in (1, 2) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        say(one_line("  ".join(cells)))


def export(
    model: str = typer.Argument(help="A model of the store, e.g. hsnet-fold0 (`fssplat models`)."),
    out: Path = typer.Option(Path(), help="File or folder for the bundle."),
    store: str = STORE,
) -> None:
    """Write a model as one file for others: fssplat export hsnet-fold0

    It has weights, settings, protocol, fingerprint and a model card; no pickle. The weights of a
    frozen backbone are not in it: they are public.
    """
    import tempfile

    from fssplat.results.store import Store
    from fssplat.serving.models.bundle import export_bundle
    from fssplat.serving.models.catalogue import find_model, local_folder

    opened = Store(store)
    found = find_model(opened, model)
    with tempfile.TemporaryDirectory(prefix="fssplat-export-") as scratch:
        folder = local_folder(opened, found, Path(scratch))
        path = export_bundle(found, folder, out, _fingerprint(found.trial.train_on.root))
    say(f"Wrote {one_line(str(path))} ({path.stat().st_size / 1e6:.1f} MB)")
    say(f"To use it elsewhere: {command_line(['fssplat', 'import', str(path)])}")


def import_model(
    bundle: Path = typer.Argument(help="A file of `fssplat export`."),
    name: str = typer.Option(
        "", help="Its name in the store.  [default: as exported]", show_default=False
    ),
    store: str = STORE,
) -> None:
    """Check a model that was exported and put it into a store: fssplat import hsnet-fold0.fssplat

    Sizes, checksums and names are checked; nothing is unpickled and no code is imported.
    """
    from fssplat.results.store import Store
    from fssplat.serving.models.bundle import import_bundle

    chosen = import_bundle(bundle, Store(store), name)
    say(f"Imported {one_line(chosen)} into {one_line(store)}")
    words = ["fssplat", "predict", "--model", chosen, "--support", "refs", "--query", "photos"]
    words += ["--out", "masks", *(["--store", store] if store != DEFAULT_STORE else [])]
    say(f"To use it: {command_line(words)}")


def _fingerprint(root: str) -> str:
    """That of the training data, if they are still where they were; else empty."""
    from fssplat.data.index import DatasetInfo
    from fssplat.experiment.datasets import INFO_FILE

    path = Path(root) / INFO_FILE
    try:
        return DatasetInfo.from_json(path.read_text(encoding="utf-8"), str(path)).fingerprint
    except (OSError, InputError):
        return ""

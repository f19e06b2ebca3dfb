"""A folder of queries: the same masks as the evaluation's, resumed, in every format read back."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.errors import InputError
from fssplat.data.readers.layouts import find_layout, read_layout
from fssplat.data.readers.record import load
from fssplat.engine.predicting.predictor import Predictor
from fssplat.engine.predicting.prepared import PreparedSupports
from fssplat.results.store import Store
from fssplat.serving.folders import run as folders
from fssplat.serving.folders.queries import find_queries
from fssplat.serving.supports import read_supports


def command(store: Store, marked: Path, out: Path, *more: str) -> Any:
    words = ["predict", "--model", "prior-fold0", "--store", store.address, "--out", str(out)]
    words += ["--support", str(marked / "refs"), "--query", str(marked / "photos"), *more]
    return CliRunner().invoke(app, words)


def masks_in(out: Path) -> dict[str, Any]:
    return {path.stem: np.array(Image.open(path)) for path in sorted(out.glob("*.png"))}


@pytest.fixture(scope="module")
def predicted(store: Store, marked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every format of the photos; do not change it."""
    out = tmp_path_factory.mktemp("predicted") / "masks"
    result = command(store, marked, out, "--format", "png,coco,labelme,yolo", "--overlay")
    assert result.exit_code == 0, result.output
    assert "object: 3 supports; in the masks 0 is background and 255 is object" in result.output
    assert "finds its own supports at" in result.output
    assert "4 of 4 images" in result.output
    return out


def test_masks_equal_those_of_whole_episodes(
    predicted: Path, marked: Path, predictor: Predictor
) -> None:
    given = read_supports(marked / "refs").classes["object"]
    pictures = [load_pixels(one.path) for one in find_queries([str(marked / "photos")])]
    supports = [one.pixels for one in given], [one.mask for one in given]
    for mask, pixels in zip(masks_in(predicted).values(), pictures, strict=True):
        assert mask.shape == pixels.shape[:2]
        assert (mask == 255 * predictor(pixels, *supports)).all()


def load_pixels(path: Path) -> Any:
    return np.array(Image.open(path).convert("RGB"))


@pytest.mark.parametrize(
    ("place", "exact"),
    [(".", True), ("coco.json", True), ("labelme", False), ("yolo", False)],
)
def test_what_a_format_writes_is_read_back(
    place: str, exact: bool, predicted: Path, marked: Path
) -> None:
    layout = "pairs" if place == "." else find_layout(predicted / place)
    records = read_layout(predicted / place, layout, [marked / "photos"])
    found = {one.image.stem: load(one).masks for one in records}
    assert any(mask.any() for mask in masks_in(predicted).values())
    for name, mask in masks_in(predicted).items():
        if not mask.any():
            continue
        (again,) = found[name].values()
        assert (again == mask // 255).mean() >= (1 if exact else 0.999)


def test_the_table_has_a_row_for_each_picture_and_class(predicted: Path) -> None:
    with (predicted / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    masks = masks_in(predicted)
    assert [Path(row["image"]).stem for row in rows] == sorted(masks)
    for row in rows:
        pixels = int((masks[Path(row["image"]).stem] > 0).sum())
        assert int(row["pixels"]) == pixels
        assert row["status"] == ("found" if pixels else "absent")
    assert len(list((predicted / "overlays").glob("*.jpg"))) == len(rows)


def test_a_second_call_predicts_only_what_is_missing(
    predicted: Path, store: Store, marked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "masks"
    shutil.copytree(predicted, out)
    journal = out / ".predictions.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]) + lines[-1][:40])  # killed while it wrote a line
    sorted(out.glob("*.png"))[0].unlink()
    calls: list[Any] = []
    whole = PreparedSupports.__call__
    monkeypatch.setattr(
        PreparedSupports, "__call__", lambda self, pixels: calls.append(1) or whole(self, pixels)
    )
    assert command(store, marked, out).exit_code == 0
    assert len(calls) == 1
    assert {n: m.tobytes() for n, m in masks_in(out).items()} == {
        n: m.tobytes() for n, m in masks_in(predicted).items()
    }
    other = command(store, marked, out, "--threshold", "0.7")
    assert isinstance(other.exception, InputError)
    assert "it has predictions with another threshold" in str(other.exception)
    assert command(store, marked, out, "--threshold", "0.7", "--overwrite").exit_code == 0
    assert len(calls) == 5


def test_a_query_that_cannot_be_read_costs_no_other(
    store: Store, marked: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(marked / "photos", photos)
    bad = next(photos.glob("*.jpg"))
    bad.write_bytes(bad.read_bytes()[:300])
    words = ["predict", "--model", "prior-fold0", "--store", store.address, "--no-score"]
    words += ["--support", str(marked / "refs"), "--query", f"{photos}/*.jpg"]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, InputError)
    assert f"{bad}: the image cannot be read" in str(result.exception)
    assert len(list((tmp_path / "out").glob("*.png"))) == 3
    assert f"{bad.name},,unreadable: " in (tmp_path / "out" / "predictions.csv").read_text()


def test_several_classes_have_a_palette_and_their_names(
    predictor: Predictor, marked: Path, tmp_path: Path
) -> None:
    given = read_supports(marked / "refs").classes["object"]
    supports = PreparedSupports(predictor, {"cat": given[:1], "dog": given[1:]})
    queries = find_queries([str(marked / "photos")])[:2]
    settings = folders.OutputSettings(tmp_path, ("png", "coco"))
    summary = folders.predict_all(lambda: supports, ["cat", "dog"], queries, settings, {})
    assert json.loads((tmp_path / "classes.json").read_text()) == {"1": "cat", "2": "dog"}
    records = read_layout(tmp_path, "pairs", [marked / "photos"])
    for one in records:
        labels = np.array(Image.open(one.annotation.files[0]))
        for place, name in enumerate(("cat", "dog"), start=1):
            mask = load(one).masks.get(name)
            assert ((labels == place) == (mask == 1 if mask is not None else False)).all()
    assert summary.predicted == 2
    assert all(summary.found[name] <= 2 for name in ("cat", "dog"))

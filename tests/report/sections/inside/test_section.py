"""The chapter of inner maps, from a store with a trained network."""

import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fssplat.engine.device import best_device
from fssplat.experiment.trial import Job
from fssplat.report.document.content import Document, Figure, Points, Section
from fssplat.report.sections.inside.collect import Column, column, worst
from fssplat.report.sections.inside.models import Models
from fssplat.report.sections.inside.section import inside
from fssplat.report.writing.files import write_report
from fssplat.results.store import Store
from tests.fakes.synthetic_jobs import synthetic_job
from tests.report.sections.inside.conftest import CPU, evidence_of, run_into

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chapter(maps_store: Store, maps_job: Job) -> Section:
    made = inside(evidence_of(maps_store, maps_job))
    assert made is not None
    return made


def figures(chapter: Section) -> dict[str, Figure]:
    """By the first word of their names."""
    made = [part for part in chapter.parts if isinstance(part, Figure)]
    return {one.name.partition("-")[0]: one for one in made}


def test_each_prediction_shown_has_the_iou_of_the_store(maps_store: Store, maps_job: Job) -> None:
    evidence = evidence_of(maps_store, maps_job)
    (cell,) = evidence.blocks[0].rows[0].cells
    opened = Models(evidence, CPU).open(cell)
    shown = [column(opened, one) for one in opened.episodes[:4]]
    data = maps_store.files.read(f"{cell.trial_id}/episodes.parquet")
    assert data is not None
    rows = {
        (row["seed"], row["episode"]): row["intersection"] / row["union"]
        for row in pq.read_table(io.BytesIO(data)).to_pylist()
        if row["score"] == "original"
    }
    for one in shown:
        assert one.iou == pytest.approx(rows[one.seed, one.episode])
        assert iou_of(one) == pytest.approx(one.iou)
        prior = one.shown["prior"]
        assert prior.shape[0] <= 65
        assert prior.shape[1] <= 65
        height, width = one.query.shape[:2]
        assert prior.shape[0] / prior.shape[1] == pytest.approx(height / width, abs=0.03)
    failing = worst(opened, cell, evidence_models(evidence), 2)
    lowest = min(iou for (seed, _), iou in rows.items() if seed == failing[0].seed)
    assert rows[failing[0].seed, failing[0].index] == lowest


def evidence_models(evidence):  # type: ignore[no-untyped-def]
    return Models(evidence, CPU)


def iou_of(one: Column) -> float:
    known = one.truth != 255
    ours, theirs = (one.prediction == 1) & known, one.truth == 1
    return float((ours & theirs).sum() / (ours | theirs).sum())


def test_the_chapter_has_maps_failures_and_a_tsne_with_its_settings(chapter: Section) -> None:
    made = figures(chapter)
    assert list(made) == ["maps", "failures", "tsne"]
    episodes = made["maps"].data
    assert [heading.text for heading in episodes.headings][:4] == [
        "column", "fold", "episode seed", "episode",
    ]  # fmt: skip
    assert len(episodes.lines) == 6
    names = list(made["maps"].arrays)
    assert names[0] == "fold 0 seed 0 episode 0 prior"
    assert names[1] == "fold 0 seed 0 episode 0 prediction"
    classes = {str(line.cells[4]) for line in made["failures"].data.lines}
    assert len(classes) == len(made["failures"].data.lines)
    caption = made["tsne"].caption
    assert "Layer: pfenet: stages 2 and 3, reduced to 256 channels." in caption
    assert "seed 0, perplexity" in caption
    points = [str(line.cells[2]) for line in made["tsne"].data.lines]
    assert len({points.count(name) for name in points}) == 1  # class-balanced


def test_the_same_store_gives_the_same_bytes(
    maps_store: Store, maps_job: Job, chapter: Section, tmp_path: Path
) -> None:
    again = inside(evidence_of(maps_store, maps_job))
    assert again is not None
    first = write_report(Document("x", (chapter,)), tmp_path / "first")
    second = write_report(Document("x", (again,)), tmp_path / "second")
    assert [one.name for one in first] == [one.name for one in second]
    for ours, theirs in zip(first, second, strict=True):
        assert ours.read_bytes() == theirs.read_bytes(), ours.name
    kinds = {one.suffix for one in first}
    assert kinds == {".html", ".md", ".json", ".pdf", ".png", ".csv", ".npz"}
    page = (tmp_path / "first" / "index.html").read_text()
    assert page.count("data:image/webp;base64,") == 2
    (npz,) = [one for one in first if one.name.startswith("maps") and one.suffix == ".npz"]
    with np.load(npz) as arrays:
        assert arrays["fold 0 seed 0 episode 0 prior"].ndim == 2


def not_shown(store: Store, job: Job) -> tuple[str, ...]:
    made = inside(evidence_of(store, job))
    assert made is not None
    assert not figures(made)
    (part,) = [one for one in made.parts if isinstance(one, Points)]
    assert part.heading == "Not shown"
    return part.items


def test_weights_that_are_away_are_named(maps_store: Store, maps_job: Job, tmp_path: Path) -> None:
    assert maps_store.folder is not None
    shutil.copytree(maps_store.folder, tmp_path / "store")
    (tmp_path / "store" / "jobs" / maps_job.key / "weights.safetensors").unlink()
    (line,) = not_shown(Store(str(tmp_path / "store")), maps_job)
    assert f"has no weights of this trial in jobs/{maps_job.key}" in line
    assert "pfenet" in line


def test_a_data_set_that_is_away_or_another_one_is_named(
    maps_store: Store, maps_job: Job, synthetic: Path, tmp_path: Path
) -> None:
    nowhere = maps_job.first.dataset.model_copy(update={"root": str(tmp_path / "gone")})
    trial = maps_job.first.model_copy(update={"dataset": nowhere, "train_on": nowhere})
    evidence = evidence_of(maps_store, maps_job)
    (source,) = evidence.sources
    (trial_id,) = source.trials
    evidence.sources = [type(source)(**{**vars(source), "trials": {trial_id: trial}})]
    made = inside(evidence)
    assert made is not None
    (part,) = [one for one in made.parts if isinstance(one, Points)]
    assert str(tmp_path / "gone") in part.items[0]


def test_mining_shows_pseudo_masks_and_a_figure_has_the_predictions_of_all_methods(
    maps_store: Store, maps_job: Job, synthetic: Path, tmp_path: Path
) -> None:
    store = Store.open(str(tmp_path / "store"))
    small = {"pool_images": 6, "pseudo_per_pair": 1}
    mining, prior = (
        synthetic_job(synthetic, method, training={"steps": 1}, episodes=30, episode_seeds=[0])
        for method in ({"name": "mining", "options": small}, "prior")
    )
    for job in (mining, prior, maps_job):
        run_into(store, job)
    made = inside(evidence_of(store, mining, prior, maps_job))
    assert made is not None
    shown = figures(made)
    assert {"maps", "failures", "labels", "predictions", "tsne"} <= set(shown)
    assert "predictions of mining, prior, pfenet." in shown["predictions"].caption
    assert "latent novel classes" in shown["labels"].caption
    labels = shown["labels"].arrays["1 labels"]
    assert labels.dtype == np.uint8
    assert labels.max() <= 5
    assert best_device().type in ("cpu", "cuda")
    write_report(Document("x", (made,)), tmp_path / "out")

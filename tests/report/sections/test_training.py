"""The chapter on trainings: means and ranges over training seeds, resumes, divergences, damage."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fssplat.experiment.trial import Trial
from fssplat.report.document.content import Figure, Points, Section, Table, Text
from fssplat.report.sections.training import training
from fssplat.report.statistics.thinned import SeedPoint, over_seeds, thinned
from fssplat.results.store import Store
from tests.fakes.report_stores import evidence, small_grid


@pytest.fixture
def store(report_store: Store, tmp_path: Path) -> Store:
    shutil.copytree(report_store.address, tmp_path / "store")
    return Store(str(tmp_path / "store"))


def panet(fold: int, seed: int) -> Trial:
    (found,) = [
        one for one in small_grid()
        if (one.method.name, one.fold, one.training.seed) == ("panet", fold, seed)
    ]  # fmt: skip
    return found


def write(store: Store, one: Trial, losses: dict[int, float], name: str = "steps.parquet") -> Path:
    folder = Path(store.address) / "jobs" / one.training_key({})
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"step": list(losses), "lr": [0.1] * len(losses), "total": [*losses.values()]})
    pq.write_table(table, folder / name)
    return folder


def chapter(store: Store) -> Section:
    found = training(evidence(store))
    assert found is not None
    return found


def test_a_line_is_the_mean_over_training_seeds_and_its_shade_their_range(store: Store) -> None:
    write(store, panet(0, 0), {1: 4.0, 2: 2.0})
    folder = write(store, panet(0, 1), {1: 2.0, 2: 1.0})
    (folder / "training.json").write_text('{"resumed": [1], "scores": {"2": 0.5}}')
    losses, scores, table, events, text = chapter(store).parts
    assert isinstance(losses, Figure)
    assert isinstance(scores, Figure)
    shown = [[c if isinstance(c, str) else c.number for c in line.cells] for line in
             losses.data.lines]  # fmt: skip
    assert shown == [
        ["panet", "resnet50", "0", 1, 2, 3.0, 2.0, 4.0],
        ["panet", "resnet50", "0", 2, 2, 1.5, 1.0, 2.0],
    ]
    assert [line.cells[5].number for line in scores.data.lines] == [50.0]  # type: ignore[union-attr]
    assert losses.draw().axes[0].get_title(loc="left") == "panet"
    assert isinstance(table, Table)
    (line,) = table.lines
    assert [c if isinstance(c, str) else c.text for c in line.cells] == [
        "panet", "resnet50", "0", "2", "2", "1.500 ± 0.707", "50.0", "1", "0",
    ]  # fmt: skip
    assert events == Points(
        ("panet, fold 0, seed 1: resumed after step 1.",), "Resumed or diverged"
    )
    assert isinstance(text, Text)
    assert "no losses of 4 of 6 trainings" in text.text


def test_an_unfinished_training_shows_its_parts_and_where_it_diverged(store: Store) -> None:
    one = panet(1, 0)
    trial_id, job = one.trial_id({}), one.training_key({})
    store.delete_trial(trial_id)
    store.mark([trial_id], "diverged", "diverged at step 4: total nan", job)
    write(store, one, {1: 3.0, 2: 2.0}, "steps/000000001-000000002.parquet")
    folder = write(store, one, {3: 9.0}, "steps/000000003-000000003.parquet")
    (folder / "diverged.json").write_text(json.dumps({"step": 4, "losses": {"total": "nan"}}))
    losses, _, events, _ = chapter(store).parts
    assert isinstance(losses, Figure)
    assert [line.cells[3].number for line in losses.data.lines] == [1, 2, 3]  # type: ignore[union-attr]
    labels = [text.get_text() for text in losses.draw().legends[0].get_texts()]
    assert labels == ["fold-1", "diverged"]
    assert isinstance(events, Points)
    assert events.items == ("panet, fold 1, seed 0: diverged at step 4.",)


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"{}"])
def test_damaged_losses_are_named(store: Store, damage: bytes) -> None:
    (write(store, panet(0, 0), {1: 1.0}) / "steps.parquet").write_bytes(damage)
    found = evidence(store)
    section = training(found)
    assert section is not None
    assert "the losses of its training cannot be read" in found.problems[0]


def test_parts_of_a_training_have_equal_steps_whatever_was_logged() -> None:
    steps, values = np.arange(1, 8), np.arange(1.0, 8.0)
    assert thinned(steps, values, 7, points=3) == {3: 2.0, 6: 5.0, 7: 7.0}
    assert thinned(steps[:4], values[:4], 7, points=3) == {3: 2.0, 6: 4.0}
    assert over_seeds([{3: 1.0, 6: 2.0}, {3: 3.0}]) == [
        SeedPoint(3, 2.0, 1.0, 3.0, 2), SeedPoint(6, 2.0, 2.0, 2.0, 1),
    ]  # fmt: skip

"""Older trials get the record of their wrong pixels, from masks or from weights."""

from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.engine.job_data import JobData
from fssplat.engine.run import run_job
from fssplat.planning.plan import Plan
from fssplat.results.maintenance import damaged_files
from fssplat.results.store import Store
from fssplat.worker.rescoring import Rescored, rescore
from tests.worker.test_timing import plan_of

DETAILS, PREDICTIONS = "details.parquet", "predictions.parquet"


def older_store(plan: Plan, data: Path, masks: bool) -> tuple[Store, dict[str, bytes]]:
    """A store whose finished trials have no record, and the records that were taken from it."""
    store = Store.open(plan.experiment.store)
    records = {}
    for job in plan.jobs:
        folder = store.job_folder(job.key)
        results = run_job(job, JobData.open(job), folder)
        for trial_id, metrics in results.items():
            place = folder / "trials" / trial_id
            records[trial_id] = (place / DETAILS).read_bytes()
            (place / DETAILS).unlink()
            if not masks:
                (place / PREDICTIONS).unlink()
            about = {"job": job.key}
            store.finish(plan.trials[trial_id], trial_id, place, metrics, (), about)
    return store, records


@pytest.mark.slow
def test_masks_and_weights_give_the_record_that_the_evaluation_wrote(
    synthetic: Path, tmp_path: Path
) -> None:
    steps: list[str] = []
    for masks in (True, False):
        plan = plan_of(synthetic, tmp_path / str(masks))
        store, records = older_store(plan, synthetic, masks)
        before = store.results(plan.trials)
        said: list[str] = []
        found = rescore(plan, store, said.append, steps.append)
        assert found == Rescored(masks=2 * masks, weights=2 * (not masks))
        assert said == []
        after = store.results(plan.trials)
        for trial_id, record in records.items():
            now = store.files.read(f"{trial_id}/{DETAILS}")
            assert now is not None
            assert pq.read_table(BytesIO(now)).equals(pq.read_table(BytesIO(record)))
            assert after[trial_id].metrics == before[trial_id].metrics
            assert store.predictions(trial_id) is not None
        assert damaged_files(plan.trials, store) == ({}, 0)
        assert rescore(plan, store, said.append, steps.append) == Rescored(there=2)
    assert any("from its kept masks" in step for step in steps)


@pytest.mark.slow
def test_a_trial_that_cannot_be_scored_is_named(synthetic: Path, tmp_path: Path) -> None:
    plan = plan_of(synthetic, tmp_path)
    store, records = older_store(plan, synthetic, masks=False)
    first, other = plan.jobs
    store.files.delete(f"jobs/{first.key}")
    episodes = store.files.read(f"{other.trial_ids[0]}/episodes.parquet")
    table = pq.read_table(BytesIO(episodes or b""))
    place = table.schema.get_field_index("intersection")
    halves = pa.array(table["intersection"].to_numpy() // 2)
    worse = table.set_column(place, "intersection", halves)
    path = tmp_path / "worse.parquet"
    pq.write_table(worse, path)
    store.add_files(other.trial_ids[0], {"episodes.parquet": path.read_bytes()})
    said: list[str] = []
    found = rescore(plan, store, said.append, said.append)
    assert found.failed == 2
    text = "\n".join(said)
    assert "its weights are not in the store any more" in text
    assert "have a mean IoU of" in text
    for trial_id in records:
        assert store.files.read(f"{trial_id}/{DETAILS}") is None


def test_the_command_says_what_it_did(synthetic: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(
        f"name: small\ndataset: synthetic\n"
        f"datasets: {{synthetic: {{name: synthetic, root: {synthetic}}}}}\n"
        "backbones: {efficientnet_lite0: {name: efficientnet_lite0, weights: random}}\n"
        "grid: {method: [prior], backbone: [efficientnet_lite0]}\n"
        f"store: {tmp_path}/store\n"
    )
    done = CliRunner().invoke(app, ["rescore", str(path)])
    assert done.exit_code == 0, done.output
    assert "0 had the record; 0 could not be scored." in done.output

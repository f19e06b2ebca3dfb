"""MLflow's real pages in a real browser show the table that docs/compare.md promises."""

from pathlib import Path

import pytest

from docs.browser import Browser, chromium
from docs.screenshots import free_port, mlflow_pages, served
from fssplat.launching.launch import Request, plan_from
from fssplat.results.store import Store
from fssplat.tracking.delivery import sync
from fssplat.tracking.runs import open_tracking
from fssplat.tracking.server.connection import tracking_uri
from fssplat.tracking.views import address
from fssplat.worker.claimed_job import perform
from fssplat.worker.job_task import JobTask
from tests.fakes.engines import RecordedNotes, train_and_score
from tests.fakes.experiment_files import experiment_without_images


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(chromium() is None, reason="no Chromium: install the package `chromium`")
def test_the_shared_views_show_a_row_per_method_with_its_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = experiment_without_images(tmp_path, grid="{method: [panet, hsnet], fold: [0, 1]}")
    request = Request(path)
    store = Store.open(str(tmp_path / "store"))
    plan, _ = plan_from(request)
    for job in plan.jobs:
        perform(JobTask(job, store.address, "l1"), RecordedNotes(), train_and_score)
    tracking = open_tracking(tracking_uri("", store), "small")
    assert sync(tracking, store, plan.trials, lambda _: {}) == 4
    port = free_port()
    with served(mlflow_pages(request, port), port, "/health") as server, Browser() as browser:
        browser.open(server + address(tracking.experiment_id), "panet 1-shot rn50")
        browser.wait("hsnet 1-shot rn50")
        shown = str(browser.run("document.body.innerText"))
        for heading in ("miou_points", "points/fold-0", "points/fold-1", "fb_iou_points"):
            assert heading in shown
        assert "2 matching runs" in shown
        assert shown.split().count("50") == 6  # the mean and two folds of both rows
        browser.open("about:blank", "")
        browser.open(server + address(tracking.experiment_id, "trials"), "Group by: row")
        browser.wait("Group: panet 1-shot resnet50 synthetic")
        shown = str(browser.run("document.body.innerText"))
        assert "4 matching runs" in shown
        assert shown.count("0.5 (average)") >= 4

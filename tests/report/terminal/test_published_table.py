"""Whole published tables: which figures are of one line, the layout, and the remarks."""

from io import StringIO

import pytest

from fssplat.common.printing import Screen
from fssplat.experiment.expand import expand
from fssplat.experiment.schema import ExperimentSpec
from fssplat.experiment.trial import Trial
from fssplat.launching.verify import TableRequest
from fssplat.methods import METHODS
from fssplat.report import published
from fssplat.report.published import PublishedRow
from fssplat.report.published_tables import Ours, lines
from fssplat.report.terminal.published_table import published_tables
from fssplat.results.records import Result


def ours_for(rows: list[PublishedRow], metrics: dict[str, float]) -> Ours:
    """Results with these metrics for every trial of the rows that can run; those with CKMM have 0.1
    more mIoU."""
    trials: dict[str, Trial] = {}
    ids: dict[str, list[str]] = {}
    for row in rows:
        if published.why_not_run(row):
            continue
        made = ExperimentSpec.model_validate(published.experiment(row))
        of_row = {trial.trial_id({}): trial for trial in expand(made, METHODS)}
        trials |= of_row
        ids[row.name] = list(of_row)
    results = {}
    for one, trial in trials.items():
        more = 0.1 if trial.method.options.get("ckmm") else 0.0
        results[one] = Result({**metrics, "miou": metrics["miou"] + more})
    return Ours(trials, results, ids)


def page(name: str, metrics: dict[str, float], width: int = 80) -> str:
    rows = published.matching(name)
    reasons = TableRequest(name).left_out()
    text = StringIO()
    Screen(file=text, width=width).print(
        published_tables(rows, ours_for(rows, metrics), reasons, changed=False)
    )
    return text.getvalue()


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_line_holds_both_shots_and_all_figures_of_a_method() -> None:
    line = next(one for one in lines(published.matching("HMFS:2")) if one.method == "HMFS")
    assert [(row.shot, row.metric) for row in line.rows] == [
        (1, "mIoU"),
        (1, "FB-IoU"),
        (5, "mIoU"),
        (5, "FB-IoU"),
    ]


def test_a_mean_and_fb_iou_have_a_difference_to_the_printed_ones() -> None:
    found = words(page("MM-Net:7", {"miou": 0.6, "fb_iou": 0.7}))
    assert ["MM-Net", "w/o", "QMM", "printed", "60.7", "71.0", "56.9", "61.8", "62.6"] in found
    assert ["ours", "60.0", "60.0", "60.0", "60.0", "60.0"] in found
    assert ["difference", "-0.7", "-11.0", "+3.1", "-1.8", "-2.6"] in found


def test_a_gain_is_the_difference_of_two_of_our_rows() -> None:
    found = words(page("JC2A:5", {"miou": 0.6}))
    place = next(n for n, line in enumerate(found) if line[:3] == ["PFENet", "+CKMM,", "gain"])
    assert "0.8" in found[place]  # printed for fold 0
    assert found[place + 1][-5:] == ["10.0"] * 5


def test_each_class_of_a_fold_has_its_own_iou() -> None:
    metrics = {"miou": 0.6, "iou/aeroplane": 0.26, "iou/bus": 0.4, "iou/sofa": 0.01}
    found = words(page("SD-AANet:VIII", metrics))
    place = next(
        n for n, line in enumerate(found) if line[-5:-1] == ["25.0", "38.4", "55.5", "57.9"]
    )
    assert found[place + 1][-5:-3] == ["26.0", "40.0"]
    assert found[place + 2][-5:-3] == ["+1.0", "+1.6"]


def test_parameters_are_those_that_the_paper_counts() -> None:
    counts = {"test_parameters": 8_667_072.0, "total_parameters": 11e6}
    found = words(page("MiningFSS:2", {"miou": 0.6, **counts}))  # counted when tested
    place = next(n for n, line in enumerate(found) if line == ["MiningFSS", "printed", "8.7"])
    assert found[place + 1] == ["ours", "8.7"]


def test_parameters_that_only_the_paper_counts_are_named() -> None:
    text = " ".join(page("JC2A:3", {"miou": 0.6, "total_parameters": 19.1e6}).split())
    assert "Parameters: The paper also counts the last stage of ResNet-50 (14.96 M)" in text
    assert "Parameters:" not in page("JC2A:1", {"miou": 0.6})


def test_settings_of_our_own_are_named_below_the_table() -> None:
    text = " ".join(page("MiningFSS:7", {"miou": 0.6}).split())
    assert text.count("ours are padded to 473 pixels") == 1


@pytest.mark.parametrize("width", [80, 200])
def test_shots_are_side_by_side_where_they_fit(width: int) -> None:
    text = page("HMFS:2", {"miou": 0.6, "fb_iou": 0.7}, width)
    headings = [line for line in text.splitlines() if "-shot" in line and "fold" not in line]
    tables = [line for line in headings if not line.startswith("Ours")]
    assert len(tables) == (1 if width == 200 else 2)
    table = [line for line in text.splitlines() if not line.startswith(("Ours", "Not run"))]
    assert max(map(len, table)) <= width


def test_what_is_not_run_is_named_once_for_each_reason() -> None:
    text = " ".join(page("MM-Net", {"miou": 0.6}).split())
    assert text.count("Not run") == 2
    assert "Not run (1 figures): MM-Net w/ Attn: not implemented here: the attention of" in text
    assert "Not run (18 figures): FWB, CANet, PGNet, CRNet, PMMs, PPNet: no such method" in text

"""The printed results have names and become experiments."""

from collections.abc import Callable

import pytest

from fssplat.common.errors import InputError
from fssplat.experiment.expand import expand
from fssplat.experiment.schema import ExperimentSpec
from fssplat.experiment.trial import Trial
from fssplat.methods import METHODS
from fssplat.report import published
from fssplat.report.published_variants import NOT_IMPLEMENTED


def test_every_row_of_the_data_file_has_a_name_that_finds_it() -> None:
    rows = published.rows()
    assert len(rows) == 624
    assert all(published.find(row.name) is row for row in rows)


def test_a_table_may_be_written_in_several_ways() -> None:
    assert published.find("hmfs:table 2:3") is published.find("HMFS:2:3")
    assert published.find("SD-AANet:IV:1").table == "Table IV"
    assert published.matching("sd-aanet:4") == published.matching("SD-AANet:Table IV")
    assert {row.table for row in published.matching("MM-Net:a")} == {"Table A"}


def test_a_mean_agrees_with_its_folds_unless_the_row_is_marked() -> None:
    off = [
        row
        for row in published.rows()
        if row.mean is not None and None not in row.folds and not row.notes
        if abs(sum(fold for fold in row.folds if fold is not None) / 4 - row.mean) > 0.15
    ]
    assert off == []


def test_the_main_rows_of_our_methods_become_experiments() -> None:
    row = next(
        row for row in published.rows() if row.paper == "MiningFSS" and row.method == "MiningFSS"
    )
    made = published.experiment(row)
    assert made["protocol"] == {"name": "miningfss"}
    assert made["grid"]["method"][0]["name"] == "mining"
    assert made["grid"]["backbone"] == ["resnet50_v2"]  # the paper's network has the deep stem


@pytest.mark.parametrize(
    ("paper", "count"), [("MiningFSS", 42), ("JC2A", 42), ("MM-Net", 29), ("SD-AANet", 22)]
)
def test_every_row_of_a_paper_on_its_own_method_has_known_options(paper: str, count: int) -> None:
    rows = [row for row in published.rows() if row.paper == row.method == paper]
    made = [
        published.experiment(row)
        for row in rows
        if row.metric == "mIoU" and row.variant not in NOT_IMPLEMENTED
    ]
    assert len(made) == count
    for experiment in made:
        assert expand(ExperimentSpec.model_validate(experiment), METHODS)


@pytest.mark.parametrize("name", ["1:37", "1:40", "2:20", "2:23"])
def test_mining_with_resnet101_and_5_shots_takes_16_pseudo_labelled_images(name: str) -> None:
    trial = trials(f"MiningFSS:{name}")[0]
    assert (trial.shot, trial.backbone.name) == (5, "resnet101_v2")
    assert trial.method.options["pseudo_per_pair"] * trial.training.batch == 16


def test_mining_takes_32_pseudo_labelled_images_in_every_other_row() -> None:
    for row in published.rows():
        if row.method != "MiningFSS" or published.why_not_run(row):
            continue
        trial = trials(row.name)[0]
        wanted = 16 if row.backbone == "ResNet101" and row.shot == 5 else 32
        given = trial.method.options["pseudo_per_pair"] * trial.training.batch
        assert given == wanted, row.name


def test_five_shots_of_a_quoted_method_are_trained_as_its_own_paper_trains_them() -> None:
    quoted = [
        row
        for row in published.rows()
        if row.method in ("PFENet", "MM-Net") and row.shot == 5 and not published.why_not_run(row)
    ]
    assert {row.paper for row in quoted} == {"HMFS", "JC2A", "MM-Net", "MiningFSS", "SD-AANet"}
    for row in quoted:
        assert {trial.training.shot for trial in trials(row.name)} == {5}, row.name


def test_every_row_that_is_listed_as_runnable_becomes_trials() -> None:
    """A row whose settings cannot work together is refused here, not in a worker."""
    for row in published.rows():
        if not published.why_not_run(row):
            folds = 1 if row.dataset == "FSS-1000" else 4
            methods = 2 if row.metric == "mIoU_gain" else 1  # without and with the map
            assert len(trials(row.name)) == folds * methods, row.name


@pytest.mark.parametrize("name", ["1:17", "1:34", "2:17", "7:9"])
def test_five_supports_of_pfenet_get_one_size_in_the_tables_of_mining(name: str) -> None:
    row = published.find(f"MiningFSS:{name}")
    assert {trial.protocol.input for trial in trials(row.name)} == {"pad"}
    assert "padded to 473 pixels" in published.own_settings(row)
    one_shot = published.find("MiningFSS:1:16")
    assert {trial.protocol.input for trial in trials(one_shot.name)} == {"original"}
    assert published.own_settings(one_shot) == ""


def test_a_row_whose_trials_are_refused_cannot_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "ONE_SIZE", {})
    why = published.why_not_run(published.find("MiningFSS:1:17"))
    assert "compares the 5 supports of an episode at one size" in why


def test_mm_net_on_vgg_has_batch_norm_as_in_its_code() -> None:
    for number in (17, 18):
        made = published.experiment(published.find(f"MM-Net:1:{number}"))
        assert made["grid"]["backbone"] == ["vgg16_bn"]
    panet = published.experiment(published.find("MM-Net:1:1"))
    assert panet["grid"]["backbone"] == ["vgg16"]


def test_the_rows_of_the_supplement_of_mm_net_can_be_found() -> None:
    assert published.find("MM-Net:A:1").folds == (57.5, 68.7, 55.8, 53.7)
    attention = published.find("MM-Net:B:1")
    assert attention.mean == 61.7
    assert "attention of CANet" in published.why_not_run(attention)
    assert not published.why_not_run(published.find("MM-Net:B:2"))


def trials(name: str) -> list[Trial]:
    """The trials of a published row."""
    made = ExperimentSpec.model_validate(published.experiment(published.find(name)))
    return expand(made, METHODS)


def test_a_gain_is_run_as_the_method_without_and_with_the_map() -> None:
    (gain,) = (
        row
        for row in published.matching("JC2A:5")
        if (row.metric, row.method, row.dataset, row.shot)
        == ("mIoU_gain", "PFENet", "PASCAL-5i", 1)
    )
    options = [trial.method.options["ckmm"] for trial in trials(gain.name) if trial.fold == 0]
    assert options == [False, True]
    assert {trial.training.size for trial in trials(gain.name)} == {473}


def test_a_class_of_a_fold_has_its_name_in_the_metrics() -> None:
    rows = published.matching("SD-AANet:VIII")
    assert published.metric(rows[0], 0) == "iou/aeroplane"  # class 1 of the fold
    assert published.metric(rows[4], 3) == "iou/tvmonitor"  # class 5
    assert {trial.way for trial in trials(rows[0].name)} == {5}


def test_a_domain_shift_row_trains_on_one_data_set_and_scores_on_the_other() -> None:
    row = next(row for row in published.rows() if "->" in row.dataset and row.method == "HMFS")
    made = published.experiment(row)
    assert (made["train_on"], made["dataset"]) == ("coco-20i", "pascal-5i")


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: published.find("HMFS"), "name a row as <paper>:<table>:<row>"),
        (lambda: published.find("X:1:1"), "no such paper. Known: JC2A"),
        (lambda: published.find("HMFS:9:1"), "has no such table. Known: Table 1"),
        (lambda: published.find("HMFS:2:999"), "has rows 1 to 40"),
        (lambda: published.experiment(published.find("JC2A:1:1")), "no method here is 'PGNet'"),
    ],
)
def test_the_message_about_a_wrong_row_says_what_is_known(
    call: Callable[[], object], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert expected in str(caught.value)

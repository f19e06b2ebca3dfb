"""The scores, by hand and against the sums that three public scoring codes gave."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fssplat.engine.scoring.metrics import Scores, over_seeds, overlap
from fssplat.engine.training.schedule import poly

CLASSES = (0, 1, 2, 3, 4)  # of the parity case


@pytest.fixture(scope="module")
def case(shared: Path) -> dict[str, Any]:
    """The recorded case: predictions, labels and what each code made of them."""
    sys.path.insert(0, str(shared / "parity"))
    try:
        import recipe
    finally:
        sys.path.pop(0)
    record, arrays, _, episode = recipe.load_case(str(shared / "parity/cases/metrics.json"))
    return {
        "expected": record["expected"],
        "classes": record["class_of_episode"],
        "prediction": torch.from_numpy(arrays["pred"]),
        "label": episode["query_mask"],
    }


def scores(case: dict[str, Any], ignore_border: bool = True) -> Scores:
    counts = overlap(case["prediction"], case["label"], 2, ignore_border).numpy()
    result = Scores(CLASSES)
    for class_id, row in zip(case["classes"], counts, strict=True):
        result.add((class_id,), row)
    return result


def test_overlap_counts_pixels_and_removes_the_border() -> None:
    label = torch.tensor([[1, 1, 0], [0, 255, 0]])
    prediction = torch.tensor([[1, 0, 0], [1, 1, 0]])
    background, foreground, again = overlap(prediction, label, 2).tolist()
    assert foreground == [1, 3]
    assert background == [2, 4]
    assert again == foreground


def test_without_ignore_border_255_is_background() -> None:
    label = torch.tensor([[1, 255], [255, 0]])
    prediction = torch.tensor([[1, 1], [0, 0]])
    background, foreground, _ = overlap(prediction, label, 2, ignore_border=False).tolist()
    assert foreground == [1, 2]
    assert background == [2, 3]


def test_two_ways_make_one_foreground() -> None:
    label = torch.tensor([[1, 2, 0, 2]])
    prediction = torch.tensor([[2, 2, 1, 0]])
    background, first, second, any_way = overlap(prediction, label, 3).tolist()
    assert background == [0, 2]
    assert first == [0, 2]
    assert second == [1, 3]
    assert any_way == [2, 4]


def test_the_sums_of_every_episode_equal_the_public_codes(case: dict[str, Any]) -> None:
    counts = overlap(case["prediction"], case["label"], 2)
    pfenet = torch.tensor(case["expected"]["pfenet_inter_union_target_per_episode"])
    assert torch.equal(counts[:, :2, 0].double(), pfenet[:, 0].double())
    assert torch.equal(counts[:, :2, 1].double(), pfenet[:, 1].double())
    hsnet_union = torch.tensor(case["expected"]["hsnet_area_union_bg_fg_by_episode"])
    assert torch.equal(counts[:, :2, 1].double().T, hsnet_union.double())


def test_hsnets_coco_sums_count_255_as_background(case: dict[str, Any]) -> None:
    counts = overlap(case["prediction"], case["label"], 2, ignore_border=False)[:, :2].double()
    expected = case["expected"]
    assert torch.equal(counts[:, :, 0].T, torch.tensor(expected["hsnet_no_ignore_inter"]).double())
    assert torch.equal(counts[:, :, 1].T, torch.tensor(expected["hsnet_no_ignore_union"]).double())


def test_an_absent_class_as_zero_gives_pfenets_and_hsnets_miou(case: dict[str, Any]) -> None:
    ours, expected = scores(case), case["expected"]
    assert ours.miou("zero") == pytest.approx(expected["pfenet_miou"], abs=1e-12)
    assert 100 * ours.miou("zero") == pytest.approx(
        expected["hsnet_miou_percent_class_ids_0_to_4"], abs=1e-5
    )
    by_class = [ours.iou().get(c, 0.0) for c in CLASSES]
    assert by_class == pytest.approx(expected["pfenet_class_iou"], abs=1e-12)


def test_an_absent_class_skipped_gives_miningfss_miou(case: dict[str, Any]) -> None:
    assert scores(case).miou("skip") == pytest.approx(case["expected"]["mining_miou"], abs=1e-12)


def test_fb_iou_is_taken_over_all_episodes_together(case: dict[str, Any]) -> None:
    ours, expected = scores(case).fb_iou(), case["expected"]
    assert ours == pytest.approx(expected["pfenet_fb_iou"], abs=1e-12)
    assert 100 * ours == pytest.approx(expected["hsnet_fb_iou_percent"], abs=1e-5)


def test_the_poly_rate_is_pfenets_formula(case: dict[str, Any]) -> None:
    for name, rate in case["expected"]["pfenet_poly_lr_of_every_group"].items():
        base, iteration, last = (float(part.split("=")[1]) for part in name.split())
        ours = 10 * base * poly(int(iteration), int(last), 0.9)  # the public code's factor of 10
        assert ours == pytest.approx(rate, rel=1e-9)


def test_over_seeds_reports_mean_and_sample_deviation() -> None:
    seeds = {}
    for seed, hits in enumerate((2, 6)):
        seeds[seed] = Scores((7, 8))
        seeds[seed].add((7,), np.array([[10, 10], [hits, 10], [hits, 10]]))
    metrics = over_seeds(seeds, {7: "cat", 8: "dog"}, "skip")
    assert metrics["miou"] == pytest.approx(0.4)
    assert metrics["miou_std"] == pytest.approx(np.std([0.2, 0.6], ddof=1))
    assert metrics["iou/cat"] == pytest.approx(0.4)
    assert "iou/dog" not in metrics


def test_a_class_without_episodes_is_zero_or_left_out() -> None:
    ours = Scores((1, 2))
    ours.add((1,), np.array([[1, 2], [1, 2], [1, 2]]))
    assert ours.miou("zero") == 0.25
    assert ours.miou("skip") == 0.5

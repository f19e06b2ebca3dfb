"""A screen of any width shows every word and every number of a block."""

from io import StringIO

import pytest
from rich.console import Console

from fssplat.report.blocks import Block, Cell, Row
from fssplat.report.statistics.draws import Difference
from fssplat.report.terminal.layouts import FittedBlock
from fssplat.results.records import Result
from tests.fakes.trials import trial

FOLDS = (0, 1, 2, 3)
METHODS = ("prior", "pfenet:public-code", "mining")
BACKBONES = ("resnet50", "efficientnet_lite0")


def row(method: str, backbone: str) -> Row:
    cells = [
        Cell(
            "id",
            trial(fold=fold),
            Result({"miou": 0.5 + fold / 100, "miou_std": 0.01, "fb_iou": 0.7}),
        )
        for fold in FOLDS
    ]
    return Row(method, backbone, tuple(cells))


def drawn(width: int) -> str:
    rows = tuple(row(method, backbone) for backbone in BACKBONES for method in METHODS)
    block = Block("synthetic, 1-shot, mIoU under protocol fssplat (4a64e846)", FOLDS, rows)
    found = {
        (one.method, one.backbone): Difference(0.2341, 0.21, 0.257, 0.0, 99) for one in rows[1:]
    }
    out = StringIO()
    Console(file=out, width=width, force_terminal=True, color_system=None).print(
        FittedBlock(block, found)
    )
    return out.getvalue()


@pytest.mark.parametrize("width", [200, 80, 60, 40])
def test_nothing_is_cut_whatever_the_width(width: int) -> None:
    text = drawn(width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "…" not in text
    words = text.split()
    for word in (*METHODS, *BACKBONES, "mean", "FB-IoU", "50.0", "53.0", "51.5", "70.0"):
        assert word in words
    assert text.count("+23.4 [+21.0, +25.7]") == 5


def test_a_wide_screen_has_one_table() -> None:
    lines = drawn(200).splitlines()
    assert sum("fold-0" in line for line in lines) == 1
    (line,) = (line for line in lines if "mining" in line and "resnet50" in line)
    assert line.split()[2:8] == ["50.0", "51.0", "52.0", "53.0", "51.5", "0.5"]


def test_80_columns_have_a_table_per_backbone_with_folds_across() -> None:
    lines = drawn(80).splitlines()
    assert sum("fold-3" in line for line in lines) == 2
    assert [line for line in lines if line in BACKBONES] == list(BACKBONES)
    assert "mining, resnet50: +23.4 [+21.0, +25.7] vs prior, 95 %" in lines


def test_a_very_narrow_screen_has_a_table_per_row_with_folds_down() -> None:
    lines = drawn(40).splitlines()
    assert [" ".join(line.split()) for line in lines].count("fold mIoU FB-IoU") == 6
    assert "+23.4 [+21.0, +25.7] vs prior, 95 %" in lines

"""Tiles keep their values when they become smaller, and rows their own limits."""

import numpy as np

from fssplat.report.figures.clouds import Panel, panels
from fssplat.report.figures.style import saved
from fssplat.report.figures.tiles import PIXELS, TileRow, sheet, small, wrapped


def test_labels_keep_their_values_in_a_small_tile() -> None:
    tile = np.zeros((2 * PIXELS, PIXELS), dtype=np.uint8)
    tile[:, PIXELS // 2 :] = 7
    found = small(tile, "labels")
    assert found.shape == (PIXELS, PIXELS // 2)
    assert set(np.unique(found)) == {0, 7}


def test_a_row_of_free_numbers_has_its_own_limits_and_unit_maps_have_0_and_1() -> None:
    tiles = [np.array([[-2.0, 1.0]]), None, np.array([[5.0, 0.0]])]
    assert TileRow("x", tiles, "free").limits == (-2.0, 5.0)
    assert TileRow("x", tiles, "unit").limits == (0.0, 1.0)
    assert TileRow("x", [np.ones((2, 2))], "free").limits == (1.0, 2.0)


def test_a_sheet_has_a_picture_for_each_tile_and_a_bar_for_numbers() -> None:
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    rows = [
        TileRow("photo", [picture, picture]),
        TileRow("map", [np.eye(4), None], "unit"),
        TileRow("labels", [np.eye(4, dtype=np.uint8) * 3, None], "labels"),
    ]
    made = sheet(rows, ["a <b>", "\U0001f600"])
    assert len(made.axes) == 2 + 2 + 1
    assert saved(made, "png") == saved(sheet(rows, ["a <b>", "\U0001f600"]), "png")


def test_long_labels_are_wrapped_and_cut_with_dots() -> None:
    assert wrapped("correlation, stage 4", 12) == "correlation,\nstage 4"
    assert wrapped("one two three", 5, lines=2) == "one\ntwo…"


def test_panels_have_one_axes_each_and_empty_ones_stay_empty() -> None:
    panel = Panel(np.array([[0.0, 0.0], [1.0, 1.0]]), ("cat", "dog"))
    made = panels([[panel, None]], ["fold 0"], ["a", "b"])
    assert [len(axes.collections) for axes in made.axes] == [2, 0]

"""Colours of a judged prediction, pixel by pixel."""

import numpy as np

from fssplat.report.gallery.sheet import sheet
from fssplat.report.gallery.tiles import FALSE, MISSED, OBJECT, TINT, judged, labelled, small, webp

BLACK = np.zeros((2, 3, 3), np.uint8)
TRUTH = np.array([[1, 1, 0], [255, 0, 255]])


def tinted(colour: tuple[int, int, int]) -> list[int]:
    return [round(TINT * part) for part in colour]


def test_found_missed_false_and_ignored_pixels_have_their_colours() -> None:
    prediction = np.array([[True, False, True], [True, False, False]])
    shown = judged("p", BLACK, TRUTH, prediction).pixels.tolist()
    grey = [90, 90, 90]  # 0.7 of 128
    assert shown[0] == [tinted(OBJECT), tinted(MISSED), tinted(FALSE)]
    assert shown[1] == [grey, [0, 0, 0], grey]
    assert labelled("t", BLACK, TRUTH).pixels.tolist()[0] == [tinted(OBJECT)] * 2 + [[0, 0, 0]]


def test_a_prediction_of_another_size_is_stretched_to_the_truth() -> None:
    truth = np.array([[1, 1, 0, 0]] * 4)
    shown = judged("p", np.zeros((4, 4, 3), np.uint8), truth, np.array([[True, False]]))
    assert shown.pixels[3].tolist() == [tinted(OBJECT)] * 2 + [[0, 0, 0]] * 2


def test_equal_tiles_give_equal_bytes_and_keep_their_aspect() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (400, 300, 3), dtype=np.uint8)
    one, two = (webp(labelled("t", pixels, np.zeros((400, 300)))) for _ in range(2))
    assert one == two
    assert (one.width, one.height) == (112, 150)
    wide = labelled("t", np.zeros((100, 1000, 3), np.uint8), np.zeros((100, 1000)))
    assert small(wide).size == (300, 30)


def test_a_sheet_has_room_for_all_tiles_and_any_name() -> None:
    tile = labelled("\U0001f600 " * 40, np.zeros((300, 400, 3), np.uint8), np.zeros((300, 400)))
    made = sheet("R&D \u202e \U0001f600", [tile] * 5, 300)
    assert made.width <= 1400
    assert made.height > 2 * 300

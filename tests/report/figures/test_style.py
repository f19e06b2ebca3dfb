"""Figures: equal bytes whatever else has set, no markup in names, ink that a page can replace."""

import matplotlib
import pytest

from fssplat.report.figures.bars import horizontal_bars
from fssplat.report.figures.scatter import pareto_front
from fssplat.report.figures.style import INK, drawable, inline_svg, saved


@pytest.mark.parametrize("kind", ["pdf", "png", "svg"])
def test_another_librarys_style_changes_no_byte(kind: str) -> None:
    def drawn() -> bytes:
        return saved(horizontal_bars(["a", "b"], {"x": [1.0, None], "y": [2.0, 3.0]}, "IoU"), kind)

    before = drawn()
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "pdf.compression": 1}):
        assert drawn() == before
        assert matplotlib.rcParams["font.size"] == 20
    assert b"CreationDate" not in before


def test_names_are_texts() -> None:
    text = inline_svg(
        horizontal_bars(["$x_1$ & <b>", "\u202e\U0001f9ea"], {"a": [1, 2]}, "IoU"), "n"
    )
    assert "$x_1$ &amp; &lt;b&gt;" in text
    assert r"\u202eU+1F9EA" in text
    assert drawable("naïve") == "naïve"


def test_a_page_replaces_the_ink_and_ids_are_unique_in_it() -> None:
    text = inline_svg(horizontal_bars(["a"], {"x": [1]}, "IoU"), "name")
    assert text.startswith("<svg")
    assert INK not in text
    assert "currentColor" in text
    assert 'id="name-figure_1"' in text


def test_the_front_has_the_points_that_no_other_beats() -> None:
    points = [("slow", 9.0, 50.0), ("bad", 5.0, 30.0), ("fast", 1.0, 40.0), ("worse", 9.5, 50.0)]
    assert [name for name, _, _ in pareto_front(points)] == ["fast", "slow"]

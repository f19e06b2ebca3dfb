"""The table of a search's points."""

from io import StringIO
from typing import Any, cast

import pytest
from rich.console import Console

from fssplat.search import output
from fssplat.search.output import EndedPoint, points_table, short_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0025000000001, "2.5e-3"), (0.00123456, "1.23e-3"), (0.025, "0.025"), (1.0, "1"),
        (0.5, "0.5"), (123.456, "123"), (12345.6, "1.23e4"), (0.0, "0"), (-0.001, "-1e-3"),
        (1e-10, "1e-10"), (3, "3"), ("bf16", "bf16"), (True, "True"),
    ],
)  # fmt: skip
def test_a_setting_has_three_digits(value: Any, text: str) -> None:
    assert short_text(value) == text


class FewSettings:
    """A search over `count` settings, as far as the table reads it."""

    def __init__(self, count: int) -> None:
        names = [f"training.setting_number_{number}" for number in range(count)]
        self.space = dict.fromkeys(names)
        self.spec = type("Spec", (), {"selection": "base-val"})()
        self.experiment = type("Experiment", (), {"name": "tune"})()


def point(search: FewSettings) -> EndedPoint:
    values = dict.fromkeys(search.space, 0.0025000000001)
    return EndedPoint(0, "complete", values, {"miou": 0.5}, {}, 10, "", "warm start", None, None)


@pytest.mark.parametrize(("count", "out"), [(2, ""), (6, "setting_number_3, setting_number_4")])
def test_the_table_fits_and_names_what_it_leaves_out(
    count: int, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "objectives", lambda _: ("miou",))
    search, page = FewSettings(count), StringIO()
    console = Console(file=page, width=80)
    console.print(points_table(cast(Any, search), [point(search)], 80))
    lines = page.getvalue().splitlines()
    assert "2.5e-3" in lines[3]
    assert lines[3].rstrip().endswith("warm start")  # the row is not broken
    assert ("No room for" in page.getvalue()) == bool(out)
    assert out in page.getvalue()

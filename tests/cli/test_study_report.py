"""`fssplat report` of a file with a search."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.errors import InputError
from fssplat.report.evidence.study import StudyParameter, StudyPoint, StudyRecord
from fssplat.report.sections.study import study_document
from fssplat.report.writing.files import write_report
from tests.fakes.searches import search_file, search_without_ray


def report(*arguments: Path | str) -> Any:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


@pytest.mark.slow
def test_the_report_of_a_search_is_made_from_its_study(synthetic: Path, tmp_path: Path) -> None:
    path = search_file(tmp_path, synthetic, pruning="none")
    done = report(path, "--out", tmp_path / "out")
    assert isinstance(done.exception, InputError)
    assert "has no point that has ended. Run `fssplat search" in str(done.exception)
    search_without_ray(path)
    done = report(path, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.exception
    assert done.output.splitlines()[-2:] == [
        "6 of 6 points have ended.", f"The report: {tmp_path}/out/index.html",
    ]  # fmt: skip
    names = sorted(one.name for one in (tmp_path / "out" / "figures").glob("*.png"))
    assert names == ["history.png", "importance.png", "parallel-coordinates.png"]
    made = json.loads((tmp_path / "out" / "report.json").read_text())
    (points,) = [p for s in made["sections"] for p in s["parts"] if p.get("name") == "points"]
    scores = [line[2]["value"] for line in points["lines"]]
    assert scores == sorted(scores, reverse=True)
    assert [line[2].get("rank") for line in points["lines"]] == ["best", *[None] * 5]
    assert report(path, path.with_name("other.yaml")).exception is not None
    both = report(path, "experiments/quickstart.yaml", "--out", tmp_path / "out")
    assert "Report it alone" in str(both.exception)


def point(number: int, *parts: float, **others: Any) -> StudyPoint:
    mean = sum(parts) / len(parts)
    named = {f"fold{fold}": value for fold, value in enumerate(parts)}
    return StudyPoint(number, "complete", {"training.lr": 0.1}, {"miou": mean}, named, **others)


def record(*points: StudyPoint, **others: Any) -> StudyRecord:
    rate = StudyParameter("training.lr", "logarithm")
    return StudyRecord(
        "a<b", "", "fssplat search x.yaml", "panet", "base classes", False, ("miou",), [rate],
        points, 2, **others,
    )  # fmt: skip


def verdict(one: StudyRecord) -> str:
    return " ".join(study_document(one).sections[0].parts[1].items)  # type: ignore[union-attr]


def test_the_best_point_is_compared_with_the_default_over_trainings() -> None:
    default = point(0, 0.50, 0.40, is_default=True)
    # differences 0.10 and 0.06: mean 0.08, standard error 0.02, t(0.975, 1) = 12.706
    found = verdict(record(default, point(1, 0.60, 0.46)))
    assert "+8.00 points [−17.41, +33.41]" in found
    assert "The interval contains 0." in found
    assert "no interval can be given" in verdict(record(point(0, 0.4, is_default=True),
                                                        point(1, 0.5)))  # fmt: skip
    assert "It is the default" in verdict(record(default, point(1, 0.1, 0.1)))
    assert "nothing to compare with" in verdict(record(point(1, 0.1, 0.1)))


@pytest.mark.parametrize("count", [0, 1])
def test_a_study_with_few_points_has_fewer_figures(count: int, tmp_path: Path) -> None:
    failed = StudyPoint(5, "failed", {}, {}, {}, reason="<script>&_%")
    made = study_document(record(failed, *[point(n, 0.5) for n in range(count)]))
    write_report(made, tmp_path)
    assert len(list(tmp_path.glob("figures/*.png"))) == count
    page = (tmp_path / "index.html").read_text()
    assert "Point 5 failed: &lt;script&gt;&amp;_%." in page
    assert "<script>&" not in page

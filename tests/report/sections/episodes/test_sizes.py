"""IoU by size, over other supports and against shots, equal to a second computation."""

from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from fssplat.report.evidence.gather import Evidence
from fssplat.report.sections.episodes.sizes import other_shots, shot_table, sizes
from fssplat.results.store import Store
from tests.fakes.report_stores import report_trial, small_grid, small_store, source
from tests.report.sections.episodes.test_lost import rows_of, table_named

SHARES = ("below 1 %", "1 to 5 %", "5 to 20 %", "20 % and more")


def share_bin(share: float) -> str:
    return SHARES[sum(share >= edge for edge in (0.01, 0.05, 0.2))]


def joined(store: Store, one: Any) -> list[dict[str, Any]]:
    """Rows with the names of their three bins; no support's bin if it is not recorded."""
    rows = rows_of(store, one, "episodes.parquet")
    supports = {}
    if one.method.name != "panet":
        for row in rows_of(store, one, "details.parquet"):
            shares = [
                a / b
                for a, b in zip(row["support_pixels"], row["support_image_pixels"], strict=True)
            ]
            supports[row["seed"], row["episode"]] = share_bin(mean(shares))
    for row in rows:
        low = row["object_pixels"] // 500 * 500
        row["query-share-"] = share_bin(row["object_pixels"] / row["image_pixels"])
        row["query-pixels-"] = f"{low} to {low + 499}" if low < 5000 else ""
        row["support-share-"] = supports.get((row["seed"], row["episode"]))
    return rows


def miou(rows: list[dict[str, Any]]) -> float | None:
    """In per cent: pixels per class and seed, mean over classes, then over seeds."""
    seeds = []
    for seed in {row["seed"] for row in rows}:
        classes = {row["class_id"] for row in rows if row["seed"] == seed}
        mine = [
            [r for r in rows if (r["seed"], r["class_id"]) == (seed, class_id)]
            for class_id in classes
        ]
        seeds.append(
            mean(sum(r["intersection"] for r in m) / sum(r["union"] for r in m) for m in mine)
        )
    return 100 * mean(seeds) if seeds else None


@pytest.mark.parametrize("kind", ["query-share-", "query-pixels-", "support-share-"])
def test_sizes_equal_a_second_computation(report_store: Store, report_json: Any, kind: str) -> None:
    table = table_named(report_json, kind)
    methods = table["headings"][2:]
    assert methods == (
        ["prior", "hsnet"] if kind == "support-share-" else ["prior", "panet", "hsnet"]
    )
    rows = [(one, joined(report_store, one)) for one in small_grid()]
    names = {row[kind] for _, of_trial in rows for row in of_trial} - {"", None}
    assert {line[0] for line in table["lines"]} == names
    for line in table["lines"]:
        first = [of_trial for one, of_trial in rows if one.method.name == "prior"]
        assert line[1]["value"] == sum(r[kind] == line[0] for of_one in first for r in of_one)
        for method, cell in zip(methods, line[2:], strict=True):
            folds: dict[int, list[float]] = {}
            for one, of_trial in rows:
                found = miou([row for row in of_trial if row[kind] == line[0]])
                if one.method.name == method and found is not None:
                    folds.setdefault(one.fold, []).append(found)
            assert cell["value"] == pytest.approx(mean(map(mean, folds.values())))


def test_support_sensitivity_equals_a_second_computation(
    report_store: Store, report_json: Any
) -> None:
    lines = {line[0]: line[2:] for line in table_named(report_json, "supports-")["lines"]}
    assert set(lines) == {"prior", "panet", "hsnet"}
    for method, cells in lines.items():
        found: dict[tuple[Any, ...], dict[int, dict[tuple[str, ...], float]]] = {}
        for one in [one for one in small_grid() if one.method.name == method]:
            for row in rows_of(report_store, one, "episodes.parquet"):
                key = one.fold, row["query"], row["class_id"]
                ious = found.setdefault(key, {}).setdefault(one.training.seed, {})
                ious[tuple(row["supports"])] = row["intersection"] / row["union"]
        several = [
            [[*ious.values()] for ious in seeds.values()]
            for seeds in found.values()
            if len(next(iter(seeds.values()))) > 1
        ]
        assert cells[0]["value"] == len(several) > 20
        for cell, of_one in zip(cells[1:], (min, mean, max, stdev), strict=True):
            expected = mean(mean(of_one(ious) for ious in seeds) for seeds in several)
            assert cell["value"] == pytest.approx(100 * expected)


def test_the_figures_have_their_numbers_beside_them(report_folder: Path) -> None:
    for kind in ("lost", "query-share", "query-pixels", "support-share", "supports"):
        found = sorted(path.name for path in (report_folder / "figures").glob(f"{kind}-*"))
        assert [Path(name).suffix for name in found] == [".csv", ".pdf", ".png"], kind


def test_more_shots_are_one_table(tmp_path: Path) -> None:
    grid = [report_trial(method, 0, shot=shot) for method in ("prior", "hsnet") for shot in (5, 1)]
    found = Evidence([source(small_store(tmp_path, grid), grid)])
    ((title, blocks),) = other_shots(found.blocks).items()
    table = shot_table(title, blocks)
    assert [line.cells[0] for line in table.lines] == ["1", "5"]
    assert [heading.text for heading in table.headings] == ["shots", "folds", "prior", "hsnet"]
    for line, shot in zip(table.lines, (1, 5), strict=True):
        one = report_trial("hsnet", 0, shot=shot).trial_id({})
        cell = line.cells[3]
        assert not isinstance(cell, str)
        assert cell.number == pytest.approx(100 * found.results[one].metrics["miou"])
        assert cell.trials == (one,)
    section = sizes(found)
    assert section is not None
    assert any(getattr(part, "name", "").startswith("shots-") for part in section.parts)

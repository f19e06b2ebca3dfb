"""Supports of a t-SNE are distinct and equally many of each class."""

from pathlib import Path

import pytest

from fssplat.data.episodes.training import Episode
from fssplat.engine.scoring.encoder import Role
from fssplat.engine.scoring.scorer import ManifestEpisode
from fssplat.report.document.content import Points
from fssplat.report.sections.inside.collect import balanced, evened
from fssplat.report.sections.inside.maps import file_names
from fssplat.report.sections.inside.section import inside
from fssplat.results.store import Store
from tests.fakes.report_stores import evidence


def episodes(*drawn: tuple[int, int]) -> list[ManifestEpisode]:
    """Episodes with one support each, given as (row, class)."""
    return [
        ManifestEpisode(0, index, Episode(query=99, supports=(row,), classes=(class_id,)))
        for index, (row, class_id) in enumerate(drawn)
    ]


def test_the_smallest_class_decides_how_many_of_each() -> None:
    given = episodes((1, 7), (2, 7), (1, 7), (3, 7), (1, 4), (5, 4))
    assert balanced(given, 1, 100) == [Role(1, 4), Role(5, 4), Role(1, 7), Role(2, 7)]


def test_the_limit_is_shared_by_the_classes() -> None:
    given = episodes((1, 7), (2, 7), (1, 4), (5, 4))
    assert balanced(given, 1, 3) == [Role(1, 4), Role(1, 7)]
    assert balanced([], 1, 3) == []


def test_classes_are_equal_again_after_objects_without_a_vector_are_left_out() -> None:
    assert evened([0, 1, 2, 4], [5, 5, 5, 8, 8, 3]) == [0, 4]
    assert evened([], [5]) == []


def test_file_names_have_only_plain_letters_and_differ() -> None:
    assert file_names(["FG+BG", "2,3", "fg bg", "\U0001f600"]) == ["fg-bg", "2-3", "fg-bg-2", "row"]


def test_what_is_away_is_named_and_nothing_is_opened_unless_asked(
    report_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a checkout may have data/synthetic
    assert inside(evidence(report_store)) is None
    made = inside(evidence(report_store, maps=True))
    assert made is not None
    (part,) = [one for one in made.parts if isinstance(one, Points)]
    assert part.heading == "Not shown"
    assert len(part.items) == 6  # one training seed of each method on each fold
    assert "no data set there" in part.items[0]

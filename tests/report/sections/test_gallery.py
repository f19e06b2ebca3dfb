"""The chapter with episodes: pictures from the data set and the kept masks."""

import shutil
from pathlib import Path

import pytest

from fssplat.report.document.content import Gallery, Part, Text, Value
from fssplat.report.sections.gallery import gallery, size_name
from fssplat.results.store import Store
from tests.fakes.report_stores import evidence
from tests.fakes.shown_episodes import shown_trials, store_with_masks


@pytest.fixture(scope="module")
def store(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_with_masks(tmp_path_factory.mktemp("shown"), synthetic)


def part(store: Store, root: Path | str, **options: int) -> Part:
    found = gallery(evidence(store, shown_trials(root), **options))
    assert found is not None
    (only,) = found.parts
    return only


def test_a_picture_has_the_tiles_and_the_numbers_of_its_episode(
    store: Store, synthetic: Path
) -> None:
    made = part(store, synthetic, episodes=8)
    assert isinstance(made, Gallery)
    assert "hsnet against prior, 6 of 10 episodes" in made.caption
    hsnet, prior = (store.predictions(one.trial_id({})) for one in reversed(shown_trials("")))
    assert hsnet is not None
    assert prior is not None
    for picture in made.pictures:
        titles = [tile.title for tile in picture.tiles]
        facts = dict(picture.facts)
        assert titles[:3] == ["support", "query", "truth"]
        assert [title.split()[0] for title in titles[3:]] == ["hsnet", "prior"]
        ious = facts["IoU of hsnet"], facts["IoU of prior"]
        assert isinstance(facts["difference"], Value)
        assert all(isinstance(one, Value) for one in ious)
        number = int(picture.name.rpartition(":")[2])
        mask = hsnet.find(0, number)
        assert mask is not None
        assert facts["class"] == mask.class_name
        assert picture.command.startswith(f"fssplat show {picture.name} --against ")
        assert picture.command.endswith(f"--store {store.address}")
        assert all(tile.media[8:12] == b"WEBP" for tile in picture.tiles)
    differences = [
        value.number for one in made.pictures for name, value in one.facts
        if name == "difference" and isinstance(value, Value)
    ]  # fmt: skip
    assert differences[0] == max(differences)  # type: ignore[type-var]
    assert part(store, synthetic, episodes=8) == made


def test_a_command_names_no_store_that_is_the_default(
    store: Store, synthetic: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "results").symlink_to(store.address)
    monkeypatch.chdir(tmp_path)
    made = part(store, synthetic, episodes=1)
    assert isinstance(made, Gallery)
    assert "--store" not in made.pictures[0].command


def test_pictures_say_what_is_missing(store: Store, synthetic: Path, tmp_path: Path) -> None:
    away = part(store, tmp_path / "nowhere")
    assert isinstance(away, Text)
    assert "No episode is shown: " in away.text
    assert "no data set there" in away.text
    without = part(store_with_masks(tmp_path, synthetic, masks=False), synthetic)
    assert isinstance(without, Text)
    assert "no predicted masks" in without.text
    assert gallery(evidence(store, shown_trials(synthetic), episodes=0)) is None
    assert gallery(evidence(store, shown_trials(synthetic)[:1])) is None


def test_damaged_masks_are_named(store: Store, synthetic: Path, tmp_path: Path) -> None:
    shutil.copytree(store.address, tmp_path / "store")
    first = shown_trials(synthetic)[0].trial_id({})
    path = tmp_path / "store" / first / "predictions.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    found = evidence(Store(str(tmp_path / "store")), shown_trials(synthetic))
    assert gallery(found) is not None
    assert "its predictions.parquet is not as it was written" in found.problems[0]


def test_sizes_have_four_groups() -> None:
    assert [size_name(share) for share in (0.009, 0.01, 0.05, 0.19, 0.2, 1.0)] == [
        "below 1 %", "1 to 5 %", "5 to 20 %", "5 to 20 %", "above 20 %", "above 20 %",
    ]  # fmt: skip

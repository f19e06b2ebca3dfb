import json
import pickle
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fssplat.common.errors import InputError
from fssplat.data.build.convert import build
from fssplat.data.build.import_lists import import_lists
from fssplat.data.episodes import hsnet_draws
from fssplat.data.episodes.manifest import Manifest, load, manifest, save
from fssplat.data.folds import base_classes, novel_classes
from fssplat.data.index import Dataset
from fssplat.experiment.protocols import resolve_protocol
from tests.fakes.official_layouts import built_voc_of_pairs, fss_layout, small_area_protocol

# ---------------------------------------------------------------- HSNet's own episodes


def listed(folder: Path, kind: str, fold: int) -> tuple[list[str], list[int]]:
    """Entries and zero-based classes of HSNet's test list, straight from its files."""
    if kind == "pascal":
        lines = (folder / f"pascal/val/fold{fold}.txt").read_text().split()
        pairs = [line.split("__") for line in lines]
        return [image for image, _ in pairs], [int(c) - 1 for _, c in pairs]
    by_class: dict[int, list[str]] = pickle.loads(
        (folder / f"coco/val/fold{fold}.pkl").read_bytes()
    )
    return [n for names in by_class.values() for n in names], [
        c for c, names in by_class.items() for _ in names
    ]


@pytest.mark.parametrize("kind", ["pascal", "coco"])
@pytest.mark.parametrize("shot", [1, 5])
@pytest.mark.parametrize("fold", [0, 1, 2, 3])
def test_hsnets_thousand_test_episodes_are_drawn_exactly(
    shared: Path, kind: str, fold: int, shot: int
) -> None:
    """CRC-32 of `class query supports...`, one row per episode, as the public code drew them."""
    case = json.loads((shared / "parity/cases/hsnet_episodes.json").read_text())
    wanted = case["expected"][f"{kind} fold {fold} shot {shot}"]
    entries, classes = listed(shared / "data/lists/hsnet", kind, fold)
    names, images = np.unique(entries, return_inverse=True)
    draw = hsnet_draws.class_first if kind == "coco" else hsnet_draws.in_list_order
    drawn = draw(images.astype(np.int64), np.array(classes), shot, 1000, seed=0)
    rows = [" ".join([str(c), names[q], *(names[s] for s in chosen)]) for c, q, chosen in drawn]
    assert rows[:4] == wanted["first"]
    assert zlib.crc32("\n".join(rows).encode()) == wanted["crc32"]
    repeated = sum(len(set(chosen)) < shot for _, _, chosen in drawn)
    assert repeated == wanted["supports_repeated_within_episode"]


def test_the_hsnet_protocol_walks_its_list_and_wraps_around(tmp_path: Path) -> None:
    data = built_voc_of_pairs(
        tmp_path / "voc", {"train": [(6, 7)], "val": [(1, 2), (2, 1), (1, 2), (2, 0)]}
    )
    for part in ("trn", "val"):
        (tmp_path / "pascal" / part).mkdir(parents=True)
        for fold in range(4):
            (tmp_path / "pascal" / part / f"fold{fold}.txt").write_text("")
    (tmp_path / "pascal/val/fold0.txt").write_text("v002__01\nv003__02\nv000__01\nv001__02\n")
    import_lists(data, tmp_path)
    protocol = resolve_protocol({"name": "hsnet", "short_classes": "drop", "episodes": 6})
    found = manifest(data, 0, 5, protocol, 0)
    assert [(data.keys[e.query], e.classes[0]) for e in found.episodes] == [
        ("v002", 1), ("v003", 2), ("v000", 1), ("v001", 2), ("v002", 1), ("v003", 2),
    ]  # fmt: skip
    assert {data.keys[row] for row in found.episodes[0].supports} == {"v000"}
    assert found.dropped == ("bird", "boat", "bottle")
    with pytest.raises(InputError, match="draw walk-list has one class per episode"):
        manifest(data, 0, 1, protocol, 0, way=2)


@pytest.mark.parametrize("draw", ["walk-list", "all-queries"])
def test_the_public_draws_take_supports_that_are_too_small_for_queries(
    voc: Dataset, draw: str
) -> None:
    """Some classes have a single query that is large enough, and supports beside it."""
    changes = {"draw": draw, "min_area_query": 40_000, "supports_repeat": True}
    protocol = resolve_protocol({"name": "fssplat", "short_classes": "drop", **changes})
    queries: dict[int, set[int]] = {}
    for fold in range(4):
        for episode in manifest(voc, fold, 1, protocol, 0).episodes:
            (class_id,), (support,) = episode.classes, episode.supports
            queries.setdefault(class_id, set()).add(episode.query)
            assert support != episode.query
            assert voc.area(episode.query, class_id) >= 40_000
            assert voc.area(support, class_id) >= 2048
    assert 1 in [len(rows) for rows in queries.values()]


# ---------------------------------------------------------------- our own


def test_a_manifest_depends_on_its_arguments_alone(scenes: Dataset) -> None:
    one = manifest(scenes, 0, 1, small_area_protocol(episodes=50), 0)
    assert one == manifest(Dataset.open(scenes.root), 0, 1, small_area_protocol(episodes=50), 0)
    assert one.digest == manifest(scenes, 0, 1, small_area_protocol(episodes=50), 0).digest
    changed = [
        manifest(scenes, 0, 1, small_area_protocol(episodes=50), 1),
        manifest(scenes, 1, 1, small_area_protocol(episodes=50), 0),
        manifest(scenes, 0, 2, small_area_protocol(episodes=50), 0),
        manifest(scenes, 0, 1, small_area_protocol(episodes=50, draw="class-first"), 0),
    ]
    assert len({one.digest, *(other.digest for other in changed)}) == 5
    assert manifest(scenes, 0, 1, small_area_protocol(episodes=20), 0).episodes == one.episodes[:20]


def test_classes_are_drawn_evenly_by_default(scenes: Dataset) -> None:
    found = manifest(scenes, 2, 1, small_area_protocol(episodes=52), 0)
    counts = Counter(e.classes[0] for e in found.episodes)
    assert set(counts) == {11, 12, 13, 14, 15}
    assert sorted(counts.values()) == [10, 10, 10, 11, 11]


@pytest.mark.parametrize("draw", ["even", "class-first", "image-first"])
def test_test_episodes_show_novel_classes_in_test_images(scenes: Dataset, draw: str) -> None:
    protocol = small_area_protocol(episodes=100, draw=draw)
    found = manifest(scenes, 1, 3, protocol, 0)
    assert len(found.episodes) == 100
    for episode in found.episodes:
        assert episode.classes[0] in novel_classes(scenes.info, 1, protocol)
        rows = (episode.query, *episode.supports)
        assert len(set(rows)) == 4
        assert all(scenes.splits[row] == "val" for row in rows)
        assert all(scenes.area(row, episode.classes[0]) == 100 for row in rows)


def test_image_first_passes_over_every_listed_image(scenes: Dataset) -> None:
    """Fold 0: classes 1 to 5, alone in their images, each in 4 of the 40 test images."""
    found = manifest(scenes, 0, 1, small_area_protocol(episodes=40, draw="image-first"), 0)
    first, second = found.episodes[:20], found.episodes[20:]
    assert len({e.query for e in first}) == 20
    assert {e.query for e in first} == {e.query for e in second}
    assert [e.query for e in first] != [e.query for e in second]


def test_the_selection_manifest_has_base_classes_outside_the_training_images(
    scenes: Dataset,
) -> None:
    found = manifest(scenes, 0, 1, small_area_protocol(episodes=60), 0, part="selection")
    drawn = {e.classes[0] for e in found.episodes}
    assert drawn == set(base_classes(scenes.info, 0, small_area_protocol()))
    assert all(scenes.splits[e.query] == "val" for e in found.episodes)


def test_several_ways_fill_a_test_episode(scenes: Dataset) -> None:
    found = manifest(scenes, 0, 2, small_area_protocol(episodes=30), 0, way=5)
    for episode in found.episodes:
        assert sorted(episode.classes) == [1, 2, 3, 4, 5]
        assert len(episode.supports) == 10
        assert any(scenes.area(episode.query, c) for c in episode.classes)


def test_short_classes_are_an_error_or_named(tmp_path: Path) -> None:
    """Classes 1 and 2 have three test images, class 3 has one, 4 and 5 have none."""
    data = built_voc_of_pairs(
        tmp_path, {"train": [(6, 7)], "val": [(1, 2), (2, 1), (1, 2), (3, 0)]}
    )
    named = r"fewer in bird \(1\), boat \(0\), bottle \(0\)"
    with pytest.raises(InputError, match=f"shot=2 needs 3 images per class; {named}"):
        manifest(data, 0, 2, small_area_protocol(episodes=10), 0)
    found = manifest(data, 0, 2, small_area_protocol(episodes=10, short_classes="drop"), 0)
    assert found.dropped == ("bird", "boat", "bottle")
    assert {e.classes[0] for e in found.episodes} == {1, 2}
    empty = manifest(data, 0, 3, small_area_protocol(episodes=10, short_classes="drop"), 0)
    assert empty.episodes == ()
    assert empty.skipped_reason == (
        "fold 0: 0 of 5 classes have images for 3-shot episodes, 1 needed"
    )


def test_all_images_of_all_test_classes_are_queries_of_fss_1000(tmp_path: Path) -> None:
    classes = {"train": ["ant"], "val": ["bee"], "test": ["cat", "dog", "emu"]}
    source = fss_layout(tmp_path / "fss", classes, images=4)
    data = Dataset.open(build("fss-1000", source, tmp_path / "built").root)
    protocol = resolve_protocol({"name": "fss1000", "episodes": 12})
    found = manifest(data, 0, 5, protocol, 0)
    assert sorted((e.classes[0], e.query) for e in found.episodes) == [
        (c, row) for c in (3, 4, 5) for row in data.rows_of(c, "test").tolist()
    ]
    for episode in found.episodes:
        assert episode.query not in episode.supports
        assert len(episode.supports) == 5  # of three others: supports repeat there
        assert all(data.area(row, episode.classes[0]) == 36 for row in episode.supports)


def test_supports_of_fss_1000_are_drawn_by_number_as_in_the_public_code(tmp_path: Path) -> None:
    """Its queries come by file name (1, 10, 2, ...), its supports by a number from 1 to 10."""
    source = fss_layout(
        tmp_path / "fss", {"train": ["ant"], "val": ["bee"], "test": ["cat", "dog"]}, images=10
    )
    data = Dataset.open(build("fss-1000", source, tmp_path / "built").root)
    protocol = resolve_protocol({"name": "fss1000", "episodes": 20})
    rng = np.random.RandomState(0)
    for place, episode in enumerate(manifest(data, 0, 5, protocol, 0).episodes):
        name = ("cat", "dog")[place // 10]
        query = (1, 10, 2, 3, 4, 5, 6, 7, 8, 9)[place % 10]
        drawn: list[int] = []
        while len(drawn) < 5:
            number = rng.choice(range(1, 11), 1, replace=False)[0]
            if number != query:
                drawn.append(number)
        assert data.keys[episode.query] == f"{name}_{query}"
        assert [data.keys[row] for row in episode.supports] == [f"{name}_{n}" for n in drawn]


def test_after_training_on_coco_pascal_tests_that_folds_classes(voc: Dataset) -> None:
    protocol = resolve_protocol({"name": "fssplat", "short_classes": "drop", "episodes": 30})
    found = manifest(voc, 0, 1, protocol, 0, train_on="coco-20i")
    names = {voc.info.classes[e.classes[0] - 1] for e in found.episodes}
    assert names <= {"aeroplane", "boat", "chair", "diningtable", "dog", "person"}
    assert "person" in names


# ---------------------------------------------------------------- kept as a file


@pytest.fixture
def kept(scenes: Dataset, tmp_path: Path) -> tuple[Manifest, Path]:
    found = manifest(scenes, 0, 2, small_area_protocol(episodes=20), 0, way=2)
    save(found, scenes, tmp_path / "manifest.parquet")
    return found, tmp_path / "manifest.parquet"


def test_a_manifest_survives_a_file(scenes: Dataset, kept: tuple[Manifest, Path]) -> None:
    assert load(kept[1], scenes) == kept[0]


def test_a_manifest_of_another_data_set_is_refused(
    kept: tuple[Manifest, Path], tmp_path: Path
) -> None:
    other = built_voc_of_pairs(tmp_path / "other", {"train": [(6, 7)], "val": [(1, 2)]})
    with pytest.raises(InputError, match="drawn from a data set with fingerprint"):
        load(kept[1], other)


def test_a_damaged_manifest_is_refused(scenes: Dataset, kept: tuple[Manifest, Path]) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(kept[1])
    order = [1, 0, *range(2, 20)]
    pq.write_table(table.take(order), kept[1])
    with pytest.raises(InputError, match="its episodes were changed since it was drawn"):
        load(kept[1], scenes)
    whole = kept[1].read_bytes()
    for broken in (whole[:50], whole[:4] + b"\xff" * (len(whole) - 16) + whole[-12:]):
        kept[1].write_bytes(broken)
        with pytest.raises(InputError, match="not a manifest of fssplat"):
            load(kept[1], scenes)
    kept[1].unlink()
    kept[1].mkdir()
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        load(kept[1], scenes)
    with pytest.raises(InputError, match="no such manifest"):
        load(kept[1].with_name("none.parquet"), scenes)


def test_public_draws_use_numpys_legacy_generator_step_by_step() -> None:
    """The list's heads of permutations, by hand, for two lines of one class and one of another."""
    images, classes = np.array([10, 11, 12]), np.array([0, 0, 3])
    rng = np.random.RandomState(4)
    episodes: list[tuple[Any, ...]] = []
    for line in (0, 1, 0):
        chosen = images[line]
        while chosen == images[line]:
            chosen = rng.choice([10, 11], 1, replace=False)[0]
        episodes.append((0, images[line], (chosen,)))
    assert hsnet_draws.in_list_order(images[:2], classes[:2], 1, 3, seed=4) == episodes

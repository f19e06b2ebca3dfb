import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fssplat.common.errors import InputError
from fssplat.data.episodes.candidates import training_candidates
from fssplat.data.episodes.seeded_draws import pick, sample, shuffled, stream
from fssplat.data.episodes.training import TrainingEpisodes
from fssplat.data.folds import novel_classes
from fssplat.data.index import Dataset
from tests.fakes.official_layouts import built_voc_of_pairs, small_area_protocol


def test_a_stream_depends_on_its_name_alone() -> None:
    first = stream("episode", 0, 3, 7).random(4)
    stream("something", "else").random(100)
    assert first.tolist() == stream("episode", 0, 3, 7).random(4).tolist()
    assert first.tolist() != stream("episode", 0, 37).random(4).tolist()


def test_draws_reach_every_item() -> None:
    rng = stream("draws")
    items = np.arange(5)
    assert {int(pick(rng, items)) for _ in range(200)} == {0, 1, 2, 3, 4}
    assert sorted(shuffled(rng, 5).tolist()) == [0, 1, 2, 3, 4]
    assert sorted(sample(rng, items, 4, avoid=2, repeat=False)) == [0, 1, 3, 4]
    assert set(sample(rng, items[:2], 9, avoid=0, repeat=True)) == {1}


def test_an_episode_is_a_pure_function_of_seed_epoch_and_number(scenes: Dataset) -> None:
    one = TrainingEpisodes(scenes, 0, small_area_protocol(), shot=2, seed=5)
    forward = [one(1, i) for i in range(len(one))]
    again = TrainingEpisodes(scenes, 0, small_area_protocol(), shot=2, seed=5)
    assert [again(1, i) for i in reversed(range(len(again)))] == forward[::-1]
    assert pickle.loads(pickle.dumps(one))(1, 3) == forward[3]
    assert [one(2, i) for i in range(len(one))] != forward
    other = TrainingEpisodes(scenes, 0, small_area_protocol(), shot=2, seed=6)
    assert [other(1, i) for i in range(len(one))] != forward


def test_an_epoch_queries_every_listed_image_once(scenes: Dataset) -> None:
    episodes = TrainingEpisodes(scenes, 0, small_area_protocol())
    queries = [episodes(0, i).query for i in range(len(episodes))]
    base = [r for r in range(len(scenes)) if scenes.splits[r] == "train"]
    assert sorted(queries) == base  # every image shows a base class of fold 0


def test_supports_are_distinct_and_never_the_query(scenes: Dataset) -> None:
    episodes = TrainingEpisodes(scenes, 1, small_area_protocol(), shot=3)
    for i in range(len(episodes)):
        episode = episodes(0, i)
        assert len({episode.query, *episode.supports}) == 4
        for row in (episode.query, *episode.supports):
            assert scenes.area(row, episode.classes[0]) == 100
            assert scenes.splits[row] == "train"


def test_repeating_supports_need_only_one_other_image(tmp_path: Path) -> None:
    data = built_voc_of_pairs(tmp_path, {"train": [(6, 0), (6, 0)], "val": [(1, 0)] * 2})
    changes = {"supports_repeat": True, "short_classes": "drop"}
    episode = TrainingEpisodes(data, 0, small_area_protocol(**changes), shot=3)(0, 0)
    assert len(set(episode.supports)) == 1
    assert episode.query not in episode.supports


def test_novel_classes_are_never_asked_for(scenes: Dataset) -> None:
    for fold in range(4):
        novel = {*novel_classes(scenes.info, fold, small_area_protocol())}
        episodes = TrainingEpisodes(scenes, fold, small_area_protocol())
        drawn = {episodes(e, i).classes[0] for e in range(3) for i in range(len(episodes))}
        assert drawn == set(range(1, 21)) - novel


def test_images_with_novel_classes_can_be_left_out(scenes: Dataset) -> None:
    """Image i shows classes i and i + 5: half of the images show one of fold 0."""
    lines = training_candidates(scenes, 0, small_area_protocol(novel="exclude-image"))
    shown = {c for row in lines.rows.tolist() for c in scenes.classes_of(row).tolist()}
    assert shown == set(range(6, 21))
    assert len(set(lines.rows.tolist())) == 20


@pytest.mark.parametrize(("draw", "count"), [("image", 40), ("class-line", 60), ("class", 40)])
def test_the_training_list_has_images_or_lines(scenes: Dataset, draw: str, count: int) -> None:
    """Fold 0 leaves 15 classes in 4 images each: 60 lines, in 40 images."""
    episodes = TrainingEpisodes(scenes, 0, small_area_protocol(training_draw=draw))
    assert len(episodes) == count
    drawn = [episodes(0, i) for i in range(count)]
    assert all(scenes.area(e.query, e.classes[0]) for e in drawn)
    if draw == "class-line":
        assert len({(e.query, e.classes) for e in drawn}) == 60
        assert set(Counter(e.classes for e in drawn).values()) == {4}


def test_small_objects_are_neither_queries_nor_supports(scenes: Dataset) -> None:
    with pytest.raises(InputError, match=r"fewer in bus \(0\)"):
        TrainingEpisodes(scenes, 0, small_area_protocol(min_area=101, min_area_query=101))


def test_a_query_may_show_less_of_its_class_than_a_support(tmp_path: Path) -> None:
    data = built_voc_of_pairs(tmp_path, {"train": [(6, 7), (6, 7), (6, 7)], "val": [(1, 0)] * 2})
    low = small_area_protocol(min_area=100, min_area_query=0, short_classes="drop")
    high = small_area_protocol(min_area=101, min_area_query=0, short_classes="drop")
    assert len(TrainingEpisodes(data, 0, low)) == 3
    with pytest.raises(InputError, match="0 have them"):
        TrainingEpisodes(data, 0, high)  # no support, and no image is listed


def test_a_class_with_too_few_images_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    data = built_voc_of_pairs(tmp_path, {"train": [(6, 7), (6, 7), (8, 6)], "val": [(1, 0)] * 2})
    with pytest.raises(InputError, match=r"shot=2 needs 3 images per class; fewer in .*car \(2\)"):
        TrainingEpisodes(data, 0, small_area_protocol(), shot=2)
    kept = TrainingEpisodes(data, 0, small_area_protocol(short_classes="drop"), shot=2)
    assert "car" in kept.dropped
    assert "bus" not in kept.dropped
    assert {kept(0, i).classes for i in range(len(kept))} == {(6,)}


def test_several_ways_have_their_own_supports(scenes: Dataset) -> None:
    episodes = TrainingEpisodes(scenes, 0, small_area_protocol(), way=3, shot=2)
    places = set()
    for i in range(len(episodes)):
        episode = episodes(0, i)
        assert len(set(episode.classes)) == 3
        assert len(episode.supports) == 6
        for place, row in enumerate(episode.supports):
            assert row != episode.query
            assert scenes.area(row, episode.classes[place // 2])
        shown = [scenes.area(episode.query, c) > 0 for c in episode.classes]
        places.add(shown.index(True))
    assert places == {0, 1, 2}  # the query's class comes first, second or third


def test_more_ways_than_classes_is_an_error(scenes: Dataset) -> None:
    with pytest.raises(InputError, match="way=16 needs 16 classes with enough images; 15 have"):
        TrainingEpisodes(scenes, 0, small_area_protocol(), way=16)


def test_positions_run_through_epochs(scenes: Dataset) -> None:
    episodes = TrainingEpisodes(scenes, 0, small_area_protocol())
    assert [episodes.at(position) for position in (0, 39, 40, 81)] == [
        (0, 0), (0, 39), (1, 0), (2, 1),
    ]  # fmt: skip

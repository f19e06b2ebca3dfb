"""Protocols: named, hashed, and changed axis by axis."""

import pytest

from fssplat.common.errors import InputError
from fssplat.experiment.protocols import PROTOCOLS, resolve_protocol


def test_a_preset_is_found_by_its_name() -> None:
    assert resolve_protocol("hsnet") is PROTOCOLS["hsnet"]


def test_a_changed_axis_changes_the_hash_and_keeps_the_name() -> None:
    changed = resolve_protocol({"name": "fssplat", "episodes": 3})
    assert changed.name == "fssplat"
    assert changed.hash != PROTOCOLS["fssplat"].hash
    assert changed.episode_count("coco-20i") == 3


def test_the_default_scores_four_times_as_many_coco_episodes() -> None:
    rules = PROTOCOLS["fssplat"]
    assert (rules.episode_count("coco-20i"), rules.episode_count("pascal-5i")) == (4000, 1000)


def test_an_axis_can_differ_between_data_sets() -> None:
    """COCO in PFENet's public files is 641 pixels; HSNet's COCO set has no ignore map."""
    sizes = [PROTOCOLS[name].size_on(data) for name in ("pfenet", "bam", "hsnet", "fssplat")
             for data in ("pascal-5i", "coco-20i")]  # fmt: skip
    assert sizes == [473, 641, 473, 641, 400, 400, None, None]
    assert PROTOCOLS["hsnet"].ignores_border("pascal-5i")
    assert not PROTOCOLS["hsnet"].ignores_border("coco-20i")
    changed = resolve_protocol({"name": "pfenet", "size": 321, "ignore_border": False})
    assert (changed.size_on("coco-20i"), changed.ignores_border("coco-20i")) == (321, False)


def test_no_two_presets_share_a_hash() -> None:
    assert len({preset.hash for preset in PROTOCOLS.values()}) == len(PROTOCOLS)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("pfnet", "protocol 'pfnet' is unknown. Did you mean pfenet? Known: fssplat"),
        ({"name": "fssplat", "episode": 3}, "Did you mean protocol.episodes?"),
        ({"name": "fssplat", "draw": "walk-list"}, "Set supports_repeat: true, or draw: even"),
        ({"name": "fssplat", "draw": "all-queries"}, "draw all-queries may give one image twice"),
    ],
)
def test_a_wrong_protocol_is_explained(setting: object, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve_protocol(setting, "mine.yaml")  # type: ignore[arg-type]
    assert expected in str(caught.value)


def test_papers_that_follow_pfenet_differ_only_in_the_axes_that_they_state() -> None:
    episodes = {name: PROTOCOLS[name].episode_count("coco-20i") for name in ("mmnet", "jc2a")}
    assert episodes == {"mmnet": 20000, "jc2a": 1000}
    assert PROTOCOLS["sdaanet"].episode_count("coco-20i") == 4000
    assert PROTOCOLS["sdaanet"].score == ("original", 473)
    assert PROTOCOLS["bam"].novel == "exclude-image"
    assert PROTOCOLS["jc2a"].five_shot == "reuse"


def test_panet_and_miningfss_share_the_classes_of_a_coco_fold_and_average_five_seeds() -> None:
    for name in ("panet", "miningfss"):
        assert PROTOCOLS[name].coco_folds == "contiguous"
        assert len(PROTOCOLS[name].episode_seeds) == 5
    counts = [PROTOCOLS["miningfss"].episode_count(name) for name in ("pascal-5i", "coco-20i")]
    assert counts == [1000, 4000]
    assert PROTOCOLS["miningfss"].score == ("original",)
    assert PROTOCOLS["panet"].score == (417,)

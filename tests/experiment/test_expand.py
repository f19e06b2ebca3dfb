"""YAML -> trials -> jobs, with two small method cards in place of real networks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import BaseModel, ConfigDict

from fssplat.common.errors import InputError
from fssplat.experiment.card import MethodCard
from fssplat.experiment.expand import expand, jobs
from fssplat.experiment.schema import ExperimentSpec
from fssplat.experiment.trial import Trial

FINGERPRINTS = {"synthetic": "abc", "pascal-5i": "def"}


class Shared:
    """Trains once for every shot."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")
        width: int = 8

    LOSS_WEIGHTS: ClassVar[Mapping[str, float]] = {"segmentation": 1.0, "aux": 0.5}
    MOMENTUM: ClassVar[Mapping[str, float]] = {"sgd": 0.9}
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "public-code": {
            "options": {"width": 4},
            "training": {"lr": 0.5},
            "training_on": {"coco-20i": {"batch": 40}},
        }
    }
    RESULT_VERSION = 1
    TRAINED = True
    SHOTS_SHARE_TRAINING = True
    SCORING_OPTIONS: ClassVar[frozenset[str]] = frozenset()
    LATER_OPTIONS: ClassVar[frozenset[str]] = frozenset()
    SHOT_FUSION: ClassVar[Literal["network", "vote", "mean-mask"]] = "network"
    LOSS_IGNORES_255 = True
    SUPPORT_MAPS = True

    @classmethod
    def recipe(cls, dataset: str, backbone: str) -> Mapping[str, Any]:
        return {"epochs": 2, "lr": 0.1}

    @classmethod
    def options_for(cls, dataset: str) -> Mapping[str, Any]:
        return {"width": 16} if dataset == "coco-20i" else {}

    @classmethod
    def fewest_episodes(cls, options: BaseModel) -> int:
        return 1

    @classmethod
    def ways_of(cls, options: BaseModel) -> int | None:
        return 1


class Vectors(Shared):
    """Its supports become vectors, whatever their size."""

    SUPPORT_MAPS = False


class Apart(Shared):
    SHOTS_SHARE_TRAINING = False


class Voting(Shared):
    """Sees one support at a time, and its loss counts ignored pixels as background."""

    SHOT_FUSION = "vote"
    LOSS_IGNORES_255 = False


class Scored(Shared):
    """Has an option that only scoring reads."""

    class Options(Shared.Options):
        scales: int = 1

    SCORING_OPTIONS: ClassVar[frozenset[str]] = frozenset({"scales"})


class Untrained(Shared):
    TRAINED = False

    @classmethod
    def recipe(cls, dataset: str, backbone: str) -> Mapping[str, Any]:
        return {"steps": 0}


CARDS: dict[str, MethodCard] = {
    "shared": Shared,
    "apart": Apart,
    "scored": Scored,
    "voting": Voting,
    "untrained": Untrained,
    "vectors": Vectors,
}


def trials(**changes: Any) -> list[Trial]:
    grid = {"method": ["shared"], **changes.pop("grid", {})}
    return expand(
        ExperimentSpec.model_validate(
            {"name": "t", "dataset": "synthetic", "grid": grid, **changes}
        ),
        CARDS,
    )


def test_one_and_five_shot_share_a_training_unless_the_paper_trains_them_apart() -> None:
    assert len(jobs(trials(grid={"shot": [1, 5]}), FINGERPRINTS)) == 1
    apart = jobs(trials(grid={"shot": [1, 5], "method": ["apart"]}), FINGERPRINTS)
    assert [job.first.training.shot for job in apart] == [1, 5]


def test_supports_of_different_sizes_are_only_given_to_a_method_that_takes_them() -> None:
    rules = {"name": "fssplat", "input": "original"}
    assert len(trials(grid={"method": ["vectors"], "shot": [1, 5]}, protocol=rules)) == 2
    assert len(trials(grid={"shot": [1]}, protocol=rules)) == 1
    with pytest.raises(InputError, match="this method compares the 5 supports of an"):
        trials(grid={"shot": [1, 5]}, protocol=rules)


def test_a_protocol_can_force_shots_apart_or_together() -> None:
    grid = {"shot": [1, 5]}
    forced = trials(grid=grid, protocol={"name": "fssplat", "five_shot": "apart"})
    assert len(jobs(forced, FINGERPRINTS)) == 2
    votes = {"grid": {**grid, "method": ["voting"]}, "protocol": {"five_shot": "apart"}}
    assert len(jobs(trials(**votes), FINGERPRINTS)) == 1  # it trains with one support whatever K
    together = {"name": "fssplat", "five_shot": "reuse"}
    reused = trials(grid={**grid, "method": ["apart"]}, protocol=together)
    assert len(jobs(reused, FINGERPRINTS)) == 1


def test_settings_of_scoring_change_the_trial_but_not_the_training() -> None:
    one = trials()[0]
    other = trials(protocol={"name": "fssplat", "episodes": 7})[0]
    assert one.training_key(FINGERPRINTS) == other.training_key(FINGERPRINTS)
    assert one.trial_id(FINGERPRINTS) != other.trial_id(FINGERPRINTS)


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"lr": 0.2}},
        {"grid": {"seed": [1]}},
        {"grid": {"fold": [1]}},
        {"grid": {"backbone": ["vgg16"]}},
        {"grid": {"method": [{"name": "shared", "options": {"width": 9}}]}},
        {"grid": {"method": [{"name": "shared", "loss_weights": {"aux": 1}}]}},
    ],
)
def test_a_setting_that_changes_the_weights_changes_the_training_key(
    change: dict[str, Any],
) -> None:
    assert trials()[0].training_key(FINGERPRINTS) != trials(**change)[0].training_key(FINGERPRINTS)


@pytest.mark.parametrize(
    "change",
    [
        {"datasets": {"synthetic": {"name": "synthetic", "root": "elsewhere"}}},
        {"grid": {"method": [{"name": "shared", "variant": "another name"}]}},
        {"evaluation": {"cache_gb": 9, "batch": 2}},
        {"store": "elsewhere"},
    ],
)
def test_a_setting_that_cannot_change_a_number_keeps_the_trial_id(change: dict[str, Any]) -> None:
    assert trials()[0].trial_id(FINGERPRINTS) == trials(**change)[0].trial_id(FINGERPRINTS)


def test_two_entries_with_one_name_in_the_table_are_refused() -> None:
    entries = ["shared", {"name": "shared", "loss_weights": {"aux": 0.4}}]
    with pytest.raises(InputError, match="2 different trials are called synthetic"):
        trials(grid={"method": entries})
    entries[1] = {"name": "shared", "variant": "light aux", "loss_weights": {"aux": 0.4}}
    assert len(trials(grid={"method": entries})) == 2
    assert len(trials(grid={"method": ["shared", "shared"]})) == 1


def test_trials_that_score_different_given_weights_are_all_kept() -> None:
    entries = [
        {"name": "shared", "variant": name, "training": {"checkpoint": f"{name}.safetensors"}}
        for name in ("a", "b")
    ]
    found = trials(grid={"method": entries})
    assert [trial.training.checkpoint for trial in found] == ["a.safetensors", "b.safetensors"]


def test_a_trial_id_depends_on_the_content_of_weights_and_public_lists() -> None:
    def named(fingerprints: dict[str, str], weights: str) -> tuple[str, str]:
        backbones = {"resnet50": {"name": "resnet50", "weights": weights}}
        (trial, *_) = trials(
            dataset="pascal-5i", protocol="hsnet", backbones=backbones, grid={"method": ["shared"]}
        )
        return trial.training_key(fingerprints), trial.trial_id(fingerprints)

    same = named({"resnet50=/a.pth": "1"}, "/a.pth")
    assert named({"resnet50=/b.pth": "1"}, "/b.pth") == same
    for other in ({"resnet50=/a.pth": "2"}, {"resnet50=/a.pth": "1", "pascal-5i/hsnet": "x"}):
        assert not set(named(other, "/a.pth")) & set(same)


def test_rules_of_training_episodes_change_the_training_key() -> None:
    for axis in ({"supports_repeat": True}, {"novel": "ignore"}, {"min_area": 7}):
        (other, *_) = trials(protocol={"name": "fssplat", **axis})
        assert other.training_key(FINGERPRINTS) != trials()[0].training_key(FINGERPRINTS)


def test_more_classes_per_episode_than_a_method_takes_are_refused() -> None:
    with pytest.raises(InputError, match=r"grid\.way is 3 classes per episode"):
        trials(grid={"way": [3]})


def test_other_data_gives_another_trial() -> None:
    assert trials()[0].trial_id({"synthetic": "x"}) != trials()[0].trial_id({"synthetic": "y"})


def test_settings_come_from_the_recipe_then_the_preset_then_the_file_then_the_cell() -> None:
    grid = {"method": [{"name": "shared", "preset": "public-code"}], "shot": [1, 5]}
    override = {"where": {"shot": 5}, "training": {"steps": 9}}
    one, five = trials(grid=grid, overrides=[override], training={"batch": 3})
    assert (one.training.lr, one.training.batch, one.training.epochs) == (0.5, 3, 2)
    assert (five.training.steps, five.training.epochs) == (9, None)
    assert one.method.options == {"width": 4}
    assert one.method.label == "shared:public-code"


def test_the_file_replaces_an_option_that_the_paper_sets_per_data_set() -> None:
    of_coco = {"dataset": "coco-20i"}
    assert trials(**of_coco)[0].method.options == {"width": 16}
    assert trials(train_on="coco-20i")[0].method.options == {"width": 16}
    named = {"method": [{"name": "shared", "options": {"width": 2}}]}
    assert trials(grid=named, **of_coco)[0].method.options == {"width": 2}


def test_a_method_without_training_ignores_the_training_settings() -> None:
    assert trials(grid={"method": ["untrained"]}, training={"steps": 9})[0].training.steps == 0


def test_exclude_removes_the_cells_that_it_names() -> None:
    grid = {"fold": [0, 1], "shot": [1, 5]}
    kept = trials(grid=grid, exclude=[{"fold": 1, "shot": [5]}])
    assert [(trial.fold, trial.shot) for trial in kept] == [(0, 1), (0, 5), (1, 1)]


def test_a_variant_named_twice_is_one_trial() -> None:
    assert len(trials(grid={"method": ["shared", "shared"]})) == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"grid": {"fold": [4]}}, "grid.fold has 4; synthetic has folds 0 to 3"),
        ({"grid": {"method": ["pfent"]}}, "method 'pfent' is unknown. Known: shared"),
        ({"dataset": "voc"}, "dataset 'voc' is unknown"),
        ({"dataset": ""}, "no dataset"),
        ({"grid": {"method": [{"name": "shared", "preset": "x"}]}}, "no preset 'x'"),
        (
            {"grid": {"method": [{"name": "shared", "options": {"widht": 1}}]}},
            "Did you mean options.width",
        ),
        ({"grid": {"method": [{"name": "shared", "loss_weights": {"kd": 1}}]}}, "loss_weights.kd"),
        ({"training": {"rl": 1}}, "training.rl is not a setting. Did you mean training.lr?"),
        ({"exclude": [{"colour": 1}]}, "colour is not an axis"),
        ({"exclude": [{"fold": 0}]}, "exclude leaves no trial"),
        ({"exclude": [{"fold": "0"}]}, "exclude: fold '0' is not a whole number"),
        ({"exclude": [{"dataset": "sinthetic"}]}, "exclude: data set 'sinthetic' is unknown"),
        (
            {"overrides": [{"where": {"method": ["shred"]}}]},
            "overrides.where: method 'shred' is unknown. Did you mean shared? Known: shared",
        ),
        ({"training": {"seed": 7}}, "shared: training.seed cannot be set here. Set grid.seed"),
        (
            {"grid": {"method": ["apart"]}, "training": {"shot": 5}},
            "apart: training.shot cannot be set: each grid.shot is trained apart",
        ),
        (
            {"grid": {"method": ["voting"]}, "training": {"shot": 5}},
            "voting: training.shot cannot be set: the method trains on one support",
        ),
        ({"protocol": {"episodes": {"sinthetic": 5}}}, "episodes: data set sinthetic is unknown"),
        ({"training": {"lr": float("inf")}}, "training.lr: Input should be a finite number"),
        ({"training": {"milestones": [7]}}, "less than or equal to 1"),
        (
            {"grid": {"method": ["voting"]}, "protocol": {"novel": "ignore"}},
            "t: voting: protocol.novel: ignore would change nothing",
        ),
    ],
)
def test_a_wrong_grid_is_explained_in_one_line(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        trials(**change)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_transfer_trains_on_the_other_data_set() -> None:
    trial = trials(train_on="pascal-5i")[0]
    assert (trial.dataset.name, trial.train_on.name) == ("synthetic", "pascal-5i")


def test_every_experiment_file_expands_to_trials_of_registered_methods() -> None:
    from fssplat.experiment.reading import load_experiment
    from fssplat.methods import METHODS

    files = sorted((Path(__file__).parents[2] / "experiments").rglob("*.yaml"))
    assert files
    for path in files:
        if path.stem in {"base"} or path.parent.name == "search":
            continue
        for changes in ((), ("profile=smoke",)):
            assert expand(load_experiment(path, changes), METHODS), path


def test_trials_that_differ_in_options_of_scoring_share_a_training() -> None:
    entries = [
        {"name": "scored", "variant": f"{number} scales", "options": {"scales": number}}
        for number in (1, 2)
    ]
    found = trials(grid={"method": entries})
    (job,) = jobs(found, FINGERPRINTS)
    assert len(set(job.trial_ids)) == 2
    other = trials(grid={"method": [{"name": "scored", "options": {"width": 9}}]})
    assert other[0].training_key(FINGERPRINTS) != job.key


@pytest.mark.parametrize("setting", ["batch", "micro_batch"])
def test_a_batch_too_small_for_the_method_is_refused_before_it_runs(setting: str) -> None:
    from fssplat.methods import METHODS

    def expanded(**options: bool) -> list[Trial]:
        values = {
            "name": "test",
            "dataset": "synthetic",
            "grid": {"method": [{"name": "sdaanet", "options": options}]},
            "training": {"batch": 2, setting: 1},
        }
        return expand(ExperimentSpec.model_validate(values), METHODS)

    with pytest.raises(InputError, match=f"sdaanet: training.{setting} is 1, but .* 2 episodes"):
        expanded()
    assert expanded(saam=False)


def test_a_preset_can_change_the_training_on_one_data_set() -> None:
    entry = {"name": "shared", "preset": "public-code"}
    for dataset, batch in (("synthetic", 4), ("coco-20i", 40)):
        (one,) = trials(dataset=dataset, grid={"method": [entry]})
        assert (one.training.lr, one.training.batch) == (0.5, batch)


def test_a_method_without_training_and_random_numbers_is_scored_once_for_all_seeds() -> None:
    grid = {"method": ["untrained", "shared"], "seed": [1, 2]}
    assert [(t.method.name, t.training.seed) for t in trials(grid=grid)] == [
        ("untrained", 0), ("shared", 1), ("shared", 2),
    ]  # fmt: skip
    drawn = {"resnet50": {"name": "resnet50", "weights": "random"}}
    assert len(trials(grid=grid, backbones=drawn)) == 4

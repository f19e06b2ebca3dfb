"""The order of the settings: recipe < file < overrides < method entry < profile < --set."""

from pathlib import Path
from typing import Any

import pytest

from fssplat.common.errors import InputError
from fssplat.experiment.expand import expand, resolve
from fssplat.experiment.reading import load_experiment
from fssplat.experiment.schema import ExperimentSpec
from fssplat.experiment.trial import Trial
from tests.experiment.test_expand import CARDS

FILE = """\
dataset: synthetic
grid:
  fold: [0, 1]
  method:
    - untrained
    - {name: shared, variant: one, training: {steps: 40}, options: {width: 3},
       loss_weights: {aux: 3}}
    - {name: shared, variant: two, momentum: {sgd: 0.3}}
training: {steps: 20, lr: 0.2}
overrides:
  - {where: {fold: 1}, training: {steps: 30, batch: 3}, options: {width: 5}}
profiles:
  small:
    training: {steps: 50, lr: 0.5}
    overrides: [{where: {fold: 1, variant: two}, training: {steps: 55}, options: {width: 7}}]
"""


def trials(folder: Path, *changes: str, text: str = FILE) -> dict[tuple[str, int], Trial]:
    path = folder / "mine.yaml"
    path.write_text(text)
    found = expand(load_experiment(path, changes), CARDS)
    return {(trial.method.variant, trial.fold): trial for trial in found}


def refusal(folder: Path, *changes: str, text: str = FILE) -> str:
    with pytest.raises(InputError) as caught:
        trials(folder, *changes, text=text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def steps(found: dict[tuple[str, int], Trial]) -> list[int | None]:
    cells = [("one", 0), ("one", 1), ("two", 0), ("two", 1)]
    return [found[cell].training.steps for cell in cells]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((), [40, 40, 20, 30]),
        (("profile=small",), [50, 50, 50, 55]),
        (("training.steps=60",), [60, 60, 60, 60]),
        (("training={steps: 60}",), [60, 60, 60, 60]),
        (("training.steps=60", "profile=small"), [60, 60, 60, 60]),
        (("grid.method[1].training.steps=70",), [70, 70, 20, 30]),
        (("grid.method[1].training.steps=70", "training.steps=60"), [70, 70, 60, 60]),
        (("training.steps=60", "grid.method[1].training.steps=70"), [70, 70, 60, 60]),
        (("training.steps=60", "training.steps=61"), [61, 61, 61, 61]),
        (("overrides[0].training.steps=80",), [40, 80, 20, 80]),
        (("overrides[0].training.steps=80", "training.steps=60"), [60, 80, 60, 80]),
        (("overrides=[{where: {fold: 0}, training: {steps: 80}}]",), [80, 40, 80, 20]),
        (("overrides=[]", "profile=small"), [50, 50, 50, 50]),
        (("profiles.small.training.steps=90", "profile=small"), [90, 90, 90, 55]),
        (("training.epochs=2", "grid.method[2].training.steps=70"), [None, None, 70, 70]),
    ],
)
def test_the_last_layer_that_gives_steps_wins(
    tmp_path: Path, changes: tuple[str, ...], expected: list[int | None]
) -> None:
    assert steps(trials(tmp_path, *changes)) == expected


def test_epochs_of_set_replace_the_steps_of_every_layer_below(tmp_path: Path) -> None:
    found = trials(tmp_path, "profile=small", "training.epochs=2")
    assert {
        (one.training.steps, one.training.epochs) for cell, one in found.items() if cell[0]
    } == {(None, 2)}


def test_what_a_profile_does_not_name_keeps_the_file_s_value(tmp_path: Path) -> None:
    found = trials(tmp_path, "profile=small")
    assert [found["two", fold].training.batch for fold in (0, 1)] == [
        4,
        3,
    ]  # of the file's override
    assert found["one", 0].training.lr == 0.5


def test_options_and_terms_have_the_same_order(tmp_path: Path) -> None:
    def widths(*changes: str) -> list[Any]:
        found = trials(tmp_path, *changes)
        return [found[variant, 1].method.options["width"] for variant in ("one", "two")]

    assert widths() == [3, 5]
    assert widths("profile=small") == [3, 7]
    assert widths("profile=small", "grid.method[2].options.width=9") == [3, 9]
    changed = trials(
        tmp_path, "grid.method[1].loss_weights.aux=9", "grid.method[2].momentum={sgd: 0.1}"
    )
    assert changed["one", 0].method.loss_weights == {"segmentation": 1.0, "aux": 9.0}
    assert changed["two", 0].method.momentum == {"sgd": 0.1}


def test_a_profile_may_replace_the_methods(tmp_path: Path) -> None:
    text = FILE + "    grid: {method: [{name: shared, variant: one, training: {steps: 57}}, "
    text += "{name: shared, variant: two}]}\n"
    assert steps(trials(tmp_path, "profile=small", text=text)) == [57, 57, 50, 55]
    set_too = ("profile=small", "grid.method[0].training.steps=70")
    assert steps(trials(tmp_path, *set_too, text=text)) == [70, 70, 50, 55]
    two = "{name: shared, variant: two, training: {steps: 5}}"
    whole = f"grid.method=[{{name: shared, variant: one}}, {two}]"
    assert steps(trials(tmp_path, "profile=small", whole, text=text)) == [50, 50, 5, 5]


def test_a_list_entry_may_be_replaced_and_a_list_of_a_setting_changed(tmp_path: Path) -> None:
    found = trials(tmp_path, "grid.method[1]={name: shared, variant: one}", "grid.fold[0]=2")
    assert found["one", 2].training.steps == 20
    text = FILE.replace("lr: 0.2", "lr: 0.2, milestones: [0.1, 0.2]")
    assert found["one", 1].training.steps == 30
    changed = trials(tmp_path, "training.milestones[1]=0.5", text=text)["one", 0]
    assert changed.training.milestones == (0.1, 0.5)


def test_a_data_set_given_last_replaces_the_list_below(tmp_path: Path) -> None:
    text = FILE.replace("dataset: synthetic\n", "").replace(
        "grid:", "grid:\n  dataset: [pascal-5i]"
    )
    found = trials(tmp_path, "dataset=synthetic", text=text)
    assert {trial.dataset.name for trial in found.values()} == {"synthetic"}


def test_a_protocol_named_by_set_keeps_the_axes_that_are_set(tmp_path: Path) -> None:
    for changes in (
        ("protocol=panet", "protocol.episodes=7"),
        ("protocol.episodes=7", "protocol=panet"),
    ):
        (one, *_) = trials(tmp_path, *changes).values()
        assert (one.protocol.name, one.protocol.episodes, one.protocol.input) == (
            "panet",
            7,
            "squash",
        )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("grid.method[3].training.steps=6", "grid.method has entries 0 to 2, not [3]"),
        ("grid.method[-1].training.steps=6", "grid.method has entries 0 to 2, not [-1]"),
        ("grid.method[x].training.steps=6", "entries of a list by their place from 0"),
        ("store[0]=6", "store is not a list"),
        ("grid.method.training.steps=6", "grid.method is a list, so name an entry by its place"),
        ("grid.method[0].training.steps=6", "changes nothing, because the method is not trained"),
        ("training.checkpoint.x=6", "training.checkpoint"),
        ("layers=[]", "fssplat writes it"),
        ("extends=other.yaml", "a file names the file that it extends"),
        ("=6", "write key=value"),
        ("grid.fold=[]", "grid.fold is an empty list"),
        ("overrides=[{where: {fold: 0}}]", "overrides[0] changes nothing"),
        (
            "grid.method[1].steps=60",
            "grid.method[1].steps is not a setting. Did you mean grid.method[1].training.steps?",
        ),
        ("grid.method[1].nmae=x", "Did you mean grid.method[1].name?"),
        ("overrides[0].train.lr=1", "Did you mean overrides[0].training?"),
        ("datasets.synthetc.root=x", "Did you mean synthetic?"),
        ("steps=60", "steps is not a setting. Did you mean training.steps?"),
    ],
)
def test_a_set_that_cannot_have_an_effect_is_refused(
    tmp_path: Path, change: str, expected: str
) -> None:
    assert expected in refusal(tmp_path, change)


def test_steps_beside_given_weights_are_refused_if_set_gives_them(tmp_path: Path) -> None:
    text = FILE.replace("lr: 0.2", "lr: 0.2, checkpoint: w.safetensors")
    assert steps(trials(tmp_path, text=text)) == [0, 0, 0, 0]
    assert "training.steps changes nothing" in refusal(tmp_path, "training.steps=6", text=text)


def test_training_of_a_grid_without_training_is_refused_from_set_only(tmp_path: Path) -> None:
    text = "dataset: synthetic\ngrid: {method: [untrained]}\n"
    text += "profiles: {small: {training: {steps: 2}}}\n"
    assert trials(tmp_path, "profile=small", text=text)
    assert "--set training.* changes nothing" in refusal(tmp_path, "training.steps=6", text=text)


def test_a_backbone_and_a_data_set_are_named_by_their_keys(tmp_path: Path) -> None:
    changes = ("backbones.resnet50.weights=random", "datasets.synthetic.root=there")
    (one, *_) = trials(tmp_path, *changes).values()
    assert (one.backbone.weights, one.dataset.root) == ("random", "there")


def test_a_profile_inside_a_profile_is_refused(tmp_path: Path) -> None:
    text = FILE + "    profile: other\n"
    assert "profiles.small: a profile has no profile" in refusal(
        tmp_path, "profile=small", text=text
    )


def test_data_sets_that_are_named_twice_in_one_file_are_refused(tmp_path: Path) -> None:
    text = FILE.replace("grid:", "grid:\n  dataset: [pascal-5i]")
    assert "mine.yaml: dataset and grid.dataset both name" in refusal(tmp_path, text=text)


def test_a_preset_is_the_variant_that_a_rule_names(tmp_path: Path) -> None:
    text = FILE.replace("variant: two", "preset: public-code")
    text = text.replace("{fold: 1}", "{variant: public-code}", 1)
    found = trials(tmp_path, text=text)
    assert found["public-code", 0].training.steps == 30


# ------------------------------------------------------------------ rules that match nothing


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("exclude: [{fold: 1}, {shot: 5}]", "exclude[1] matches no cell of the grid: no shot is 5"),
        ("exclude: [{method: shred}]", "Did you mean shared?"),
        (
            "overrides: [{where: {variant: onee}, training: {lr: 1}}]",
            "overrides[0] matches no cell of the grid: no variant is 'onee'. Did you mean one?",
        ),
        (
            "exclude: [{fold: 1}]\noverrides: [{where: {fold: 1}, training: {lr: 1}}]",
            "overrides[0] matches no cell of the grid, or only cells that exclude removes.",
        ),
    ],
)
def test_a_rule_of_the_file_that_matches_nothing_is_refused(
    tmp_path: Path, rule: str, expected: str
) -> None:
    start = FILE[: FILE.index("overrides:")]
    assert expected in refusal(tmp_path, text=start + rule + "\n")


@pytest.mark.parametrize("change", ["exclude=[{shot: 5}]", "overrides[0].where.fold=3"])
def test_a_rule_of_set_that_matches_nothing_is_refused(tmp_path: Path, change: str) -> None:
    assert "matches no cell of the grid" in refusal(tmp_path, change)


def test_a_rule_of_the_file_may_match_only_the_grid_that_set_makes_smaller(tmp_path: Path) -> None:
    assert len(trials(tmp_path, "grid.fold=[0]")) == 3


def test_a_rule_of_a_profile_or_of_an_extended_file_may_match_nothing(tmp_path: Path) -> None:
    rules = "overrides: [{where: {fold: 3}, training: {lr: 1}}]\nexclude: [{shot: 5}]\n"
    (tmp_path / "base.yaml").write_text(rules)
    assert trials(tmp_path, text="extends: base.yaml\n" + FILE[: FILE.index("overrides:")])
    inside = "".join(f"    {line}\n" for line in rules.splitlines())
    start = FILE[: FILE.index("    overrides:")]
    assert trials(tmp_path, "profile=small", text=start + inside)


# ------------------------------------------------------------------ sources


def test_each_value_has_its_source(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(FILE)
    experiment = load_experiment(
        tmp_path / "mine.yaml", ("profile=small", "grid.method[1].training.batch=9")
    )
    sources = {
        (one.trial.method.variant, one.trial.fold): one.sources
        for one in resolve(experiment, CARDS)
    }
    one, two = sources["one", 0], sources["two", 1]
    assert one["training.batch"] == "--set"
    assert one["training.steps"] == "profile small"
    assert one["options.width"] == "method entry grid.method[1]"
    assert one["loss_weights.segmentation"] == "recipe of shared"
    assert two["training.batch"] == "overrides[0]"
    assert two["training.steps"] == "profile small: overrides[0]"
    assert "training.epochs" not in one


def test_an_experiment_with_layers_is_the_same_after_it_was_written(tmp_path: Path) -> None:
    import yaml

    found = trials(tmp_path, "profile=small", "training.lr=0.7", "grid.method[1].options.width=9")
    experiment = load_experiment(
        tmp_path / "mine.yaml",
        ("profile=small", "training.lr=0.7", "grid.method[1].options.width=9"),
    )
    text = yaml.safe_dump(experiment.model_dump(mode="json"))
    assert trials(tmp_path, text=text) == found
    assert ExperimentSpec.model_validate(yaml.safe_load(text)) == experiment


# ------------------------------------------------------------------ shipped experiments


def shipped(name: str, *changes: str) -> dict[str, Trial]:
    from fssplat.methods import METHODS

    path = Path(__file__).parents[2] / "experiments" / f"{name}.yaml"
    return {trial.method.name: trial for trial in expand(load_experiment(path, changes), METHODS)}


def test_steps_of_set_reach_the_methods_of_the_quickstart() -> None:
    found = shipped("quickstart", "training.steps=100")
    assert {name: one.training.steps for name, one in found.items()} == {
        "prior": 0, "pfenet": 100, "hsnet": 100,
    }  # fmt: skip
    assert found["pfenet"].training.precision == "bf16"  # of its entry, as --set does not name it


def test_smoke_shortens_all_nine_methods() -> None:
    found = shipped("synthetic_methods", "profile=smoke")
    assert len(found) == 9
    assert {one.training.steps for name, one in found.items() if name != "prior"} == {2}
    assert found["mining"].method.options["pool_images"] == 2


def test_the_seeds_of_the_synthetic_methods_train_each_method_three_times() -> None:
    from fssplat.methods import METHODS

    path = Path(__file__).parents[2] / "experiments" / "synthetic_methods.yaml"
    found = expand(load_experiment(path, ("profile=seeds",)), METHODS)
    trained = [trial for trial in found if trial.method.name != "prior"]
    assert {trial.training.seed for trial in trained} == {0, 1, 2}
    assert (len(trained), len(found)) == (8 * 2 * 3, 8 * 2 * 3 + 2)  # the prior has one per fold

"""The `search:` section: what it may contain, and that one message lists all of its errors."""

from pathlib import Path
from typing import Any

import pytest

from fssplat.common.errors import InputError
from fssplat.experiment.expand import expand
from fssplat.experiment.reading import load_experiment
from fssplat.experiment.schema import ExperimentSpec
from fssplat.methods import METHODS
from fssplat.search.reading import checked, load_search
from fssplat.search.space import Search, with_point

SHIPPED = sorted((Path(__file__).parents[2] / "experiments" / "search").glob("*.yaml"))
ONE = {"training": {"lr": {"log": [1e-4, 1e-1]}}}


def searched(space: dict[str, Any], method: Any = "mmnet", **section: Any) -> Search:
    settings = {
        "name": "small",
        "dataset": "synthetic",
        "grid": {"fold": [0, 1], "method": [method], "backbone": ["resnet50"]},
        **section.pop("experiment", {}),
    }
    experiment = ExperimentSpec.model_validate({**settings, "search": {"space": space, **section}})
    return checked(experiment, METHODS, "small.yaml")


def refusal(space: dict[str, Any], method: Any = "mmnet", **section: Any) -> str:
    with pytest.raises(InputError) as caught:
        searched(space, method, **section)
    return str(caught.value)


def test_the_papers_values_are_the_default_point() -> None:
    space = {
        "loss_weights": {"reconstruction": {"log": [0.01, 1]}, "auxiliary": {"uniform": [0, 2]}},
        "momentum": {"sgd": {"uniform": [0.5, 0.99]}},
        "training": {"lr": {"log": [1e-4, 1e-1]}, "weight_decay": {"log": [1e-6, 1e-2]}},
        "options": {"embeddings": {"integer": [10, 100]}},
    }
    assert searched(space).defaults == {
        "loss_weights.reconstruction": 0.1,
        "loss_weights.auxiliary": 1.0,
        "momentum.sgd": 0.9,
        "training.lr": 0.025,
        "training.weight_decay": 1e-4,
        "options.embeddings": 50,
    }


def test_a_point_changes_the_trials_of_every_fold_and_nothing_else() -> None:
    found = searched({"loss_weights": {"auxiliary": {"uniform": [0, 2]}}, **ONE})
    before = found.trials(found.defaults)
    after = found.trials({**found.defaults, "loss_weights.auxiliary": 0.5, "training.lr": 0.01})
    assert [trial.fold for trial in after] == [0, 1]
    for one, other in zip(before, after, strict=True):
        assert other.method.loss_weights == {**one.method.loss_weights, "auxiliary": 0.5}
        assert other.training == one.training.model_copy(update={"lr": 0.01})
        assert other.method.options == one.method.options


def test_names_may_be_dotted_or_nested() -> None:
    nested = searched({"training": {"augment": {"rotate": {"uniform": [0, 20]}}}})
    dotted = searched({"training.augment.rotate": {"uniform": [0, 20]}})
    assert nested.space == dotted.space
    (trial, _) = nested.trials({"training.augment.rotate": 5.0})
    assert trial.training.augment.rotate == 5.0
    assert trial.training.augment.flip  # the recipe's other settings stay


def test_one_message_lists_all_errors_of_a_space() -> None:
    message = refusal(
        {
            "loss_weights": {"alignment": {"log": [0.1, 10]}, "auxiliary": {"uniform": [2, 1]}},
            "training": {"rl": {"log": [1e-4, 1e-1]}, "weight_decay": {"log": [0, 1e-2]}},
            "options": {"embedings": {"integer": [10, 100]}, "bins": {"choice": [[60, 30]]}},
            "momentum": {"sgd": {"uniform": [0.5, 1.0]}, "ema": {"uniform": [0.5, 0.9]}},
        }
    )
    assert "loss_weights.alignment: mmnet has no loss 'alignment'" in message
    assert "It has: segmentation, auxiliary, reconstruction." in message
    assert "loss_weights.auxiliary: low 2 is not below high 1" in message
    assert "training.rl is not a setting. Did you mean training.lr?" in message
    assert "training.weight_decay: a log range starts above 0 (got 0)" in message
    assert "options.embedings is not a setting. Did you mean options.embeddings?" in message
    assert "options.bins: choice [[60, 30]] has fewer than 2 different values" in message
    assert "momentum.sgd: a momentum is in [0, 1) (got 0.5 to 1)" in message
    assert "momentum.ema: mmnet has no momentum term 'ema'. It has: sgd." in message


def test_a_value_that_the_methods_config_refuses_is_found_before_anything_starts() -> None:
    message = refusal({"options": {"fusion": {"uniform": [0.5, 1.5]}}}, "mining")
    assert "options.fusion: 1.5 is refused" in message
    assert "less than or equal to 1" in message
    message = refusal({"options": {"reconstruct": {"choice": ["support", "queries"]}}})
    assert 'options.reconstruct: "queries" is refused' in message


def test_a_space_must_contain_the_default() -> None:
    message = refusal({"loss_weights": {"distillation": {"uniform": [0, 10]}}}, "sdaanet")
    assert "does not contain the default 50.0, which is always tried first" in message


def test_a_setting_of_an_override_cannot_be_searched() -> None:
    overrides = {"overrides": [{"where": {"fold": 1}, "options": {"embeddings": 7}}]}
    message = refusal({"options": {"embeddings": {"integer": [10, 100]}}}, experiment=overrides)
    assert "options.embeddings: an entry of overrides sets it" in message


def test_search_training_wins_over_the_methods_entry_and_over_an_override() -> None:
    entry = {"name": "mmnet", "training": {"epochs": 50, "batch": 3}}
    overrides = {"overrides": [{"where": {"fold": 1}, "training": {"steps": 900}}]}
    found = searched(ONE, entry, training={"steps": 4}, experiment=overrides)
    for trial in found.trials({"training.lr": 0.01}):
        length = (trial.training.steps, trial.training.epochs)
        assert (length, trial.training.batch) == ((4, None), 3)
    assert found.experiment.grid.method[0].training == {"epochs": 50, "batch": 3}


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({}, "search.space is empty"),
        ({"training": {"seed": {"integer": [0, 9]}}}, "list seeds in grid.seed"),
        ({"training": {"lr": {"log": [1e-4, 1e-1], "uniform": [0, 1]}}}, "give exactly one of"),
        ({"training": {"lr": {"logg": [1e-4, 1e-1]}}}, "logg is not a setting"),
        ({"training": {"lr": {"log": [1e-4, 1e-1], "when": {"options.x": 1}}}}, "not in the space"),
    ],
)
def test_a_malformed_parameter_is_named(space: dict[str, Any], says: str) -> None:
    assert says in refusal(space)


def test_a_condition_must_be_a_value_of_a_choice() -> None:
    kind = {"choice": ["support", "query", "none"]}
    weight = {"log": [0.01, 1], "when": {"options.reconstruct": ["support", "nothing"]}}
    space = {"options": {"reconstruct": kind}, "loss_weights": {"reconstruction": weight}}
    assert 'options.reconstruct is never "nothing"' in refusal(space)


def test_a_choice_comes_before_its_conditions_in_any_order_of_the_file() -> None:
    space = {
        "loss_weights": {
            "reconstruction": {"log": [0.01, 1], "when": {"options.reconstruct": "support"}}
        },
        "options": {"reconstruct": {"choice": ["support", "none"]}},
    }
    assert list(searched(space).space) == ["options.reconstruct", "loss_weights.reconstruction"]


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"sampler": "nsga2", "pruning": "asha"}, "two objectives and prunes nothing"),
        ({"milestones": [0.5, 0.25, 1]}, "must rise from above 0 to 1"),
        ({"sampler": "grid"}, "search.sampler"),
        ({"trails": 5}, "Did you mean search.trials?"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(section: dict[str, Any], says: str) -> None:
    assert says in refusal(ONE, **section)


def test_two_methods_need_two_searches() -> None:
    experiment = {"grid": {"method": ["panet", "mmnet"]}}
    assert "grid.method lists 2 values, a search tunes one" in refusal(ONE, experiment=experiment)


def test_a_training_free_method_cannot_be_searched() -> None:
    assert "prior is not trained" in refusal(ONE, "prior")


def test_a_file_without_a_section_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text("dataset: synthetic\ngrid: {method: [panet]}\n")
    with pytest.raises(InputError, match="no `search:` section"):
        load_search(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_search_is_valid(path: Path) -> None:
    assert len(SHIPPED) == 8
    found = load_search(path)
    assert found.method == path.stem
    assert found.spec.selection == "base-val"
    assert len(found.defaults) >= 2


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_search_can_be_shortened(path: Path) -> None:
    changes = ("dataset=synthetic", "search.trials=10", "search.training.epochs=1")
    found = load_search(path, changes)
    assert {trial.training.epochs for trial in found.trials(found.defaults)} == {1}
    smoke = load_search(path, ("dataset=synthetic", "profile=smoke"))
    assert {trial.training.steps for trial in smoke.trials(smoke.defaults)} == {4}
    assert smoke.spec.trials == 2


def test_a_profile_for_searches_does_not_make_another_file_a_search() -> None:
    with pytest.raises(InputError, match="no `search:` section"):
        load_search(SHIPPED[0].parents[1] / "quickstart.yaml", ("profile=smoke",))


def test_a_point_wins_over_a_profile_and_set_and_keeps_the_rest(tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "mine.yaml"
    path.write_text(
        "dataset: synthetic\n"
        "grid: {fold: [0, 1], method: [mmnet], backbone: [resnet50]}\n"
        "search: {space: {training: {lr: {log: [1.0e-4, 1.0e-1]}}}, training: {steps: 4}}\n"
        "profiles: {small: {training: {lr: 0.02, steps: 9, batch: 2}}}\n"
    )
    found = load_search(path, ("profile=small", "training.size=97", "training.lr=0.03"))
    assert found.defaults == {"training.lr": 0.03}
    for trial in found.trials({"training.lr": 0.05}):
        training = trial.training
        assert (training.lr, training.steps) == (0.05, 4)
        assert (training.batch, training.size) == (2, 97)
    best = with_point(found.experiment, {"training.lr": 0.05}).model_dump(mode="json")
    path.write_text(yaml.safe_dump(best))
    for trial in expand(load_experiment(path), METHODS):
        assert (trial.training.lr, trial.training.steps, trial.training.batch) == (0.05, 9, 2)
    (one, _) = expand(load_experiment(path, ("training.lr=0.06",)), METHODS)
    assert one.training.lr == 0.06


def test_a_length_of_set_that_points_do_not_get_is_refused() -> None:
    changes = ("dataset=synthetic", "training.steps=60")
    with pytest.raises(InputError, match=r"Set search\.training\.steps"):
        load_search(SHIPPED[0], changes)
    assert load_search(SHIPPED[0], (*changes, "search.training.steps=4"))

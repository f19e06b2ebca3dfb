"""Options that only scoring reads, and options that are newer than the first results."""

from typing import Any

import pytest

from fssplat.experiment.expand import expand
from fssplat.experiment.schema import BackboneSpec, ExperimentSpec, MethodSpec
from fssplat.experiment.trial import Trial
from fssplat.methods import METHODS, build_method


@pytest.mark.parametrize(
    ("name", "change"), [("jc2a", {"shot_masks": "binary"}), ("sdaanet", {"scales_of": "images"})]
)
def test_an_option_that_came_later_changes_no_id_until_it_is_set(
    name: str, change: dict[str, Any]
) -> None:
    def trial(options: dict[str, Any]) -> Trial:
        entry = {"name": name, "options": options}
        made = {"name": "x", "dataset": "synthetic", "grid": {"method": [entry]}}
        return expand(ExperimentSpec.model_validate(made), METHODS)[0]

    (option,) = change
    plain, same, other = trial({}), trial({option: default_of(name, option)}), trial(change)
    assert option not in plain.method.options
    assert plain.trial_id({}) == same.trial_id({}) != other.trial_id({})
    assert plain.training_key({}) == other.training_key({})


@pytest.mark.parametrize(
    ("name", "change"), [("jc2a", {"shot_masks": "binary"}), ("sdaanet", {"scales_of": "images"})]
)
def test_options_of_scoring_are_those_of_each_trial_in_turn(
    name: str, change: dict[str, Any]
) -> None:
    backbone = BackboneSpec(name="efficientnet_lite0", weights="random")
    network = build_method(MethodSpec(name=name), backbone)
    (option,) = change
    network.take_scoring_options(change)
    assert getattr(network.options, option) == change[option]
    network.take_scoring_options({})  # a trial with the default does not name it
    assert getattr(network.options, option) == default_of(name, option)


def default_of(name: str, option: str) -> Any:
    return METHODS[name].Options.model_fields[option].default

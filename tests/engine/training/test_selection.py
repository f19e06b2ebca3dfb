"""Selection: when weights are scored, and under which rules."""

from fssplat.engine.training.selection import CHECKS, EPISODES, SelectionByScore, selection_trial
from tests.fakes.prototype_method import prototype_trial


def due_steps(steps: int) -> list[int]:
    selection = SelectionByScore.__new__(SelectionByScore)  # without data, which `due` never reads
    return [step for step in range(1, steps + 1) if selection.due(step, steps)]


def test_scorings_are_evenly_spaced_and_the_last_is_at_the_end() -> None:
    assert due_steps(100) == list(range(10, 101, 10))
    assert due_steps(4) == [1, 2, 3, 4]
    assert len(due_steps(12345)) == CHECKS
    assert due_steps(12345)[-1] == 12345


def test_a_selection_has_rules_of_its_own() -> None:
    trial = prototype_trial(shot=1)
    rules = trial.protocol.model_copy(update={"selection": "base-val", "episode_seeds": (1, 2)})
    found = selection_trial(trial.model_copy(update={"protocol": rules, "shot": 5}))
    assert (found.shot, found.protocol.size) == (1, trial.training.size)
    assert found.protocol.episodes == EPISODES["base-val"]
    assert found.protocol.episode_seeds == (0,)
    assert found.evaluation.precision == "fp32"

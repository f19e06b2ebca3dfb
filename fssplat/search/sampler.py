"""Who draws the points of a study: Optuna's samplers, seeded for each Optuna trial."""

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fssplat.experiment.schema import digest
from fssplat.search.space import (
    Parameter,
    Point,
    Search,
    SearchSpec,
    is_active,
    original_value,
    stored_value,
)
from fssplat.search.storage import record_heartbeat


class SamplerPerTrial(BaseSampler):
    """A fresh sampler for every Optuna trial, seeded by the search's seed and the trial's number.

    One sampler for a whole driver would repeat its draws in every driver that starts with the same
    seed. This one draws the same point for the same number and the same earlier trials, however
    often the search was interrupted.
    """

    def __init__(self, spec: SearchSpec) -> None:
        self._spec = spec
        self._samplers: dict[int, BaseSampler] = {}

    def _sampler(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number not in self._samplers:
            self._samplers[trial.number] = make_sampler(self._spec, trial.number)
        return self._samplers[trial.number]

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        record_heartbeat(study, trial)  # at once, so that its driver does not count as dead
        self._sampler(trial).before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._sampler(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._sampler(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._sampler(trial).after_trial(study, trial, state, values)
        self._samplers.pop(trial.number, None)


def make_sampler(spec: SearchSpec, number: int) -> BaseSampler:
    """The sampler of the Optuna trial with this number."""
    seed = int(digest(spec.seed, number, length=8), 16)
    if spec.sampler == "random":
        return RandomSampler(seed=seed)
    if spec.sampler == "cmaes":
        return CmaEsSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False)
    if spec.sampler == "nsga2":
        return NSGAIISampler(seed=seed, population_size=spec.population)
    return TPESampler(
        seed=seed,
        n_startup_trials=spec.startup,
        multivariate=True,
        group=True,
        constant_liar=True,
    )


def draw_point(search: Search, trial: optuna.Trial) -> Point:
    """Draw a point for an Optuna trial: every active parameter, in order."""
    point: Point = {}
    for name, parameter in search.space.items():
        if is_active(search.space, name, point):
            point[name] = original_value(parameter, _suggest(trial, name, parameter))
    return point


def _suggest(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    """A value of one parameter, as Optuna stores it."""
    if parameter.choice is not None:
        return trial.suggest_categorical(name, [stored_value(value) for value in parameter.choice])
    if parameter.integer is not None:
        return trial.suggest_int(name, *parameter.integer)
    low, high = parameter.bounds or (0.0, 0.0)
    return trial.suggest_float(name, low, high, log=parameter.log is not None)

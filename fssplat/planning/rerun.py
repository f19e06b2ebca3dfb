"""Which finished trials `--rerun` chooses: all, those of a state, or those with given settings."""

from collections.abc import Mapping, Sequence

from fssplat.common.errors import InputError
from fssplat.experiment.trial import Trial
from fssplat.results.records import Result
from fssplat.results.source_code import freshness

STATES = ("all", "stale", "unknown")
KEYS = ("method", "backbone", "dataset", "fold", "shot", "way", "seed", "id")


def chosen_trials(
    where: Sequence[str], trials: Mapping[str, Trial], results: Mapping[str, Result]
) -> list[str]:
    """The ids of the finished trials that meet every condition of `where`.

    A condition is one of STATES or KEY=VALUE; values of one key are alternatives. Raises InputError
    for another word, and if no trial of the experiment has a value.
    """
    words = [word for text in where for word in text.split()]
    conditions = {word for word in words if word in STATES[1:]}
    values: dict[str, set[str]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in KEYS:
            values.setdefault(key, set()).update(value.split(","))
        elif word not in STATES:
            raise InputError(
                f"--rerun {word}: not a condition. Give {', '.join(STATES)}, or KEY=VALUE with one "
                f"of {', '.join(KEYS)}, e.g. --rerun method=hsnet."
            )
    for key, wanted in values.items():
        known = {value for one, trial in trials.items() for value in _values(one, trial)[key]}
        if wanted - known:
            raise InputError(
                f"--rerun {key}={min(wanted - known)}: no trial has it. "
                f"Known: {', '.join(sorted(known)[:20])}."
            )
    return [
        one
        for one, trial in trials.items()
        if one in results
        and all(wanted & _values(one, trial)[key] for key, wanted in values.items())
        and (not conditions or freshness(trial, results[one]) in conditions)
    ]


def _values(trial_id: str, trial: Trial) -> dict[str, set[str]]:
    return {
        "method": {trial.method.name, trial.method.label},
        "backbone": {trial.backbone.name},
        "dataset": {trial.dataset.name},
        "fold": {str(trial.fold)},
        "shot": {str(trial.shot)},
        "way": {str(trial.way)},
        "seed": {str(trial.training.seed)},
        "id": {trial_id},
    }

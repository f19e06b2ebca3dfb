"""The Optuna study of a search: how it is named, opened and checked, and how far it is.

A study may have several drivers, one after the other or at once. Code that depends on the number
of points runs under one lock. If a driver dies, its points are queued again.
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fssplat.common.errors import InputError
from fssplat.experiment.schema import digest
from fssplat.search.sampler import SamplerPerTrial
from fssplat.search.space import Point, Search, SearchSpec, original_value, stored_value
from fssplat.search.storage import StudyDatabase, database_at, requeue_dead_trials

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def objectives(spec: SearchSpec) -> tuple[str, ...]:
    """The names of the values that are maximised, in Optuna's order."""
    return ("miou", "episodes_per_s") if spec.sampler == "nsga2" else ("miou",)


def comparison_mark(search: Search, keys: Sequence[str]) -> str:
    """Digest of all that makes two values comparable: data, trainings, space and scoring.

    `keys` name the trainings of the default point and how they are scored.
    """
    spec = search.spec
    plain = {name: parameter.model_dump() for name, parameter in search.space.items()}
    return digest(
        list(keys),
        plain,
        spec.selection,
        spec.episodes,
        spec.scored_shares,
        objectives(spec),
        length=8,
    )


def study_name(search: Search, mark: str) -> str:
    """`search.study`, or the experiment's name with the mark."""
    return search.spec.study or f"{search.experiment.name}-{mark}"


def check_study(search: Search, database: StudyDatabase, mark: str) -> None:
    """Raises InputError for everything that `open_study` refuses; makes no study."""
    storage = database.existing()
    study = find_study(study_name(search, mark), storage)
    if study is not None:
        _check_same(study, objectives(search.spec), mark, database)
    if study is None or "mark" not in study.user_attrs:  # else its first points are drawn already
        warm_start_points(search, database, storage)


def find_study(name: str, storage: RDBStorage | None) -> Study | None:
    """The study of this name; returns None if there is none."""
    if storage is None:
        return None
    with contextlib.suppress(KeyError):
        return optuna.load_study(study_name=name, storage=storage, sampler=RandomSampler())
    return None


def open_study(search: Search, database: StudyDatabase, mark: str) -> Study:
    """Open the study, with the points of dead drivers queued again.

    A missing study is made, with its first points: the default, then those of the warm start.
    Raises InputError if a study of this name searches something else.
    """
    spec, names = search.spec, objectives(search.spec)
    name, storage = study_name(search, mark), database.connect()
    with database.lock(name):
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=["maximize"] * len(names),
            sampler=SamplerPerTrial(spec),
            pruner=optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
        _check_same(study, names, mark, database)
        requeue_dead_trials(study, database)
        if "mark" not in study.user_attrs:
            study.set_metric_names(list(names))
            study.set_user_attr("selection", spec.selection)
            study.set_user_attr("defaults", json.dumps(search.defaults))
            study.enqueue_trial(stored_point(search.defaults), user_attrs={"origin": "defaults"})
            for point in warm_start_points(search, database, storage):
                study.enqueue_trial(point, {"origin": "warm start"}, skip_if_exists=True)
            study.set_user_attr("mark", mark)  # last: if a driver dies before, the next starts anew
    return study


def _check_same(study: Study, names: tuple[str, ...], mark: str, database: StudyDatabase) -> None:
    directions = [direction.name for direction in study.directions]
    if directions != ["MAXIMIZE"] * len(names):
        raise InputError(
            f"study {study.study_name} in {database.shown}: its directions are "
            f"{', '.join(directions).lower()}; this search maximises {' and '.join(names)}. "
            "Give another name with search.study."
        )
    before = study.user_attrs.get("mark", mark)
    if before != mark:
        raise InputError(
            f"study {study.study_name} in {database.shown}: made for another space, data set or "
            f"schedule ({before}, now {mark}), so their values cannot be compared. Give another "
            "name with search.study; search.warm_start tries the study's best points again."
        )


def warm_start_points(
    search: Search, database: StudyDatabase, storage: RDBStorage | None
) -> list[dict[str, Any]]:
    """The best points of another study, limited to this space and as Optuna stores them.

    They are scored again, since their values come from other data, folds or schedules.
    Raises InputError if that study does not exist.
    """
    warm = search.spec.warm_start
    if warm is None:
        return []
    other = database
    if warm.storage:
        other = database_at("search.warm_start.storage", warm.storage, database.heartbeat_s)
    if other.url != database.url:  # else this driver has the lock of its storage already
        storage = other.existing()
    study = find_study(warm.study, storage)
    if study is None:
        known = ", ".join(optuna.get_all_study_names(storage) if storage else ()) or "none"
        raise InputError(
            f"search.warm_start.study: {other.shown} has no study {warm.study}. Known: {known}."
        )
    done = [t for t in study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE]
    sign = 1 if study.directions[0].name == "MAXIMIZE" else -1
    best = sorted(done, key=lambda trial: -sign * trial.values[0])[: warm.best]
    points = [_part_in_space(search, trial.params) for trial in best]
    return [point for point in points if point]


def _part_in_space(search: Search, params: dict[str, Any]) -> dict[str, Any]:
    """The values that this space contains; the sampler draws the other parameters."""
    space = search.space
    return {
        name: value
        for name, value in params.items()
        if name in space and space[name].contains(original_value(space[name], value))
    }


def stored_point(point: Point) -> dict[str, Any]:
    """A point as Optuna stores it."""
    return {name: stored_value(value) for name, value in point.items()}


def point_of(search: Search, params: dict[str, Any]) -> Point:
    """The point of an Optuna trial's parameters."""
    return {
        name: original_value(search.space[name], value)
        for name, value in params.items()
        if name in search.space
    }


# ------------------------------------------------------------------ its state


@dataclass(frozen=True)
class StudyProgress:
    """How far a study is."""

    spent: int  # points that ended by themselves: complete, pruned, diverged, or failed
    running: int  # under any driver
    trials: tuple[FrozenTrial, ...]


def study_progress(study: Study) -> StudyProgress:
    trials = tuple(study.get_trials(deepcopy=False))
    failed = [t for t in trials if t.state is TrialState.FAIL]  # or interrupted, or diverged
    with_reason = [t for t in failed if {"failed", "diverged"} & t.user_attrs.keys()]
    ended = [t for t in trials if t.state in ENDED]
    running = [t for t in trials if t.state is TrialState.RUNNING]
    return StudyProgress(len(ended) + len(with_reason), len(running), trials)

"""Reads a study from Optuna's database as the plain records that a report is made of."""

from typing import TYPE_CHECKING, Any, Literal

from fssplat.common.errors import InputError

if TYPE_CHECKING:
    from optuna.study import Study

    from fssplat.experiment.schema import TrainingSpec
    from fssplat.launching.launch import Request
    from fssplat.report.evidence.study import StudyParameter, StudyPoint, StudyRecord
    from fssplat.search.output import EndedPoint
    from fssplat.search.space import Parameter


def study_record(request: "Request") -> "StudyRecord":
    """The study of a search file. Raises InputError if it has no point that has ended."""
    from fssplat.planning.report_sources import first_comment
    from fssplat.report.evidence.study import StudyRecord
    from fssplat.results.store import Store
    from fssplat.search.output import SCORED_ON, ended_points
    from fssplat.search.prepare import name_of_study
    from fssplat.search.reading import load_search
    from fssplat.search.storage import database_of
    from fssplat.search.study import find_study, objectives

    search = load_search(request.path, request.changes)
    spec = search.spec
    database = database_of(spec, Store(search.experiment.store).folder)
    name = name_of_study(search)
    study = find_study(name, database.existing())
    points = ended_points(search, study) if study is not None else []
    if study is None or not points:
        raise InputError(
            f"{request.path}: study {name} in {database.shown} has no point that has ended. Run "
            f"`{request.command('search')}`, or name another store with --set store=<folder>."
        )
    trials = search.trials(search.defaults)
    return StudyRecord(
        name=name,
        claim=search.experiment.claim or first_comment(request.path),
        command=request.command("search"),
        method=trials[0].method.label,
        scored_on=SCORED_ON[spec.selection],
        on_novel_classes=spec.selection == "novel-best",
        objectives=objectives(spec),
        parameters=[_parameter(*item) for item in search.space.items()],
        points=[_point(one) for one in points],
        wanted=spec.trials,
        importance=_importance(study),
        facts={
            "study": name,
            "database": database.shown,
            "sampler": spec.sampler,
            "pruning": "asha" if spec.prunes else "none",
            "trainings of a point": str(len(trials)),
            "episodes of a score": f"{spec.episodes} per fold",
            "training of a point": _training(trials[0].training),
        },
    )


def _parameter(name: str, parameter: "Parameter") -> "StudyParameter":
    from fssplat.report.evidence.study import StudyParameter

    if parameter.choice is not None:
        return StudyParameter(name, "choice", [str(one) for one in parameter.choice])
    kind: Literal["logarithm", "number"] = "logarithm" if parameter.log else "number"
    return StudyParameter(name, kind)


def _point(one: "EndedPoint") -> "StudyPoint":
    from fssplat.report.evidence.study import StudyPoint

    parts = dict(one.scores[max(one.scores)]) if one.scores else {}
    parts.pop("miou", None)
    return StudyPoint(
        number=one.number,
        state=one.state,
        settings={name: _plain(value) for name, value in one.point.items()},
        values=one.values,
        parts=parts,
        is_default=one.origin == "defaults",
        reason=one.reason,
    )


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else str(value)


def _importance(study: "Study") -> dict[str, float]:
    """By setting; empty if there are too few points, or if all have one value."""
    import optuna

    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len({trial.values[0] for trial in complete}) < 2:
        return {}
    try:
        return optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
            target=lambda trial: float(trial.values[0]),
        )
    except (RuntimeError, ValueError):  # too few points, or no setting that all of them have
        return {}


def _training(one: "TrainingSpec") -> str:
    """The length of a point's training."""
    return f"{one.steps} steps" if one.steps is not None else f"{one.epochs} epochs"

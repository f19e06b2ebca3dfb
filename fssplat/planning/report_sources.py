"""The trials of an experiment for a report, also without the data set or the weights."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fssplat.common.errors import InputError
from fssplat.common.json_files import json_object
from fssplat.experiment.expand import expand
from fssplat.experiment.schema import ExperimentSpec, digest
from fssplat.experiment.trial import Trial
from fssplat.planning.plan import make_plan
from fssplat.report.evidence.gather import Source
from fssplat.results.launch_listener import LaunchInfo
from fssplat.results.reading import content
from fssplat.results.records import TrialStatus
from fssplat.results.store import Store

NAMELESS = "not run"  # start of the made-up id of a trial that the store does not have


def source_of(experiment: ExperimentSpec, path: Path, command: str) -> Source:
    """The experiment's trials and their states. Raises InputError for a wrong grid.

    If the data set or the weights are not on this machine, the ids of the trials cannot be
    computed. Then results are found by the settings that are stored beside them.
    """
    store = Store(experiment.store)
    fingerprints: Mapping[str, str] = {}
    notes = _notes(experiment)
    try:
        plan = make_plan(experiment, store)
        trials, states, fingerprints = plan.trials, plan.states, plan.fingerprints
    except InputError as error:
        trials, states = trials_by_settings(experiment, store)
        notes += (
            f"Trials were found by their settings; their ids cannot be computed here: {error}",
        )
    return Source(
        name=experiment.name,
        claim=experiment.claim or first_comment(path),
        command=command,
        store=store,
        trials=trials,
        states=states,
        fingerprints=fingerprints,
        notes=notes,
    )


def source_of_launch(info: LaunchInfo) -> Source:
    """The experiment of a launch that runs, with the states that its trials have now."""
    typed = info.store.files.read(f"launches/{info.launch}/experiment.yaml") or b""
    return Source(
        name=info.experiment.name,
        claim=info.experiment.claim or _comment(typed.decode("utf-8", "replace")),
        command=info.command,
        store=info.store,
        trials=info.trials,
        states=info.store.states(info.trials),
        fingerprints=info.fingerprints,
        notes=_notes(info.experiment),
    )


def trials_by_settings(
    experiment: ExperimentSpec, store: Store
) -> tuple[dict[str, Trial], dict[str, TrialStatus]]:
    """The grid's trials with the ids under which the store has them, and their states.

    If several results have a trial's settings, made from other data or weights, it gets the one
    that was finished last.
    """
    from fssplat.methods import methods_named

    grid = expand(experiment, methods_named(entry.name for entry in experiment.grid.method))
    stored = _stored_ids(store)
    trials: dict[str, Trial] = {}
    for number, trial in enumerate(grid):
        ids = stored.get(_settings(trial), [])
        trials[ids[-1] if ids else f"{NAMELESS} {number}"] = trial
    known = [one for one in trials if not one.startswith(NAMELESS)]
    states = {one: TrialStatus("pending") for one in trials} | store.states(known)
    return trials, states


def first_comment(path: Path) -> str:
    """The first line of a file without its #, if it is a comment: by custom it is the claim."""
    with suppress(OSError, UnicodeDecodeError), path.open(encoding="utf-8") as lines:
        return _comment(lines.readline())
    return ""


def _comment(text: str) -> str:
    """The first line of a text without its #; empty if it is no comment."""
    first = text.partition("\n")[0].strip()
    return first.lstrip("# ") if first.startswith("#") else ""


def _notes(experiment: ExperimentSpec) -> tuple[str, ...]:
    return tuple(
        f"It ran with {layer.source}." for layer in experiment.layers if _changes(layer.source)
    )


def _changes(source: str) -> bool:
    return source.startswith(("profile ", "--set"))


def _stored_ids(store: Store) -> dict[str, list[str]]:
    """Settings -> ids of the store's results with them, the one finished last at the end."""
    ids = [one for one in store.files.folders() if len(one) == 16 and one.isalnum()]
    results = store.results(ids)
    order = sorted(results, key=lambda one: (results[one].about.get("finished_at", 0.0), one))
    files = store.files.read_many([f"{one}/spec.json" for one in order])
    found: dict[str, list[str]] = {}
    for trial_id in order:
        with suppress(KeyError, ValueError):  # damaged: it has no settings to compare
            trial = Trial.model_validate(json_object(content(files[f"{trial_id}/spec.json"])))
            found.setdefault(_settings(trial), []).append(trial_id)
    return found


def _settings(trial: Trial) -> str:
    return digest(trial, trial.evaluation, trial.training.checkpoint)

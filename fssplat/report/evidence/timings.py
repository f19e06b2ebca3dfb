"""What an episode of each trial costs, as `fssplat time` measured it and the store keeps it.

The time of an episode does not depend on the values of the weights, so one measurement belongs to
the trials of all folds and training seeds.
"""

from collections.abc import Iterable, Mapping

from fssplat.experiment.schema import digest
from fssplat.experiment.trial import ENGINE_RESULT_VERSION, Trial
from fssplat.report.blocks import Block, Row
from fssplat.report.evidence.gather import Source
from fssplat.results.records import ShotTime, Timing

Times = Mapping[str, Mapping[str, Timing]]  # hardware -> trial id -> timing


def timing_key(trial: Trial) -> str:
    """Digest of all settings that the time of an episode depends on, the shot left out."""
    rules, method = trial.protocol, trial.method
    size = rules.size_on(trial.dataset.name) or trial.training.size
    return digest(
        (method.name, method.options, trial.method_version, ENGINE_RESULT_VERSION),
        (trial.backbone.name, trial.dataset.name, trial.way, rules.input, size),
        trial.evaluation.precision,
    )


def times_of(
    trials: Mapping[str, Trial], timings: Mapping[str, Mapping[str, Timing]]
) -> dict[str, dict[str, Timing]]:
    """Hardware -> trial id -> timing, of those trials that have one."""
    keys = {trial_id: timing_key(trial) for trial_id, trial in trials.items()}
    found = {
        hardware: {i: known[key] for i, key in keys.items() if key in known}
        for hardware, known in timings.items()
    }
    return {hardware: times for hardware, times in found.items() if times}


def times_of_sources(sources: Iterable[Source]) -> dict[str, dict[str, Timing]]:
    """The timings of several experiments, those of one hardware together; hardware by name."""
    found: dict[str, dict[str, Timing]] = {}
    for source in sources:
        for hardware, times in times_of(source.trials, source.store.timings()).items():
            found.setdefault(hardware, {}).update(times)
    return dict(sorted(found.items()))


def row_time(row: Row, times: Mapping[str, Timing]) -> ShotTime | None:
    """The time of an episode with the row's number of shots; None if it was not measured."""
    for cell in row.cells:
        timing = times.get(cell.trial_id)
        if timing is not None and cell.trial.shot in timing.shots:
            return timing.shots[cell.trial.shot]
    return None


def best_known(block: Block, times: Times) -> str:
    """The hardware on which most rows of a table were timed, the first of equals; "" for none."""
    counts = {
        hardware: sum(row_time(row, known) is not None for row in block.rows)
        for hardware, known in times.items()
    }
    most = max(counts.values(), default=0)
    return next((hardware for hardware, count in counts.items() if count == most > 0), "")

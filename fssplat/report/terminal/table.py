"""The results of a launch as a table for the terminal, with intervals and remarks."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fssplat.common.json_files import json_value
from fssplat.common.printing import counted, whole_line
from fssplat.experiment.schema import digest
from fssplat.experiment.trial import Trial
from fssplat.report.blocks import ANCHOR, Block, Cell, Row, blocks
from fssplat.report.evidence.gather import Evidence, Source
from fssplat.report.statistics.compared import compare_rows
from fssplat.report.statistics.draws import Difference
from fssplat.report.terminal.layouts import FittedBlock
from fssplat.results.records import Result, TrialStatus
from fssplat.results.store import Store

__all__ = ["Block", "Cell", "Row", "blocks", "remarks", "results_table"]

INTERVAL = 3  # part of the names of stored intervals; raise it when their computation changes


def results_table(
    trials: Mapping[str, Trial], states: Mapping[str, TrialStatus], store: Store
) -> RenderableType:
    """All results so far, and which trials are missing and why."""
    source = Source("", "", "", store, trials, states)
    evidence = Evidence([source])
    parts: list[RenderableType] = []
    for block in evidence.blocks:
        parts += [FittedBlock(block, _intervals(block, evidence)), Text("")]
    parts += [whole_line(line) for line in remarks(trials, states, evidence.results)]
    return Group(*parts)


def remarks(
    trials: Mapping[str, Trial],
    states: Mapping[str, TrialStatus],
    results: Mapping[str, Result],
) -> list[str]:
    """Classes left out, trials skipped, and trials failed, each once with its reason."""
    lines: list[str] = []
    for trial_id, result in results.items():
        trial = trials[trial_id]
        lines += [f"{_cell_name(trial)}: {note}." for note in result.notes]
    for trial_id, trial in trials.items():
        status = states[trial_id]
        if status.state == "skipped":
            lines.append(f"{_cell_name(trial)}: skipped, {status.reason}.")
        elif status.state in ("failed", "diverged"):
            lines.append(f"{trial.title}: {status.state}, {status.reason}")
    waiting = sum(status.state in ("pending", "running") for status in states.values())
    if waiting:
        lines.append(f"No result yet: {waiting} of {counted(len(states), 'trial')}.")
    return list(dict.fromkeys(lines))


def _intervals(block: Block, evidence: Evidence) -> dict[tuple[str, str], Difference]:
    """(method, backbone) -> its interval against the anchor, if both have results on all folds."""
    anchors = {row.backbone: row for row in block.rows if row.method == ANCHOR}
    found = {}
    for row in block.rows:
        anchor = anchors.get(row.backbone)
        if row.method != ANCHOR and anchor is not None:
            interval = stored_interval(row, anchor, block, evidence)
            if interval is not None:
                found[row.method, row.backbone] = interval
    return found


def stored_interval(ours: Row, theirs: Row, block: Block, evidence: Evidence) -> Difference | None:
    """The interval of two rows, from the store if it was computed before.

    Returns None if the episodes differ or a file of them is missing or damaged.
    """
    cells = [*ours.cells, *theirs.cells]
    if not ours.cells or not theirs.cells:
        return None
    store = evidence.stores[cells[0].trial_id]
    ids = [[cell.trial_id for cell in row.cells] for row in (ours, theirs)]
    sums = [cell.result.checksums.get("episodes.parquet", "") for cell in cells]
    name = f"comparisons/{digest(ids, block.folds, INTERVAL, sums)}.json"
    kept = store.files.read_many([name]).get(name)
    with contextlib.suppress(TypeError, ValueError):  # damaged: computed again
        if isinstance(kept, bytes):
            return _difference(json_value(kept))
    found = compare_rows(ours, theirs, block, evidence)
    store.files.write(name, json.dumps(vars(found) if found else None).encode())
    return found


def _difference(values: Any) -> Difference | None:
    """The difference of a stored file. Raises TypeError or ValueError for another content."""
    if not values:
        return None
    names = [field.name for field in fields(Difference)]
    if set(values) != set(names):
        raise ValueError("its keys are not those of a difference")
    difference, low, high, p, clusters = (float(values[name]) for name in names)
    return Difference(difference, low, high, p, int(clusters))


def _cell_name(trial: Trial) -> str:
    return f"{trial.dataset.name} fold {trial.fold} {trial.shot}-shot"

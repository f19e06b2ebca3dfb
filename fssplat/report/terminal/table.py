"""The results of a launch as a table for the terminal, with intervals and remarks."""

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from fssplat.common.json_files import json_value
from fssplat.common.printing import whole_line
from fssplat.experiment.schema import digest
from fssplat.experiment.trial import Trial
from fssplat.report.blocks import ANCHOR, Block, Cell, Row, blocks
from fssplat.report.statistics.paired import Interval, Pair, paired_interval, read_episodes
from fssplat.report.terminal.layouts import FittedBlock
from fssplat.results.reading import content
from fssplat.results.records import Result, TrialStatus
from fssplat.results.store import Store

__all__ = ["Block", "Cell", "Row", "blocks", "remarks", "results_table"]

INTERVAL = 2  # part of the names of stored intervals; raise it when their computation changes


def results_table(
    trials: Mapping[str, Trial], states: Mapping[str, TrialStatus], store: Store
) -> RenderableType:
    """All results so far, and which trials are missing and why."""
    shown = (i for i in trials if states[i].state == "finished" or states[i].rerun)
    results = store.results(shown)
    parts: list[RenderableType] = []
    for block in blocks(trials, results):
        parts += [FittedBlock(block, _intervals(block, store)), Text("")]
    parts += [whole_line(line) for line in remarks(trials, states, results)]
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
        lines.append(f"{waiting} of {len(states)} trials have no result yet.")
    return list(dict.fromkeys(lines))


def _intervals(block: Block, store: Store) -> dict[tuple[str, str], Interval]:
    """(method, backbone) -> its interval against the anchor, if both have results on all folds."""
    anchors = {row.backbone: row for row in block.rows if row.method == ANCHOR}
    found = {}
    for row in block.rows:
        anchor = anchors.get(row.backbone)
        if row.method == ANCHOR or anchor is None:
            continue
        pairs = list(_pairs(row, anchor))
        if pairs and len({ours.trial.fold for ours, _ in pairs}) == len(block.folds):
            interval = stored_interval(pairs, store)
            if interval is not None:
                found[row.method, row.backbone] = interval
    return found


def _pairs(row: Row, anchor: Row) -> Iterable[tuple[Cell, Cell]]:
    """Cells of the same fold and training seed; an untrained anchor serves all training seeds."""
    for ours in row.cells:
        same = [cell for cell in anchor.cells if cell.trial.fold == ours.trial.fold]
        seed = ours.trial.training.seed
        exact = [cell for cell in same if cell.trial.training.seed == seed]
        if exact or same:
            yield ours, (exact or same)[0]


def stored_interval(pairs: Sequence[tuple[Cell, Cell]], store: Store) -> Interval | None:
    """The paired interval of these cells, from the store if it was computed before.

    Returns None if the episodes differ or a file of them is missing or damaged.
    """
    ids = [(ours.trial_id, theirs.trial_id) for ours, theirs in pairs]
    sums = [cell.result.checksums.get("episodes.parquet", "") for pair in pairs for cell in pair]
    name = f"comparisons/{digest(ids, INTERVAL, *([sums] if any(sums) else []))}.json"
    kept = store.files.read_many([name]).get(name)
    with contextlib.suppress(TypeError, ValueError):  # damaged: computed again
        if isinstance(kept, bytes):
            values = json_value(kept)
            return Interval(**{key: float(values[key]) for key in values}) if values else None
    rules = pairs[0][0].trial.protocol
    score = str(rules.score[0])
    paths = [f"{cell.trial_id}/episodes.parquet" for pair in pairs for cell in pair]
    files = store.files.read_many(paths)
    try:
        sides = [
            tuple(
                read_episodes(content(files[f"{cell.trial_id}/episodes.parquet"]), score)
                for cell in pair
            )
            for pair in pairs
        ]
    except (KeyError, OSError, RuntimeError, ValueError):  # pyarrow's errors are among these
        return None
    items = [
        Pair(cell.trial.fold, ours, theirs, int(cell.result.metrics.get("novel_classes", 0)))
        for (cell, _), (ours, theirs) in zip(pairs, sides, strict=True)
    ]
    interval = paired_interval(items, rules.absent_class)
    store.files.write(name, json.dumps(vars(interval) if interval else None).encode())
    return interval


def _cell_name(trial: Trial) -> str:
    return f"{trial.dataset.name} fold {trial.fold} {trial.shot}-shot"

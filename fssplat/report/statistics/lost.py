"""The parts of 1 - mIoU by the cause of the wrong pixels, for the rows of a table."""

from collections.abc import Sequence

from fssplat.engine.scoring.kept.names import PARTS
from fssplat.report.blocks import Block, Cell, Row
from fssplat.report.evidence.gather import Evidence

Lost = dict[str, float]  # by the name of the part; 0.01 is a point


def row_lost(row: Row, block: Block, evidence: Evidence) -> Lost | None:
    """Mean over training seeds, then over folds; the sum is 1 - mean mIoU.

    Returns None if the row is not finished or a trial of it has no record of its wrong pixels.
    """
    folds = []
    for fold in block.folds:
        cells = [cell for cell in row.cells if cell.trial.fold == fold]
        trials = [lost for cell in cells if (lost := trial_lost(cell, evidence)) is not None]
        if row.unfinished or not cells or len(trials) < len(cells):
            return None
        folds.append(_mean(trials))
    return _mean(folds)


def trial_lost(cell: Cell, evidence: Evidence) -> Lost | None:
    details = evidence.details(cell.trial_id)
    if details is None:
        return None
    zero = cell.trial.protocol.absent_class == "zero"
    return details.lost(int(cell.result.metrics.get("novel_classes", 0)) if zero else None)


def _mean(several: Sequence[Lost]) -> Lost:
    return {name: sum(one[name] for one in several) / len(several) for name in PARTS}

"""How rows, differences and trials are named in a report."""

from collections.abc import Sequence

from fssplat.experiment.trial import Trial
from fssplat.report.blocks import ANCHOR, Block, Row
from fssplat.report.document.content import shown
from fssplat.report.statistics.draws import Difference


def row_name(row: Row, block: Block) -> str:
    """The method, with its backbone if the table has several."""
    several = len({one.backbone for one in block.rows}) > 1
    return f"{row.method}, {row.backbone}" if several else row.method


def short_title(block: Block) -> str:
    """The block's data set and shots, without its protocol."""
    return block.title.partition(", mIoU under")[0]


def trial_ids(row: Row) -> tuple[str, ...]:
    return tuple(cell.trial_id for cell in row.cells)


def reference(rows: Sequence[Row], against: str) -> Row | None:
    """The row that others are compared with: as chosen, else the training-free one, else the first.

    Of several backbones it is the first one's.
    """
    for wanted in (against, ANCHOR):
        for row in rows:
            if wanted and wanted in (row.method, row.method.partition(":")[0]):
                return row
    return rows[0] if rows else None


def points(difference: Difference) -> str:
    """A difference in percentage points with its interval, for a sentence."""
    low, high = (shown(100 * end, 1, signed=True) for end in (difference.low, difference.high))
    return f"{shown(100 * difference.difference, 1, signed=True)} points [{low}, {high}]"


def chosen_on_novel(trial: Trial) -> bool:
    return trial.protocol.selection == "novel-best"


def has_seen_classes(trial: Trial) -> bool:
    """Whether the backbone's pretraining showed it the test classes, as ImageNet did."""
    drawn_shapes = trial.dataset.name == "synthetic"
    trained = trial.backbone.weights != "random"
    return trained and not drawn_shapes and trial.protocol.test_classes_in_pretraining

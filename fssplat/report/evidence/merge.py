"""The tables of several experiments as one list: equal tables become one table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fssplat.report.blocks import Block, Row


def merged(experiments: Mapping[str, Sequence[Block]]) -> list[Block]:
    """The blocks of experiments by name: one block per title, in the order of the first one."""
    found: dict[str, list[tuple[str, Block]]] = {}
    for name, blocks in experiments.items():
        for block in blocks:
            found.setdefault(block.title, []).append((name, block))
    return [_joined(same) for same in found.values()]


def numbered(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that occur again."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return result


def _joined(same: Sequence[tuple[str, Block]]) -> Block:
    """One block of the rows of all; rows with the same trials are kept once."""
    first = same[0][1]
    if len(same) == 1:
        return first
    rows: dict[tuple[str, str], list[tuple[str, Row]]] = {}
    for name, block in same:
        for row in block.rows:
            rows.setdefault((row.method, row.backbone), []).append((name, row))
    folds = tuple(sorted({fold for _, block in same for fold in block.folds}))
    joined = [row for of_name in rows.values() for row in _rows(of_name)]
    return replace(first, folds=folds, rows=tuple(joined))


def _rows(same: Sequence[tuple[str, Row]]) -> list[Row]:
    """Rows of one method: one row if their trials fit together, else one for each experiment."""
    cells = {cell.trial_id: cell for _, row in same for cell in row.cells}
    places = [(cell.trial.fold, cell.trial.training.seed) for cell in cells.values()]
    if len(set(places)) == len(places):
        unfinished = dict.fromkeys(one for _, row in same for one in row.unfinished)
        return [replace(same[0][1], cells=tuple(cells.values()), unfinished=tuple(unfinished))]
    different: dict[frozenset[str], tuple[str, Row]] = {}
    for name, row in same:
        different.setdefault(frozenset(cell.trial_id for cell in row.cells), (name, row))
    return [replace(row, method=f"{row.method} ({name})") for name, row in different.values()]

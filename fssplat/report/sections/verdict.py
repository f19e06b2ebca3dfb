"""What a reader must know first: the claim, the best rows, what is missing, and warnings."""

from collections.abc import Iterator

from fssplat.report.blocks import Block
from fssplat.report.document.content import Part, Points, Section, Text, shown
from fssplat.report.evidence.gather import Evidence
from fssplat.report.sections.labels import (
    chosen_on_novel,
    points,
    reference,
    row_name,
    short_title,
)
from fssplat.report.statistics.compared import UNFINISHED, Comparisons
from fssplat.results.source_code import freshness

FEW_IMAGES = 40  # clusters below which intervals may be too narrow
MOST_LISTED = 20  # trials without a result that are named


def verdict(evidence: Evidence, comparisons: Comparisons) -> Section:
    """The first chapter. It is made last, when all files have been read."""
    claims = [
        Text(f"{source.name}: {source.claim}" if source.claim else source.name, "verdict")
        for source in evidence.sources
    ]
    best = tuple(best_row(block, evidence, comparisons) for block in evidence.blocks)
    found: list[Part] = [*claims, Points(best)]
    for heading, items in (
        ("Warnings", tuple(dict.fromkeys(warnings(evidence, comparisons)))),
        ("Not finished", missing(evidence)),
        ("Damaged or different from what was written", tuple(evidence.problems)),
        ("Remarks", tuple(dict.fromkeys(remarks(evidence)))),
    ):
        if items:
            found.append(Points(items, heading, "" if heading == "Remarks" else "warning"))
    return Section("verdict", "Verdict", tuple(found))


def best_row(block: Block, evidence: Evidence, comparisons: Comparisons) -> str:
    """The best finished row of a table, and its difference to the reference."""
    finished = {
        i: mean
        for i, row in enumerate(block.rows)
        if not row.unfinished and (mean := row.mean(block.folds)) is not None
    }
    if not finished:
        return f"{short_title(block)}: no row is finished."
    best = block.rows[max(finished, key=lambda i: finished[i])]
    text = shown(best.mean(block.folds), 1)
    start = f"{short_title(block)}: {row_name(best, block)} has the best mean, {text}."
    other = reference(block.rows, evidence.options.against)
    if other is None or other == best:
        return start
    pair = comparisons.of(block).pair(best, other)
    name = row_name(other, block)
    if pair is None:
        return f"{start} It cannot be compared with {name} on the same episodes."
    clear = "" if pair.images.excludes_zero else " The interval contains 0."
    return f"{start} Difference to {name}: {points(pair.images)}.{clear}"


def warnings(evidence: Evidence, comparisons: Comparisons) -> Iterator[str]:
    """What makes the numbers less certain or less comparable than they look."""
    trials = list(evidence.trials.values())
    if any(map(chosen_on_novel, trials)):
        yield "Rows with † are too good: their weights were chosen by their score on novel classes."
    for source in evidence.sources:
        yield from (f"{source.name}: {note}" for note in source.notes)
    protocols = {f"{one.protocol.name} ({one.protocol.hash})" for one in trials}
    if len(protocols) > 1:
        names = ", ".join(sorted(protocols))
        yield f"There are {len(protocols)} protocols: {names}. Compare numbers within a table only."
    seeds = {trial.training.seed for trial in trials if trial.training.steps != 0}
    if len(seeds) == 1:
        yield (
            "Every training has one seed. The intervals describe the choice of query images, not "
            "the variation between trainings."
        )
    for block in evidence.blocks:
        yield from comparison_warnings(block, comparisons)
    yield from store_warnings(evidence)


def store_warnings(evidence: Evidence) -> Iterator[str]:
    """Results of other source code, and trials of other experiments."""
    known = evidence.results.items()
    stale = sum(freshness(evidence.trials[one], result) == "stale" for one, result in known)
    if stale:
        yield (
            f"{stale} of {len(known)} results are stale: the source code that can change them has "
            "changed since. `fssplat status X.yaml --changes` lists what."
        )
    others = evidence.other_results()
    if others:
        yield f"The store has {others} other trials, which belong to no experiment of this report."


def comparison_warnings(block: Block, comparisons: Comparisons) -> Iterator[str]:
    """Rows that cannot be compared, and intervals over too few images."""
    compared = comparisons.of(block)
    for (method, backbone), reason in compared.left_out.items():
        if reason != UNFINISHED:
            yield f"{short_title(block)}: {method}, {backbone} is in no comparison: {reason}."
    clusters = min((pair.images.clusters for pair in compared.pairs.values()), default=FEW_IMAGES)
    if clusters < FEW_IMAGES:
        yield (
            f"{short_title(block)}: intervals rest on {clusters} query images; below {FEW_IMAGES} "
            "they may be too narrow."
        )


def missing(evidence: Evidence) -> tuple[str, ...]:
    """Trials without a result; a long list is cut, with the number of the others."""
    lines = [f"{title}: {reason}." for title, reason in evidence.unfinished()]
    if len(lines) <= MOST_LISTED:
        return tuple(lines)
    rest = len(lines) - MOST_LISTED
    return (*lines[:MOST_LISTED], f"And {rest} more; `fssplat status X.yaml --all` lists them.")


def remarks(evidence: Evidence) -> Iterator[str]:
    """The notes that results carry, such as classes that were left out."""
    for trial_id, result in evidence.results.items():
        trial = evidence.trials[trial_id]
        where = f"{trial.dataset.name} fold {trial.fold} {trial.shot}-shot"
        yield from (f"{where}: {note}." for note in result.notes)

"""The whole report: every chapter for which the store has data, in order."""

from fssplat.report.document.content import Document
from fssplat.report.evidence.gather import Evidence
from fssplat.report.sections.classes import classes
from fssplat.report.sections.cost import cost
from fssplat.report.sections.pairs import pairs
from fssplat.report.sections.provenance import provenance
from fssplat.report.sections.results import results
from fssplat.report.sections.training import training
from fssplat.report.sections.verdict import verdict
from fssplat.report.statistics.compared import Comparisons


def document(evidence: Evidence) -> Document:
    """The report of all sources of the evidence."""
    comparisons = Comparisons(evidence)
    found = [
        results(evidence, comparisons),
        pairs(evidence, comparisons),
        classes(evidence),
        cost(evidence),
        training(evidence),
        provenance(evidence),
    ]
    first = verdict(evidence, comparisons)  # made last, since the others may find damaged files
    names = ", ".join(dict.fromkeys(source.name for source in evidence.sources))
    return Document(f"Report: {names}", (first, *(one for one in found if one is not None)))

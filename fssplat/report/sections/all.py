"""The whole report: every chapter for which the store has data, in order."""

from collections.abc import Callable

from fssplat.report.document.content import Document, Section
from fssplat.report.evidence.gather import Evidence
from fssplat.report.sections.classes import classes
from fssplat.report.sections.cost import cost
from fssplat.report.sections.episodes.lost import lost
from fssplat.report.sections.episodes.sizes import sizes
from fssplat.report.sections.gallery import gallery
from fssplat.report.sections.inside.section import inside
from fssplat.report.sections.pairs import pairs
from fssplat.report.sections.provenance import provenance
from fssplat.report.sections.results import results
from fssplat.report.sections.training import training
from fssplat.report.sections.verdict import verdict
from fssplat.report.statistics.compared import Comparisons


def document(evidence: Evidence, progress: Callable[[str], None] = lambda step: None) -> Document:
    """The report of all sources of the evidence; `progress` gets the title of each chapter."""
    comparisons = Comparisons(evidence)
    chapters: dict[str, Callable[[], Section | None]] = {
        "Results and their intervals": lambda: results(evidence, comparisons),
        "Any pair": lambda: pairs(evidence, comparisons),
        "Per class": lambda: classes(evidence),
        "Where the IoU is lost": lambda: lost(evidence),
        "By object size, supports and shots": lambda: sizes(evidence),
        "Episodes": lambda: gallery(evidence),
        "Maps and features": lambda: inside(evidence, progress),
        "Cost": lambda: cost(evidence),
        "Training": lambda: training(evidence),
        "How it was made": lambda: provenance(evidence),
    }
    found = []
    for number, (title, make) in enumerate(chapters.items(), 1):
        progress(f"Chapter {number} of {len(chapters)}: {title}")
        found.append(make())
    first = verdict(evidence, comparisons)  # made last, since the others may find damaged files
    names = ", ".join(dict.fromkeys(source.name for source in evidence.sources))
    return Document(f"Report: {names}", (first, *(one for one in found if one is not None)))

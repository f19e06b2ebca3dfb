"""The report of a launch that has just ended, for its run in MLflow."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fssplat.results.launch_listener import LaunchInfo

MOST_S = 120.0  # seconds; a report that takes longer is left out
FILES = ("index.html", "report.md")


def report_of_launch(info: "LaunchInfo", folder: Path, most_s: float = MOST_S) -> Sequence[Path]:
    """Write the report into a folder; returns its page and its Markdown.

    A report that fails or takes too long is one line on the screen, and returns no file.
    """
    from fssplat.common.errors import described

    found: list[Path] = []
    errors: list[BaseException] = []

    def write() -> None:
        try:
            found.extend(_written(info, folder / "report"))
        except Exception as error:
            errors.append(error)

    info.warn("Writing the report for MLflow.")
    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(most_s)
    if thread.is_alive() or errors:
        reason = described(errors[0]) if errors else f"it took longer than {most_s:g} s"
        info.warn(f"MLflow gets no report: {reason}.")
        return ()
    return tuple(found)


def _written(info: "LaunchInfo", folder: Path) -> list[Path]:
    """No file if no trial has a result."""
    from fssplat.planning.report_sources import source_of_launch
    from fssplat.report.evidence.gather import Evidence
    from fssplat.report.sections.all import document
    from fssplat.report.writing.files import write_report

    evidence = Evidence([source_of_launch(info)])
    if not evidence.results:
        return []
    write_report(document(evidence), folder)
    return [folder / name for name in FILES]

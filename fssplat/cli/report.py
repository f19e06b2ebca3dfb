"""`fssplat report`: write the report of experiments from their store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssplat.cli.options import EXPERIMENTS, SET

if TYPE_CHECKING:
    from fssplat.launching.launch import Request
    from fssplat.report.document.content import Document
    from fssplat.report.evidence.gather import Options, Source


def report(
    experiments: list[Path] = EXPERIMENTS,
    changes: list[str] = SET,
    out: Path = typer.Option(Path("report"), "--out", help="Folder of the report."),
    against: str = typer.Option(
        "",
        "--against",
        metavar="METHOD",
        help="Method that others are compared with.  [default: prior, else the first]",
        show_default=False,
    ),
    published: bool = typer.Option(
        False, "--published", help="Show the papers' printed results beneath ours."
    ),
    episodes: int = typer.Option(
        12,
        "--episodes",
        min=0,
        max=200,
        help="Episodes with pictures for each table; they read the data set.",
    ),
    maps: bool = typer.Option(
        False, "--maps", help="Open the models and show what they compute inside, and t-SNE."
    ),
    prototypes: int = typer.Option(200, min=5, help="Most points of a t-SNE panel, with --maps."),
) -> None:
    """Write tables, figures and a page for readers.

    fssplat report experiments/quickstart.yaml

    It reads the store and needs no GPU. Trials without a result are named. The page is
    report/index.html; tables and figures for a paper are in folders beside it. Several files
    become one report. A file with a search becomes the report of its study:

    fssplat report experiments/search/mmnet.yaml --out report-of-search

    --maps needs the data set and the weights in the store; a GPU makes it faster.
    """
    from fssplat.cli.progress_bar import Steps
    from fssplat.common.printing import say
    from fssplat.report.evidence.gather import Options
    from fssplat.report.writing.files import write_report

    with Steps() as progress:
        options = Options(
            against=against,
            published=published,
            episodes=episodes,
            maps=maps,
            prototypes=prototypes,
        )
        made, remarks = _document(experiments, tuple(changes), options, progress)
        with _writing(out):
            page, *_ = write_report(made, out, progress)
    for remark in remarks:
        say(remark)
    say(f"The report: {page}")


def _document(
    experiments: list[Path],
    changes: tuple[str, ...],
    options: "Options",
    progress: Callable[[str], None],
) -> tuple["Document", list[str]]:
    """The report, and what the terminal says about it. Raises InputError."""
    from fssplat.launching.launch import Request

    progress("Reading the experiments")
    searches = [p for p in experiments if "space" in Request(p, changes).load().search]
    if searches:
        return _of_search(experiments, Request(searches[0], changes), progress)
    from fssplat.common.printing import counted
    from fssplat.report.evidence.gather import Evidence
    from fssplat.report.sections.all import document

    progress("Reading the store")
    evidence = Evidence([source(path, list(changes)) for path in experiments], options)
    evidence.check()
    made = document(evidence, progress)
    trials = counted(len(evidence.trials), "trial")
    count = f"With a result: {len(evidence.results)} of {trials}."
    return made, [*evidence.problems, count]


def _of_search(
    experiments: list[Path], request: "Request", progress: Callable[[str], None]
) -> tuple["Document", list[str]]:
    """The report of one study."""
    from fssplat.cli.study_report import study_record
    from fssplat.common.errors import InputError
    from fssplat.report.sections.study import study_document

    if len(experiments) > 1:
        raise InputError(f"{request.path}: has a search. Report it alone, without other files.")
    progress("Reading the study")
    record = study_record(request)
    return study_document(record), [f"{len(record.points)} of {record.wanted} points have ended."]


def source(path: Path, changes: list[str]) -> "Source":
    """The experiment of a file, as its store has it. Raises InputError."""
    from fssplat.launching.launch import Request
    from fssplat.planning.report_sources import source_of

    request = Request(path, tuple(changes))
    return source_of(request.load(), path, request.command())


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Raises InputError for an OSError inside: the folder cannot be written."""
    from fssplat.common.errors import InputError, StoreAwayError

    try:
        yield
    except StoreAwayError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"--out {out}: cannot be written ({reason}). Choose another folder."
        ) from error

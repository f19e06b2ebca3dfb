"""`fssplat report`: write the report of experiments from their store."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssplat.cli.options import EXPERIMENTS, SET

if TYPE_CHECKING:
    from fssplat.report.evidence.gather import Source


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
) -> None:
    """Write tables, figures and a page for readers: fssplat report experiments/quickstart.yaml

    It reads the store and needs no GPU. Trials without a result are named. The page is
    report/index.html; tables and figures for a paper are in folders beside it.
    """
    from fssplat.common.printing import say
    from fssplat.report.evidence.gather import Evidence, Options
    from fssplat.report.sections.all import document
    from fssplat.report.writing.files import write_report

    evidence = Evidence(
        [source(path, changes) for path in experiments],
        Options(against=against, published=published),
    )
    evidence.check()
    with _writing(out):
        page, *_ = write_report(document(evidence), out)
    for problem in evidence.problems:
        say(problem)
    say(f"{len(evidence.results)} of {len(evidence.trials)} trials have a result.")
    say(f"The report: {page}")


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

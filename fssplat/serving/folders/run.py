"""Predict all queries of a call: pictures are read ahead and files written behind the network."""

import csv
import io
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fssplat.common.errors import InputError
from fssplat.data.readers.pictures import read_picture
from fssplat.data.transforms import Pixels
from fssplat.engine.predicting.prepared import PreparedSupports
from fssplat.serving.folders.journal import Journal, predicted, table
from fssplat.serving.folders.queries import Query
from fssplat.serving.outputs import files
from fssplat.serving.outputs.predicted import Predicted

AHEAD = 4  # pictures that are decoded before the network takes them
BEHIND = 8  # pictures whose files are being written
TABLE = "predictions.csv"
Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True)
class OutputSettings:
    """Output folder and formats of a prediction run, and whether existing files are replaced."""

    out: Path
    formats: tuple[str, ...] = ("png",)
    overlay: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Raises InputError for an unknown format."""
        unknown = [name for name in self.formats if name not in files.FORMATS]
        if unknown or not self.formats:
            raise InputError(
                f"--format {','.join(unknown)}: unknown. Known: {', '.join(files.FORMATS)}."
            )


@dataclass
class RunSummary:
    """The outcome of a run."""

    queries: int
    predicted: int = 0  # by the network; the others were done before
    seconds: float = 0.0
    found: dict[str, int] = field(default_factory=dict)  # class -> pictures that show it
    faults: dict[str, str] = field(default_factory=dict)  # file -> why it cannot be read


def predict_all(
    supports: Callable[[], PreparedSupports],
    classes: Sequence[str],
    queries: Sequence[Query],
    settings: OutputSettings,
    identity: Mapping[str, Any],
    progress: Progress = lambda done, total: None,
) -> RunSummary:
    """Predict what is not predicted yet, and write all files.

    `supports` prepares the model; it is called only if a query is not done. `identity` names the
    model and the supports: a folder with predictions of another identity is refused by InputError.
    A query that cannot be read is in `faults`, and the others are predicted.
    """
    started = time.monotonic()
    summary = RunSummary(len(queries), found=dict.fromkeys(classes, 0))
    with Journal(settings.out, {**identity, "classes": list(classes)}, settings.overwrite) as done:
        files.write_common(settings.out, settings.formats, classes)
        pending = [query for query in queries if done.done(query) is None]
        _write_missing(done, queries, classes, settings)
        progress(len(queries) - len(pending), len(queries))
        if pending:
            _predict(supports(), pending, len(queries), done, settings, summary, progress)
        lines = [line for query in queries if (line := done.done(query)) is not None]
        for line in lines:
            for name in line["runs"]:
                summary.found[name] += 1
        if "coco" in settings.formats:
            files.write_coco(settings.out, lines, classes)
        faults = [{"file": file, "fault": why} for file, why in summary.faults.items()]
        _write_table(settings.out / TABLE, table([*lines, *faults], classes))
    summary.seconds = time.monotonic() - started
    return summary


def _predict(
    supports: PreparedSupports,
    pending: Sequence[Query],
    total: int,
    journal: Journal,
    settings: OutputSettings,
    summary: RunSummary,
    progress: Progress,
) -> None:
    writing: list[Future[None]] = []
    with ThreadPoolExecutor(max(1, min(4, (os.cpu_count() or 2) - 1))) as pool:
        for query, pixels in _read_ahead(pool, pending):
            if isinstance(pixels, InputError):
                summary.faults[query.file] = str(pixels)
                continue
            found = supports(pixels)
            one = Predicted(query.name, query.path, found.labels, found.classes, found.confidence)
            journal.add(query, one)
            summary.predicted += 1
            writing.append(pool.submit(_write_files, one, pixels, settings))
            while len(writing) > BEHIND:
                writing.pop(0).result()
            progress(total - len(pending) + summary.predicted, total)
        for future in writing:
            future.result()


def _read_ahead(
    pool: ThreadPoolExecutor, queries: Sequence[Query]
) -> Iterator[tuple[Query, Pixels | InputError]]:
    """Each query with its pixels, or with the reason why it cannot be read."""
    reading = [pool.submit(_read, query) for query in queries[:AHEAD]]
    for number, query in enumerate(queries):
        if number + AHEAD < len(queries):
            reading.append(pool.submit(_read, queries[number + AHEAD]))
        yield query, reading.pop(0).result()


def _read(query: Query) -> Pixels | InputError:
    try:
        return read_picture(query.path, str(query.path)).pixels
    except InputError as error:
        return error


# ------------------------------------------------------------------ files


def _write_files(one: Predicted, pixels: Pixels, settings: OutputSettings) -> None:
    """The files of one picture. Raises InputError if the disk refuses."""
    try:
        for name in settings.formats:
            if name in files.PER_IMAGE:
                files.PER_IMAGE[name][1](settings.out, one)
        if settings.overlay:
            files.write_overlay(settings.out, one, pixels)
    except OSError as error:
        raise InputError(
            f"--out {settings.out}: cannot be written ({error.strerror or error}). Free some space "
            "or choose another, and run the same command again."
        ) from error


def _write_missing(
    journal: Journal, queries: Sequence[Query], classes: Sequence[str], settings: OutputSettings
) -> None:
    """The files of pictures that are done, if they are missing: of another format, or deleted."""
    for query in queries:
        line = journal.done(query)
        if line is None:
            continue
        places = [files.PER_IMAGE[name][0] for name in settings.formats if name in files.PER_IMAGE]
        places += [files.overlay_path] if settings.overlay else []
        if all(place(settings.out, query.name).is_file() for place in places):
            continue
        try:
            one = predicted({**line, "name": query.name}, query.path, classes)
        except (ValueError, KeyError):
            del journal.lines[query.file]  # damaged: it is predicted again
            continue
        pixels = _read(query) if settings.overlay else one.labels
        if not isinstance(pixels, InputError):
            _write_files(one, pixels, settings)


def _write_table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    files.write(path, text.getvalue().encode())

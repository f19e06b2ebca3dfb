"""Run the command of a case, in this process or as one of its own, and judge its answer."""

import contextlib
import importlib
import io
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from unittest import mock

from tests.bad_inputs.case import Case, Folder

TIMEOUT_S = 60  # for a whole process; a longer one counts as a hang
HEADROOM = 3 * 2**30  # bytes that a command may take in this process
MOST_CHARACTERS = 1000  # of the line that says what is wrong
MOST_LINES = 4  # of an answer that is not one line
UNSET = ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "FSSPLAT_DATA", "FSSPLAT_WEIGHTS", "FSSPLAT_CACHE")
PROGRESS = re.compile(r"^\w[\w -]* [━╸╺ ]+ *\d+/[\d?]+ ")  # the bar of `fssplat data`
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e]")

Listing = dict[str, tuple[str, int, int]]  # path -> kind, size, nanoseconds of the last change


@dataclass(frozen=True)
class Outcome:
    """What a command answered, and which files it made, changed or removed."""

    code: int  # negative: the number of the signal that ended the process
    output: str
    changed: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """The lines for a person; a progress bar is none. The program is called `fssplat`."""
        text = re.sub(r"python -m [\w.]*\w", "fssplat", self.output)
        found = (line.rstrip() for line in text.splitlines())
        return [line for line in found if line and not PROGRESS.match(line)]


def run_here(case: Case, folder: Folder) -> Outcome:
    """Run the command in this process, with bounded memory."""
    from fssplat.cli import main

    out = io.StringIO()
    arguments = mock.patch.object(sys, "argv", ["fssplat", *case.words])
    before = listing(folder.path)
    with contextlib.ExitStack() as stack:
        for manager in (arguments, environment_of(case), bounded_memory()):
            stack.enter_context(manager)
        stack.enter_context(contextlib.chdir(folder.path))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(out))
        stack.enter_context(modules_as_before(folder))
        code = 0
        try:
            main()
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    return Outcome(code, out.getvalue(), differences(before, listing(folder.path)))


def run_as_process(case: Case, folder: Folder) -> Outcome:
    """Run the command as a process of its own. Raises TimeoutExpired for one that hangs."""
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}
    environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "80", **case.environment}

    before = listing(folder.path)
    done = subprocess.run(
        [sys.executable, "-m", "fssplat", *case.words],
        cwd=folder.path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT_S,
        check=False,
    )
    output = done.stdout.decode(errors="backslashreplace")
    return Outcome(done.returncode, output, differences(before, listing(folder.path)))


@contextlib.contextmanager
def environment_of(case: Case) -> Iterator[None]:
    with mock.patch.dict(os.environ, {"COLUMNS": "80", **case.environment}):
        for name in UNSET:
            if name not in case.environment:
                os.environ.pop(name, None)
        yield


@contextlib.contextmanager
def modules_as_before(folder: Folder) -> Iterator[None]:
    """Forget the modules of the folder afterwards, and the folder as a place of modules."""
    path = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(f"{folder.path}/"):
                del sys.modules[name]
        importlib.invalidate_caches()


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """A MemoryError inside for a command that takes more than HEADROOM."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def listing(folder: Path) -> Listing:
    """Every file and folder below a folder; links are not followed."""
    found: Listing = {}
    for place in sorted(folder.rglob("*")):
        state = place.lstat()
        kind = "folder" if place.is_dir() and not place.is_symlink() else "file"
        # The time of a folder changes with a temporary file that is gone again.
        found[str(place.relative_to(folder))] = (
            (kind, 0, 0) if kind == "folder" else (kind, state.st_size, state.st_mtime_ns)
        )
    return found


def differences(before: Listing, after: Listing) -> tuple[str, ...]:
    names = before.keys() | after.keys()
    return tuple(sorted(name for name in names if before.get(name) != after.get(name)))


def faults(case: Case, outcome: Outcome) -> list[str]:
    """What is wrong with the answer to a bad input; empty if nothing is."""
    found = []
    if outcome.code != case.code:
        found.append(f"exit code {outcome.code}, not {case.code}")
    if "Traceback" in outcome.output:
        found.append("a traceback")
    if STEERING.search("".join(outcome.lines)):
        found.append("a character that steers the terminal")
    left = [name for name in outcome.changed if not any(fnmatch(name, p) for p in case.leaves)]
    if left:
        found.append(f"files were left or changed: {left}")
    return found + list(_faults_of_lines(case, outcome.lines))


def _faults_of_lines(case: Case, lines: list[str]) -> Iterator[str]:
    if case.not_one_line:
        if len(lines) > MOST_LINES:
            yield f"{len(lines)} lines"
        return
    if len(lines) != 1 and case.code == 2:
        yield f"{len(lines)} lines, not one"
    wanted: Mapping[str, str] = {"what": case.what, "where": case.where, "what to do": case.to_do}
    best = max(lines, key=lambda line: sum(part in line for part in wanted.values()), default="")
    for name, part in wanted.items():
        if not part or part not in best:
            yield f"no line says {name}: {part}"
    if len(best) > MOST_CHARACTERS:
        yield f"a line of {len(best)} characters"

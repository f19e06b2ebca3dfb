"""Experiment files that cannot be read, and settings that cannot be right."""

import pytest

from tests.bad_inputs.case import Case, Folder
from tests.bad_inputs.cases import changes, layers, searches, texts, values
from tests.bad_inputs.outcome import faults, run_as_process, run_here

SETTINGS = [*values.CASES, *layers.CASES, *changes.CASES, *searches.CASES]
CASES = [*texts.CASES, *SETTINGS]
AS_PROCESSES = [*texts.CASES, *SETTINGS[::4]]  # each start of a process takes seconds


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.timeout(30, func_only=True)
@pytest.mark.usefixtures("modules_loaded")
def test_one_line_says_what_is_wrong(case: Case, folder: Folder) -> None:
    case.make(folder)
    assert faults(case, run_here(case, folder)) == []


@pytest.mark.parametrize("case", AS_PROCESSES, ids=lambda case: case.name)
@pytest.mark.slow
def test_a_whole_process_says_what_is_wrong(case: Case, folder: Folder) -> None:
    case.make(folder)
    assert faults(case, run_as_process(case, folder)) == []

"""Sources, built data sets, weights, stores and addresses that cannot be right."""

import pytest

from tests.bad_inputs.case import Case, Folder
from tests.bad_inputs.cases import sources, stored
from tests.bad_inputs.outcome import faults, run_as_process, run_here

CASES = [*sources.CASES, *stored.CASES]
AS_PROCESSES = CASES[::4]  # each start of a process takes seconds


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.timeout(60, func_only=True)
@pytest.mark.usefixtures("modules_loaded")
def test_one_line_says_what_is_wrong(case: Case, folder: Folder) -> None:
    case.make(folder)
    assert faults(case, run_here(case, folder)) == []


@pytest.mark.parametrize("case", AS_PROCESSES, ids=lambda case: case.name)
@pytest.mark.slow
def test_a_whole_process_says_what_is_wrong(case: Case, folder: Folder) -> None:
    case.make(folder)
    assert faults(case, run_as_process(case, folder)) == []

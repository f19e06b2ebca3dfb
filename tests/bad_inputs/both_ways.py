"""The two tests of every list of bad inputs: in this process, and as whole processes.

Each list has a test module of its own, so that the lists run side by side.
"""

from collections.abc import Callable, Sequence

import pytest

from tests.bad_inputs.case import Case, Folder
from tests.bad_inputs.outcome import faults, run_as_process, run_here

CaseTest = Callable[[Case, Folder], None]


def one_line_test(cases: Sequence[Case], seconds: int) -> CaseTest:
    """Each case is answered by one line in this process, within `seconds`."""

    @pytest.mark.parametrize("case", cases, ids=lambda case: case.name)
    @pytest.mark.timeout(seconds, func_only=True)
    @pytest.mark.usefixtures("modules_loaded")
    def test(case: Case, folder: Folder) -> None:
        case.make(folder)
        assert faults(case, run_here(case, folder)) == []

    return test


def whole_process_test(cases: Sequence[Case]) -> CaseTest:
    """Each case is answered by one line of a whole process."""

    @pytest.mark.parametrize("case", cases, ids=lambda case: case.name)
    @pytest.mark.slow
    def test(case: Case, folder: Folder) -> None:
        case.make(folder)
        assert faults(case, run_as_process(case, folder)) == []

    return test

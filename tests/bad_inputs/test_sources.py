"""Sources, built data sets, weights, stores and addresses that cannot be right."""

from tests.bad_inputs.both_ways import one_line_test, whole_process_test
from tests.bad_inputs.cases import sources, stored

CASES = [*sources.CASES, *stored.CASES]
AS_PROCESSES = CASES[::4]  # each start of a process takes seconds

test_one_line_says_what_is_wrong = one_line_test(CASES, seconds=60)
test_a_whole_process_says_what_is_wrong = whole_process_test(AS_PROCESSES)

"""Commands, arguments and options that cannot be right."""

from tests.bad_inputs.both_ways import one_line_test, whole_process_test
from tests.bad_inputs.cases import commands

CASES = commands.CASES
AS_PROCESSES = CASES[::2]  # each start of a process takes seconds

test_one_line_says_what_is_wrong = one_line_test(CASES, seconds=30)
test_a_whole_process_says_what_is_wrong = whole_process_test(AS_PROCESSES)

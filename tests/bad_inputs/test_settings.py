"""Experiment files that cannot be read, and settings that cannot be right."""

from tests.bad_inputs.both_ways import one_line_test, whole_process_test
from tests.bad_inputs.cases import changes, layers, searches, texts, values

SETTINGS = [*values.CASES, *layers.CASES, *changes.CASES, *searches.CASES]
CASES = [*texts.CASES, *SETTINGS]
AS_PROCESSES = [*texts.CASES, *SETTINGS[::4]]  # each start of a process takes seconds

test_one_line_says_what_is_wrong = one_line_test(CASES, seconds=30)
test_a_whole_process_says_what_is_wrong = whole_process_test(AS_PROCESSES)

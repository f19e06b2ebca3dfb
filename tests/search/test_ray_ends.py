"""Ray's processes are killed under a search: a line, exit code 1, and a study that goes on."""

from pathlib import Path
from typing import Any

import pytest

from fssplat.search.output import ended_points
from tests.fakes.command_line import module_with_own_ray
from tests.fakes.processes.trees import output_after_a_kill
from tests.fakes.searches import opened, prepared_of, search_file

WAIT_S = 250  # for a whole search, while other tests use the same cores


def scored_points(path: Path) -> list[tuple[Any, ...]]:
    """State, values and scores of each point of the finished study, in the order of the draws."""
    prepared = prepared_of(path)
    found = ended_points(prepared.search, opened(prepared))
    return [(one.state, sorted(one.point.items()), one.scores) for one in found]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["raylet/raylet ", "gcs_server "])
def test_a_search_whose_ray_ends_says_how_to_go_on_and_draws_the_same_points(
    tmp_path: Path, data: Path, name: str
) -> None:
    one_at_a_time = {"resources": {"cpu": 2, "gpu": 0}}
    path, quiet = (
        search_file(tmp_path / folder, data, trials=3, experiment=one_at_a_time)
        for folder in ("cut", "quiet")
    )
    with module_with_own_ray("fssplat", "search", path) as process:
        said = output_after_a_kill(process, name, WAIT_S)
    assert process.returncode == 1, said
    (line,) = [one for one in said.splitlines() if one.startswith("fssplat: ")]
    assert line.endswith(f"To go on: fssplat search {path}")
    for one in (path, quiet):
        with module_with_own_ray("fssplat", "search", one) as process:
            said, _ = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, said
    assert len(scored_points(path)) == 3
    assert scored_points(path) == scored_points(quiet)

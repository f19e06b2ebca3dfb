"""The command `fssplat time`, and the cost table that a launch prints."""

from io import StringIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.printing import Screen
from fssplat.experiment.reading import load_experiment
from fssplat.launching.launch import Request, plan_from, show_costs

EXPERIMENT = """
name: timed
dataset: synthetic
datasets: {{synthetic: {{name: synthetic, root: {data}}}}}
backbones: {{efficientnet_lite0: {{name: efficientnet_lite0, weights: random}}}}
grid: {{shot: [1], method: [hsnet], backbone: [efficientnet_lite0]}}
protocol: {{name: fssplat, size: 65, min_area: 100, short_classes: drop}}
costs: true
store: {folder}/store
"""


@pytest.fixture
def experiment(synthetic: Path, tmp_path: Path) -> Path:
    path = tmp_path / "timed.yaml"
    path.write_text(EXPERIMENT.format(data=synthetic, folder=tmp_path))
    return path


def costs_of_launch(experiment: Path) -> str:
    request, out = Request(experiment), StringIO()
    plan, store = plan_from(request)
    show_costs(request, plan, store, Screen(file=out, width=100))
    return out.getvalue()


@pytest.mark.usefixtures("timing_lock")
def test_times_are_measured_once_and_printed_with_a_launch(experiment: Path) -> None:
    assert f"Times of episodes are not measured yet: fssplat time {experiment}" in costs_of_launch(
        experiment
    )
    done = CliRunner().invoke(app, ["time", str(experiment), "--episodes", "1"])
    assert done.exit_code == 0, done.output
    table = done.output[done.output.index("cost: synthetic") :]
    assert "one episode at a time on CPU" in table
    assert [line.split()[1] for line in table.splitlines() if line[:6] == " hsnet"] == ["2.57"]
    again = CliRunner().invoke(app, ["time", str(experiment)])
    assert again.output == done.output[done.output.index("cost: synthetic") :]
    assert "one episode at a time on CPU" in costs_of_launch(experiment)


@pytest.mark.parametrize("name", ["jc2a_table3", "jc2a_table4", "mining_table7", "sdaanet_table3"])
def test_the_files_of_tables_with_a_cost_column_print_the_cost_table(name: str) -> None:
    path = Path(__file__).parents[2] / "experiments" / "ablations" / f"{name}.yaml"
    assert load_experiment(path).costs

"""The settings of trials as text, with the source of each value."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from fssplat.cli import app

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "experiments" / "quickstart.yaml"


@pytest.mark.parametrize("command", ["launch", "plan"])
def test_show_config_prints_every_value_with_its_source_and_starts_nothing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FSSPLAT_DATA", "nowhere")
    arguments = [command, str(QUICKSTART), "--show-config", "--set", "profile=smoke"]
    arguments += ["--set", "grid.method[1].training.steps=60"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    shown = yaml.safe_load(result.output)
    assert shown["pfenet"]["training"]["steps"] == 60
    assert shown["hsnet"]["training"]["steps"] == 2
    assert (shown["pfenet"]["fold"], shown["pfenet"]["shot"]) == ([0, 1], [1, 5])
    assert shown["all trials"]["protocol"]["episodes"] == 4
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "steps: 60 # --set" in lines
    assert "steps: 2 # profile smoke" in lines
    assert "lr: 0.001 # recipe of hsnet" in lines
    assert "precision: bf16 # method entry grid.method[1]" in lines
    assert "short_classes: drop # profile smoke" in lines
    assert "name: fssplat # quickstart.yaml" in lines
    assert max(map(len, result.output.splitlines())) <= 80
    assert not list(tmp_path.iterdir())


def test_trials_of_one_method_with_other_settings_are_another_group(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"extends: {QUICKSTART}\n"
        "training: {lr: 0.5}\n"
        "store: postgresql://me:secret@host/db\n"
        "overrides: [{where: {fold: 1, shot: 5, method: hsnet}, training: {batch: 9}}]\n"
        "protocol: {score: [original, original-square, 473, 321, 289, 257, 225, 193, 161, 129]}\n"
    )
    result = CliRunner().invoke(app, ["launch", str(path), "--show-config"])
    assert result.exit_code == 0, result.output
    shown = yaml.safe_load(result.output)
    # HSNet shares one training between shots, so the 5-shot trial of fold 1 has one of its own.
    assert len(shown["hsnet"]["trials"]) == 3
    assert shown["hsnet (2)"]["training"]["batch"] == 9
    assert "lr: 0.5 # file's training, mine.yaml" in " ".join(result.output.split())
    assert shown["all trials"]["protocol"]["score"][-1] == 129
    assert max(map(len, result.output.splitlines())) <= 80
    assert "secret" not in result.output

"""docs/papers.md: every figure of the five papers has a command, and its file has the rows."""

import re
from pathlib import Path

from fssplat.experiment.expand import expand
from fssplat.experiment.reading import load_experiment
from fssplat.methods import METHODS
from fssplat.report import published
from fssplat.report.sections.inside.maps import file_names

ROOT = Path(__file__).resolve().parents[2]
FIGURES = {
    ("JC2A", "3"), ("JC2A", "4"), ("MiningFSS", "3"), ("MiningFSS", "4"), ("HMFS", "1"),
    ("HMFS", "4"), ("HMFS", "5"), ("HMFS", "6"), ("HMFS", "7"), ("HMFS", "8"), ("MM-Net", "4"),
    ("MM-Net", "5"), ("MM-Net", "A"), ("SD-AANet", "2"), ("SD-AANet", "7"), ("SD-AANet", "8"),
    ("SD-AANet", "9"), ("SD-AANet", "10"), ("SD-AANet", "11"), ("SD-AANet", "12"),
}  # fmt: skip


def rows() -> list[tuple[str, str, str, str]]:
    """Paper, figures, command and files of each line."""
    text = (ROOT / "docs" / "papers.md").read_text().partition("## Figures")[2]
    found = [
        (paper, figures, given.strip("`"), files)
        for paper, figures, _, given, files in re.findall(
            r"^\| (.+?) \| (.+?) \| (.+) \| (.+?) \| (.+?) \|$", text, re.MULTILINE
        )[1:]
    ]
    return found[1:] if found[0][0].startswith("---") else found


def test_every_figure_with_results_has_a_command() -> None:
    named = [(paper, one) for paper, figures, *_ in rows() for one in figures.split(", ")]
    assert sorted(named) == sorted(FIGURES)
    assert all(command.startswith("fssplat report experiments/") for _, _, command, _ in rows())


def test_the_rows_that_a_figure_is_named_after_are_in_its_experiment() -> None:
    for _, figure, command, files in rows():
        trials = expand(load_experiment(ROOT / command.split()[2]), METHODS)
        labels = list(dict.fromkeys(one.method.label for one in trials))
        known = set(file_names(labels))
        for name in re.findall(r"`(?:maps|failures|labels)-\.\.\.-([\w-]+)`", files):
            assert name in known, (figure, command, name)
        if "--against" in command:
            assert command.split("--against ")[1].split()[0] in labels, command


def test_every_table_has_a_command() -> None:
    text = (ROOT / "docs" / "papers.md").read_text().partition("## Figures")[0]
    lines = re.findall(r"^\| ([\w-]+) \| (\w+) \| .+ \| (`fssplat .+) \|$", text, re.MULTILINE)
    named = [(paper, f"Table {number}", command) for paper, number, command in lines]
    tables = list(dict.fromkeys((row.paper, row.table) for row in published.rows()))
    assert [(paper, table) for paper, table, _ in named if (paper, table) in tables] == tables
    for paper, table, command in named:
        if "verify" in command:
            name = f"{paper}:{table.removeprefix('Table ')}"
            assert f"`fssplat verify {name}`" in command
            assert any(not published.why_not_run(row) for row in published.matching(name))
        else:
            file = re.match(r"`fssplat time (\S+)`", command)
            assert file
            assert (ROOT / file[1]).is_file()

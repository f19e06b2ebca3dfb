"""LaTeX tables: marks, escapes, and that they compile."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fssplat.report.document.content import Heading, Line, Table, Value
from fssplat.report.writing.tex import escaped, tex_table


def test_marks_become_commands() -> None:
    best = Value(12.34, spread=0.5, rank="best", marks="*")
    second = Value(-1.0, signed=True, interval=(-2.0, 0.04), rank="second")
    table = Table("t", "A caption.", (Heading("method", False), Heading("x"), Heading("y")),
                  (Line(("a_b", best, second)),))  # fmt: skip
    text = tex_table(table)
    assert r"a\_b & \textbf{12.3} $\pm$ 0.5\textsuperscript{*} & \underline{$-$1.0} [" in text
    assert r"[$-$2.0, +0.0] \\" in text
    assert r"\begin{tabular}{lrr}" in text
    assert r"\label{tab:t}" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("R&D_50%", r"R\&D\_50\%"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("café Ž", r"caf\'{e} \v{Z}"),
        ("\u202e\U0001f600ش", r"\texttt{U+202E}\texttt{U+1F600}\texttt{U+0634}"),
    ],
)
def test_no_text_is_a_command(text: str, expected: str) -> None:
    assert escaped(text) == expected


@pytest.mark.slow
def test_every_table_of_a_report_compiles(report_folder: Path, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is missing: apt-get install texlive-latex-recommended")
    tables = sorted((report_folder / "tables").glob("*.tex"))
    assert tables
    inputs = "\n".join(rf"\input{{{path.as_posix()}}}\clearpage" for path in tables)
    head = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "all.tex").write_text(f"{head}\n{inputs}\n\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-3000:]

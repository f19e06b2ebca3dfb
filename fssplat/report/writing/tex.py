"""Tables as LaTeX that a paper can \\input; they need the packages booktabs and graphicx."""

import unicodedata

from fssplat.report.document.content import Cell, Line, Table

ESCAPED = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "|": r"\textbar{}", "<": r"\textless{}", ">": r"\textgreater{}", '"': "''",
    "`": r"\textasciigrave{}",
    "−": "$-$", "–": "--", "—": "---", "±": r"$\pm$", "×": r"$\times$", "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}", "…": r"\ldots{}", "≥": r"$\geq$", "≤": r"$\leq$", "≈": r"$\approx$",
    "²": r"\textsuperscript{2}", "·": r"$\cdot$", "→": r"$\rightarrow$", "°": r"$^{\circ}$",
    "ß": r"{\ss}", "æ": r"{\ae}", "Æ": r"{\AE}", "ø": r"{\o}", "Ø": r"{\O}", "ł": r"{\l}",
    "\n": " ",
}  # fmt: skip
ACCENTS = {
    0x300: "`", 0x301: "'", 0x302: "^", 0x303: "~", 0x304: "=", 0x306: "u", 0x307: ".", 0x308: '"',
    0x30A: "r", 0x30B: "H", 0x30C: "v", 0x327: "c",
}  # fmt: skip
HEAD = r"% needs \usepackage{booktabs,graphicx}"
FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


def tex_table(table: Table) -> str:
    """A `table` environment with booktabs rules; the caption ends with the legend."""
    columns = "".join("r" if heading.numeric else "l" for heading in table.headings)
    caption = escaped(" ".join([table.caption, *table.legend]))
    headings = " & ".join(escaped(heading.text) for heading in table.headings)
    lines = [
        HEAD,
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{table.name}}}",
        FITTED,
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rf"{headings} \\ \midrule",
        *(_line(line) for line in table.lines),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """The text in ASCII for LaTeX. Letters of other scripts and emoji become their code, as
    U+1F600, since LaTeX's standard fonts lack them."""
    return "".join(map(_character, text))


def _character(letter: str) -> str:
    if letter in ESCAPED:
        return ESCAPED[letter]
    if 0x20 <= ord(letter) < 0x7F:
        return letter
    parts = unicodedata.normalize("NFD", letter)
    if len(parts) == 2 and parts[0].isascii() and ord(parts[1]) in ACCENTS:
        return rf"\{ACCENTS[ord(parts[1])]}{{{parts[0]}}}"
    return rf"\texttt{{U+{ord(letter):04X}}}"


def _line(line: Line) -> str:
    cells = " & ".join(map(_cell, line.cells))
    return (r"\quad " if line.kind else "") + cells + r" \\"


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return escaped(cell)
    number = escaped(cell.shown)
    if cell.rank == "best":
        number = rf"\textbf{{{number}}}"
    if cell.rank == "second":
        number = rf"\underline{{{number}}}"
    marks = rf"\textsuperscript{{{escaped(cell.marks)}}}" if cell.marks else ""
    return number + escaped(cell.around) + marks

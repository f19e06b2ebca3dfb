"""The files of a report have the same numbers, and equal stores give equal bytes."""

import csv
import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fssplat.report.sections.all import document
from fssplat.report.writing.files import listed_files, write_report
from fssplat.results.store import Store
from tests.fakes.report_stores import CLAIM, HOSTILE, evidence


class Tables(HTMLParser):
    """The texts of all cells of all tables of a page, and of everything outside of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag == "td":
            self.tables[-1][-1].append("")
            self.inside = True
        if tag == "sup" and self.inside:
            self.tables[-1][-1][-1] += " "

    def handle_endtag(self, tag: str) -> None:
        if tag == "td":
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.tables[-1][-1][-1] += data


def cells(table: dict[str, Any]) -> list[list[str]]:
    return [[c if isinstance(c, str) else c["text"] for c in line] for line in table["lines"]]


def tables_of(report: Any) -> list[dict[str, Any]]:
    return [
        part for one in report["sections"] for part in one["parts"]
        if part["kind"] == "table" and part["lines"]
    ]  # fmt: skip


def seen(text: str) -> str:
    """As a page shows it: characters that turn the reading direction are escapes."""
    return text.replace("\u202e", "\\u202e").replace("\u202c", "\\u202c")


def test_every_table_of_the_page_equals_report_json(report_folder: Path, report_json: Any) -> None:
    page = Tables()
    page.feed((report_folder / "index.html").read_text())
    shown = [[row for row in table if row] for table in page.tables]
    expected = [[[seen(c) for c in row] for row in cells(one)] for one in tables_of(report_json)]
    assert shown == expected
    assert len(shown) >= 6


def test_every_table_of_the_markdown_equals_report_json(
    report_folder: Path, report_json: Any
) -> None:
    text = re.sub(r"\*\*|</?ins>", "", (report_folder / "report.md").read_text())
    rows = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]
    found = [
        [html.unescape(re.sub(r"\\(.)", r"\1", cell)).strip() for cell in row]
        for row in rows if set(row) - {"---", "---:"}
    ]  # fmt: skip
    expected = []
    for table in tables_of(report_json):
        expected.append([seen(one).strip() for one in table["headings"]])
        expected += [[seen(c).strip() for c in row] for row in cells(table)]
    assert found == expected


def test_every_number_of_the_tex_tables_equals_report_json(
    report_folder: Path, report_json: Any
) -> None:
    for table in tables_of(report_json):
        tex = (report_folder / "tables" / f"{table['name']}.tex").read_text()
        for line in table["lines"]:
            for cell in line:
                if isinstance(cell, dict):
                    number = cell["text"].split()[0]
                    assert number.replace("−", "$-$").replace("–", "--") in tex


def test_a_csv_has_all_digits_of_report_json(report_folder: Path, report_json: Any) -> None:
    (table,) = [one for one in tables_of(report_json) if one["name"].startswith("results-")]
    rows = list(csv.reader((report_folder / "tables" / f"{table['name']}.csv").open()))
    column = rows[0].index("mean")
    mean = table["headings"].index("mean")
    assert [float(row[column]) for row in rows[1:]] == [
        line[mean]["value"] for line in table["lines"]
    ]
    assert rows[0][column + 1] == "mean std"


@pytest.mark.slow
def test_two_reports_of_one_store_have_the_same_bytes(
    report_store: Store, report_folder: Path, tmp_path: Path
) -> None:
    write_report(document(evidence(report_store)), tmp_path)
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) > 20
    for name in files:
        assert (tmp_path / name).read_bytes() == (report_folder / name).read_bytes(), name


@pytest.mark.slow
def test_a_second_report_deletes_only_files_of_the_first(
    report_store: Store, tmp_path: Path
) -> None:
    made = document(evidence(report_store))
    write_report(made, tmp_path)
    mine = tmp_path / "tables" / "mine.tex"
    mine.write_text("not of a report")
    shorter = type(made)(made.title, made.sections[:1])
    write_report(shorter, tmp_path)
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["mine.tex"]
    assert not list((tmp_path / "figures").iterdir())


def test_a_list_of_files_outside_the_folder_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text('{"files": ["tables/../../x", "/etc/passwd", "tables/a.tex"]}')
    assert listed_files(path) == {"tables/a.tex"}


def test_names_and_claims_are_texts_in_the_page_and_in_markdown(report_folder: Path) -> None:
    page = (report_folder / "index.html").read_text()
    assert "<script>alert" not in page
    assert html.escape(HOSTILE[0], quote=True).replace("&#x27;", "&#39;") in page.replace(
        "&#34;", "&quot;"
    )
    assert "\u202e" not in page
    assert "<b>" not in page.split("</header>")[1].split("<figcaption>")[0]
    text = (report_folder / "report.md").read_text()
    assert r"R&amp;D\_50%" in text
    assert r"\<script\>alert" in text
    assert "Is " in CLAIM


def test_the_page_asks_for_nothing_outside_of_itself(report_folder: Path) -> None:
    page = (report_folder / "index.html").read_text()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(one.startswith(("#", "data:")) for one in addresses)
    assert "default-src 'none'" in page
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))

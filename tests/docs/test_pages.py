"""README and docs/ name only files and functions that exist; commands: tests/printed_commands."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:fssplat|tests|experiments|cluster|bench|docs)/[\w./-]*)`")
MADE_BY_READER = ("experiments/X.yaml", "fssplat/methods/yours.py")


def _heading(line: str) -> str:
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor and target.suffix == ".md":
            lines = target.read_text(encoding="utf-8").splitlines()
            headings = {_heading(line) for line in lines if line.startswith("#")}
            assert anchor in headings, f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_paths_exist(page: Path) -> None:
    for path in NAMED.findall(page.read_text(encoding="utf-8")):
        assert path in MADE_BY_READER or (ROOT / path).exists(), f"{page.name}: {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_names_are_defined_in_their_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for label, link in re.findall(r"\[`(\w+)(?:\(\))?`\]\(([^)\s]+\.py)\)", text):
        source = (page.parent / link).read_text(encoding="utf-8")
        found = re.search(rf"^\s*(?:def|class) {label}\b|^{label}\b", source, re.MULTILINE)
        assert found, f"{page.name}: {label} is not defined in {link}"


def test_the_readme_asks_the_question_of_each_package() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    packages = sorted(path.parent.name for path in (ROOT / "fssplat").glob("*/__init__.py"))
    rows = dict(re.findall(r"^\| \[`fssplat/(\w+)/`\]\([^)]*\) \| ([^?]*\?)", readme, re.MULTILINE))
    assert sorted(rows) == packages
    for name in packages:
        text = import_module(f"fssplat.{name}").__doc__ or ""
        assert text.startswith(rows[name]), f"fssplat/{name}/__init__.py: {text.splitlines()[0]}"

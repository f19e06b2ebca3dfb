"""One small store and its written report for all tests of reports."""

import json
from pathlib import Path
from typing import Any

import pytest

from fssplat.report.sections.all import document
from fssplat.report.writing.files import write_report
from fssplat.results.store import Store
from tests.fakes.report_stores import evidence, small_store


@pytest.fixture(scope="session")
def report_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with 3 methods on 2 folds; do not change it."""
    return small_store(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def report_folder(report_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the store's report; do not change them."""
    folder = tmp_path_factory.mktemp("written")
    write_report(document(evidence(report_store)), folder)
    return folder


@pytest.fixture(scope="session")
def report_json(report_folder: Path) -> Any:
    return json.loads((report_folder / "report.json").read_text())

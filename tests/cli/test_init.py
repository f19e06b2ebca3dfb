"""`fssplat init method`, and the page docs/add-a-method.md done step by step."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.cli.init import next_commands, rendered
from fssplat.common.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
RUN = CliRunner()
SMALL = (
    "training.steps=2", "training.size=65", "training.batch=2", "evaluation.panels=0",
    "protocol.episodes=4", "protocol.min_area=1", "protocol.min_area_query=1", "tracking=none",
    "protocol.size=65", "protocol.short_classes=drop",
    "backbones.efficientnet_lite0={name: efficientnet_lite0, weights: random}",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which `fssplat init method mine` has been typed."""
    monkeypatch.chdir(tmp_path)
    result = RUN.invoke(app, ["init", "method", "mine"])
    assert result.exit_code == 0, result.output
    return tmp_path


def passed(folder: Path, *command: str, **environment: str) -> str:
    """The output of a command in `folder`, which must end with exit code 0."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_three_files_are_written_and_the_next_commands_printed(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"mine.py", "mine.yaml", "test_mine.py"}
    contract = ROOT / "tests" / "methods" / "test_contract.py"
    assert next_commands("mine", "Mine") == [
        "python -m pytest test_mine.py",
        f"FSSPLAT_CONTRACT=mine:Mine python -m pytest {contract}",
        "fssplat data build synthetic",
        "fssplat launch mine.yaml",
    ]


def test_the_template_is_the_example_of_the_page() -> None:
    written = rendered("nearest_support", "NearestSupport")["nearest_support.py"]
    example = (EXAMPLES / "nearest_support.py").read_text("utf-8")
    assert written == example.replace("PYTHONPATH=docs/examples ", "").replace(
        "launch docs/examples/", "launch "
    )


@pytest.mark.parametrize(
    "name", ["Mine", "my-method", "1st", "a b", "../x", "", "ünder", "_", "__"]
)
def test_a_name_that_cannot_be_a_module_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = RUN.invoke(app, ["init", "method", name])
    assert isinstance(refused.exception, InputError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["torch", "random", "class", "fssplat"])
def test_a_name_that_python_uses_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = RUN.invoke(app, ["init", "method", name])
    assert f"my_{name}" in str(refused.exception)
    assert not list(tmp_path.iterdir())


def test_no_file_is_replaced_and_none_is_written_if_one_exists(folder: Path) -> None:
    (folder / "mine.py").write_text("my own")
    (folder / "test_mine.py").unlink()
    refused = RUN.invoke(app, ["init", "method", "mine"])
    assert str(refused.exception).startswith("mine.py: exists already")
    assert (folder / "mine.py").read_text() == "my own"
    assert not (folder / "test_mine.py").exists()


@pytest.mark.slow
def test_the_template_passes_its_own_test_and_the_contract(folder: Path) -> None:
    own = passed(folder, "-m", "pytest", "-q", "test_mine.py", PYTHONPATH=f"{folder}:{ROOT}")
    assert "2 passed" in own
    arguments = ("-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider")
    contract = str(ROOT / "tests" / "methods" / "test_contract.py")
    environment = {"PYTHONPATH": f"{folder}:{ROOT}", "FSSPLAT_CONTRACT": "mine:Mine"}
    assert "failed" not in passed(folder, *arguments, contract, **environment)


def test_the_method_is_found_in_the_folder_where_a_command_is_typed(folder: Path) -> None:
    (folder / "typer.py").write_text("raise RuntimeError('no package is replaced')")
    code = "import sys; sys.path.pop(0); from fssplat.cli import main; main()"
    out = passed(folder, "-c", code, "methods", "mine:Mine", PYTHONPATH=str(ROOT))
    assert "options.scale" in out


@pytest.mark.slow
def test_the_template_trains_on_synthetic_images(folder: Path) -> None:
    build = ("data", "build", "synthetic", "--train-images", "24", "--val-images", "40")
    passed(folder, "-m", "fssplat", *build, PYTHONPATH=f"{folder}:{ROOT}")
    changes = [part for setting in SMALL for part in ("--set", setting)]
    launch = ("-m", "fssplat", "launch", "mine.yaml", *changes)
    out = passed(folder, *launch, PYTHONPATH=str(ROOT))
    assert "mine:Mine" in out
    assert len(list((folder / "results").glob("*/result.json"))) == 2


@pytest.mark.slow
def test_the_example_passes_the_contract_when_it_is_copied_into_the_package(tmp_path: Path) -> None:
    for name in ("fssplat", "tests", "pyproject.toml", "docs", "experiments"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    methods = tmp_path / "fssplat" / "methods"
    shutil.copy(EXAMPLES / "nearest_support.py", methods)
    listed = methods / "__init__.py"
    text = listed.read_text("utf-8").replace(
        '    "panet": PANet,', '    "nearest_support": NearestSupport,\n    "panet": PANet,'
    )
    line = "from fssplat.methods.nearest_support import NearestSupport\n"
    listed.write_text(
        text.replace("from fssplat.methods.panet", f"{line}from fssplat.methods.panet")
    )
    arguments = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/methods")
    out = passed(tmp_path, *arguments, "-k", "nearest_support", PYTHONPATH=str(tmp_path))
    assert "passed" in out
    assert "failed" not in out

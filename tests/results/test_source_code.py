"""The hash of the source changes with code that can change a number, and with nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fssplat.results import source_code
from fssplat.results.records import Result
from fssplat.results.source_code import (
    freshness,
    record_training_source,
    scoring_source,
    training_source,
)
from tests.fakes.trials import job, trial

METHOD = '"""Doc."""\nimport helper\n\nclass Method:\n    """Doc."""\n    scale = 20.0  # alpha\n'


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSSPLAT_CACHE", str(tmp_path / "cache"))
    forget()


def forget() -> None:
    """Compute hashes again, as in a new process."""
    for function in (scoring_source, training_source, source_code._cache):
        function.cache_clear()


def digest_of(folder: Path) -> str:
    """The hash of the method `mine:Method` in a new process, as a relaunch computes it."""
    code = "from fssplat.results.source_code import scoring_source as s; print(s('mine:M').digest)"
    return subprocess.check_output([sys.executable, "-c", code], cwd=folder, text=True).strip()


@pytest.mark.slow
def test_code_of_a_method_or_a_helper_beside_it_changes_the_hash_and_a_reformat_does_not(
    tmp_path: Path,
) -> None:
    mine, helper = tmp_path / "mine.py", tmp_path / "helper.py"
    mine.write_text(METHOD)
    helper.write_text("def double(x):\n    return 2 * x\n")
    first = digest_of(tmp_path)
    assert len(first) == 16
    mine.write_text(METHOD.replace("20.0  # alpha", "(\n        20.0\n    )").replace("Doc", "D"))
    assert digest_of(tmp_path) == first
    helper.write_text("def double(x):\n    return 3 * x\n")
    second = digest_of(tmp_path)
    assert second != first
    mine.write_text(METHOD.replace("20.0", "21.0"))
    assert digest_of(tmp_path) not in (first, second)


def test_a_method_depends_on_the_engine_and_data_and_on_no_other_method() -> None:
    modules = scoring_source("panet").modules
    for needed in ("fssplat.methods.panet", "fssplat.methods.base", "fssplat.engine.run"):
        assert needed in modules
    for needed in ("fssplat.data.index", "fssplat.backbones.resnet", "fssplat.data.transforms"):
        assert needed in modules
    assert not [name for name in modules if name.startswith(("fssplat.methods.hsnet",))]
    above = ("fssplat.cli", "fssplat.results", "fssplat.report", "fssplat.launching")
    assert not [name for name in modules if name.startswith(above)]


def test_scoring_is_part_of_a_trainings_source_only_if_scores_select_the_weights() -> None:
    scoring = "fssplat.engine.scoring.evaluate"
    assert scoring not in training_source("panet").modules
    assert scoring in training_source("panet", "novel-best").modules
    assert "fssplat.engine.training.loop" in training_source("panet").modules


def test_a_result_is_current_stale_or_unknown() -> None:
    one = trial()
    about = {
        "source": scoring_source("panet").digest,
        "training_source": training_source("panet").digest,
    }
    assert freshness(one, Result({}, about=about)) == "current"
    assert freshness(one, Result({}, about={**about, "source": "0" * 16})) == "stale"
    assert freshness(one, Result({}, about={**about, "training_source": "0" * 16})) == "stale"
    assert freshness(one, Result({}, about={"source": about["source"]})) == "unknown"
    assert freshness(one, Result({})) == "unknown"
    assert freshness(trial(steps=0), Result({}, about={"source": about["source"]})) == "current"


def test_an_attempt_that_left_no_checkpoint_does_not_count_as_the_source(tmp_path: Path) -> None:
    """A method that failed at its first step, and was then corrected, gives results of today."""
    one, place = job(trial(method="panet")), tmp_path / "source.json"
    place.write_text('{"source": "of the failed attempt", "modules": {}}')
    record_training_source(one, tmp_path)
    today = training_source("panet", one.first.protocol.selection).digest
    assert json.loads(place.read_text())["source"] == today
    for begun in ("checkpoints/step-1.safetensors", "weights.safetensors"):
        (tmp_path / begun).parent.mkdir(exist_ok=True)
        (tmp_path / begun).touch()
        place.write_text("of the attempt that made it")
        record_training_source(one, tmp_path)
        assert place.read_text() == "of the attempt that made it"
        (tmp_path / begun).unlink()


@pytest.mark.slow
def test_a_damaged_cache_is_not_used(tmp_path: Path) -> None:
    right = scoring_source("panet").digest
    (path,) = (tmp_path / "cache").glob("source-*.json")
    for damage in (b"[" * 100_000, b"{}", b'{"a": 1}', b"[]", b"\xff"):
        path.write_bytes(damage)
        forget()
        assert scoring_source("panet").digest == right

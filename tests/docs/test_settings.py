"""The page of all settings is current, complete, and right about what identifies a trial."""

from pathlib import Path

import pytest

from fssplat.cli.settings_page import settings_page
from fssplat.experiment.describe import describe
from fssplat.experiment.expand import expand
from fssplat.experiment.protocols import Protocol
from fssplat.experiment.schema import ExperimentSpec, TrainingSpec
from fssplat.experiment.trial import Trial
from fssplat.methods import METHODS
from fssplat.search.space import Parameter, SearchSpec

ROOT = Path(__file__).resolve().parents[2]
SPECS = [ExperimentSpec, TrainingSpec, Protocol, SearchSpec, Parameter]
SPECS += [method.Options for method in METHODS.values()]


def test_the_page_is_current() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page(), "run `python docs/make_settings.py` and commit docs/settings.md"


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__qualname__)
def test_every_setting_has_a_comment(spec) -> None:
    bare = [setting.name for setting in describe(spec) if not setting.meaning]
    assert not bare, f"write what it means beside the field, or in a comment above it: {bare}"


def _trial(**changes) -> Trial:
    keys = {"name": "x", "dataset": "synthetic", "grid": {"method": ["pfenet"]}, **changes}
    (trial,) = expand(ExperimentSpec.model_validate(keys), METHODS)
    return trial


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"claim": "y"}, "claim"),
        ({"store": "elsewhere"}, "store"),
        ({"resources": {"cpu": 4}}, "resources.cpu"),
        ({"evaluation": {"cache_gb": 9}}, "evaluation.cache_gb"),
        ({"evaluation": {"workers": 2}}, "evaluation.workers"),
        ({"evaluation": {"precision": "bf16"}}, "evaluation.precision"),
        ({"training": {"batch": 8}}, "training.batch"),
        ({"training": {"precision": "bf16"}}, "training.precision"),
        ({"protocol": {"absent_class": "zero"}}, "protocol.absent_class"),
        ({"grid": {"method": ["pfenet"], "seed": [1]}}, "grid.seed"),
        ({"grid": {"method": [{"name": "pfenet", "variant": "v"}]}}, "grid.method[].variant"),
    ],
)
def test_the_column_identity_agrees_with_trial_ids(changes, setting) -> None:
    (row,) = [line for line in settings_page().splitlines() if line.startswith(f"| `{setting}` ")]
    same = _trial().trial_id({}) == _trial(**changes).trial_id({})
    assert row.split(" | ")[3] == ("no" if same else "yes")

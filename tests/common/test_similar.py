"""Which known name a mistyped one stands for."""

import pytest

from fssplat.common.similar import did_you_mean, known, mistakes, similar
from fssplat.experiment.checks.problems import settings
from fssplat.experiment.datasets import BUILT_IN
from fssplat.experiment.protocols import PROTOCOLS, Protocol
from fssplat.experiment.schema import ExperimentSpec, TrainingSpec

SETTINGS = [
    *settings(ExperimentSpec),
    *settings(TrainingSpec, "training."),
    *settings(Protocol, "protocol."),
]
BACKBONES = ["resnet50", "resnet101", "resnet50_v2", "vgg16", "vgg16_bn", "efficientnet_lite0"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("steps", ["training.steps"]),  # not store
        ("stroe", ["store"]),
        ("training.rl", ["training.lr"]),
        ("training.learning_rate", ["training.lr"]),
        ("training.batch_size", ["training.batch"]),
        ("training.episodes", ["protocol.episodes"]),
        ("fold", ["grid.fold"]),
        ("methods", ["grid.method"]),
        ("grid.methods", ["grid.method"]),
        ("evaluation.precison", ["evaluation.precision"]),
        ("protocol.episode", ["protocol.episodes"]),
        ("datset", ["dataset"]),
        ("trainin", ["training"]),  # not train_on
        ("zzz", []),
        ("", []),
        ("training.foo", []),
    ],
)
def test_a_setting_is_found_by_its_last_name_and_by_few_mistakes(
    given: str, expected: list[str]
) -> None:
    assert similar(given, SETTINGS) == expected


@pytest.mark.parametrize(
    ("given", "names", "expected"),
    [
        ("PASCAL5i", BUILT_IN, ["pascal-5i"]),
        ("coco", BUILT_IN, ["coco-20i"]),
        ("voc", BUILT_IN, []),
        ("HSNet", ["hmfs", "hsnet", "panet"], ["hsnet"]),
        ("pfent", ["panet", "pfenet"], ["pfenet"]),
        ("cat", ["hmfs", "bam", "panet"], []),
        ("resnet5", BACKBONES, ["resnet50"]),
        ("resnet", BACKBONES, ["resnet50", "resnet101", "resnet50_v2"]),
        ("vgg", BACKBONES, ["vgg16", "vgg16_bn"]),
        ("hsent", PROTOCOLS, ["hsnet"]),
    ],
)
def test_a_name_is_found_by_few_mistakes_or_by_its_beginning(
    given: str, names: list[str], expected: list[str]
) -> None:
    assert similar(given, names) == expected


def test_mistakes_are_counted_as_a_person_makes_them() -> None:
    assert [mistakes(*pair) for pair in (("steps", "steps"), ("setps", "steps"))] == [0, 1]
    assert mistakes("steps", "store") == 3
    assert mistakes("kitten", "sitting") == 3
    assert mistakes("rl", "lr") == 1
    assert mistakes("kd", "lr") == 2


def test_a_hint_is_a_sentence() -> None:
    assert did_you_mean("vgg", BACKBONES) == "Did you mean vgg16 or vgg16_bn?"
    assert known("x", ["one", "two"]) == "Known: one, two."
    assert known("tow", ["one", "two"]) == "Did you mean two? Known: one, two."
    assert known("x", []) == "Known: none."

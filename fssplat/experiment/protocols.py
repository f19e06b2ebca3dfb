"""The named evaluation protocols: the choices that move a number by 0.3 to 9 points.

Each result records its protocol and the protocol's hash. Results under different protocols are
never put into one column without a label. The presets follow the public code of each paper, axis by
axis.
"""

from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from fssplat.common.errors import InputError
from fssplat.common.similar import known
from fssplat.experiment.checks.problems import validate
from fssplat.experiment.datasets import BUILT_IN, EVERY
from fssplat.experiment.schema import Area, DrawSeed, Episodes, Pixels, Spec, digest


class Protocol(Spec):
    """One way to train on base classes and score on novel ones."""

    not_hashed = frozenset({"name"})
    name: str  # of the preset
    # What training sees

    # training images: all, or those of a public list that `fssplat data import-lists` has read
    training_list: Literal["all", "pfenet", "hsnet"] = "all"
    # pixels of novel classes in training: background, ignored, or their images are left out
    novel: Literal["background", "ignore", "exclude-image"] = "background"
    # what is drawn first for a training episode: an image, a line of the public list, or a class
    training_draw: Literal["image", "class-line", "class"] = "image"
    min_area: Area = 2048  # pixels of the class in a support, at original size
    min_area_query: Area = 2048  # the same in a query; 0: any listed image
    # novel classes of a fold on COCO: every fourth class, or 20 in a row
    coco_folds: Literal["interleaved", "contiguous"] = "interleaved"
    # What the network sees at test time

    # test images are padded, stretched, padded with sides cut to multiples of 8, or unchanged
    input: Literal["pad", "squash", "pad-floor8", "original"] = "pad"
    # side of test images in pixels, of all data sets or by name; None: the method's own
    size: dict[str, Pixels] | Pixels | None = None
    # Which episodes

    # evaluation episodes per episode seed, of all data sets or by name
    episodes: dict[str, Episodes] | Episodes = {"coco-20i": 4000, "default": 1000}
    # each one draws a list of episodes; their mean and spread are reported
    episode_seeds: tuple[DrawSeed, ...] = Field((0, 1, 2, 3, 4), min_length=1)
    # how a query and its class are drawn: every class equally often, HSNet's public sequence, class
    # first, image first, or every image once
    draw: Literal["even", "walk-list", "class-first", "image-first", "all-queries"] = "even"
    supports_repeat: bool = False  # whether two supports may be one image
    # classes with too few images for an episode: stop with an error, or leave them out
    short_classes: Literal["error", "drop"] = "error"
    # How a prediction is scored

    # sizes at which predictions are scored, in pixels or by name; tables show the first
    score: tuple[Literal["original", "original-square"] | Pixels, ...] = Field(
        ("original", 473), min_length=1
    )
    # a class that no episode shows: left out of the mean, or counted as 0
    absent_class: Literal["skip", "zero"] = "skip"
    # remove pixels of label 255 from the score; False: they are background
    ignore_border: dict[str, bool] | bool = True
    # whether K shots reuse the 1-shot weights or are trained apart; method: as in its paper
    five_shot: Literal["reuse", "apart", "method"] = "method"
    # checkpoint that is scored: the last, or the best on held-out base or on novel classes
    selection: Literal["last", "base-val", "novel-best"] = "last"
    # whether the backbone has seen test classes, as with ImageNet; recorded, changes nothing
    test_classes_in_pretraining: bool = True

    @model_validator(mode="after")
    def _public_draws_repeat(self) -> Self:
        if self.draw in ("walk-list", "all-queries") and not self.supports_repeat:
            raise ValueError(
                f"draw {self.draw} may give one image twice as a support. "
                "Set supports_repeat: true, or draw: even"
            )
        return self

    def check_names(self, used: Iterable[str], where: str) -> None:
        """Raises InputError for an axis that names a data set which nobody knows.

        `used` are the data sets of the experiment, beside the built-in ones.
        """
        names = list(dict.fromkeys((*BUILT_IN, *used, EVERY)))
        for axis in ("episodes", "size", "ignore_border"):
            value = getattr(self, axis)
            for name in sorted(value) if isinstance(value, dict) else ():
                if name not in names:
                    raise InputError(
                        f"{where}: protocol.{axis}: data set {name} is unknown. "
                        f"{known(name, names)}"
                    )

    def episode_count(self, dataset: str) -> int:
        """Evaluation episodes per episode seed on this data set."""
        return int(_on(dataset, self.episodes, 1000))

    def size_on(self, dataset: str) -> int | None:
        """Side of the test input in pixels; None: the method's own."""
        size: int | None = _on(dataset, self.size, None)
        return size

    def ignores_border(self, dataset: str) -> bool:
        """Whether label 255 is left out of the score, or is background."""
        return bool(_on(dataset, self.ignore_border, True))

    def lists_of(self, dataset: str) -> str:
        """Names the public lists that are read of a data set."""
        return f"{dataset}/{self.training_list}"

    @property
    def hash(self) -> str:
        """What makes two results comparable; the name alone does not."""
        return digest(self, length=8)


def _on(dataset: str, axis: Any, otherwise: Any) -> Any:
    """The value of an axis on this data set: by name, else its `default`."""
    return axis.get(dataset, axis.get("default", otherwise)) if isinstance(axis, dict) else axis


_HSNET: dict[str, Any] = {
    "training_list": "hsnet",
    "training_draw": "class-line",
    "min_area": 0,  # the lists themselves were made with the area rule
    "min_area_query": 0,
    "input": "squash",
    "size": 400,
    "episodes": 1000,
    "episode_seeds": (0,),
    "supports_repeat": True,
    "score": (400,),
    "absent_class": "zero",
    "ignore_border": {"coco-20i": False, "default": True},  # its COCO set has no ignore map
    "five_shot": "reuse",
    "selection": "novel-best",
}

_PFENET: dict[str, Any] = {
    "training_list": "pfenet",
    "min_area_query": 0,  # the query's class is drawn without the area test
    "input": "pad-floor8",
    "draw": "image-first",
    "absent_class": "zero",
    "five_shot": "apart",
    "selection": "novel-best",
}

_PFENET_SIZE = {"coco-20i": 641, "default": 473}

PROTOCOLS: dict[str, Protocol] = {
    "fssplat": Protocol(name="fssplat"),
    "pfenet": Protocol(
        name="pfenet",
        **_PFENET,
        size=_PFENET_SIZE,
        episodes={"coco-20i": 20001, "default": 5001},  # the stop test lags by one
        episode_seeds=(321,),
        score=("original-square",),
    ),
    # Says that it follows PFENet; its size is that of training (321 or 473, by backbone).
    "mmnet": Protocol(
        name="mmnet",
        **_PFENET,
        episodes={"coco-20i": 20000, "default": 5000},
        episode_seeds=(321,),
        score=("original-square",),
    ),
    # As printed. The authors' code: {name: sdaanet, input: squash, size: 473, score: [473]}.
    "sdaanet": Protocol(
        name="sdaanet",
        **{**_PFENET, "input": "pad"},
        size=321,
        score=("original", 473),  # 473 for the daggered rows of its Table II
    ),
    # Its K shots average the masks predicted from one. Selection is not printed: PFENet's.
    "jc2a": Protocol(
        name="jc2a",
        **{**_PFENET, "input": "squash", "five_shot": "reuse"},
        size=473,
        episodes=1000,
        episode_seeds=(0,),
        score=("original",),
    ),
    # PFENet's, but training never sees an image that shows a novel class.
    "bam": Protocol(
        name="bam",
        **_PFENET,
        novel="exclude-image",
        size=_PFENET_SIZE,
        score=("original-square",),
    ),
    # Class first, then images of it with any amount of it; everything at 417 x 417.
    "panet": Protocol(
        name="panet",
        training_draw="class",
        min_area=0,
        min_area_query=0,
        coco_folds="contiguous",
        input="squash",
        size=417,
        episodes=1000,
        draw="class-first",
        score=(417,),
        five_shot="apart",
    ),
    # PANet's classes per fold, images as they are.
    "miningfss": Protocol(
        name="miningfss",
        min_area_query=0,  # the query's class is drawn without the area test
        coco_folds="contiguous",
        input="original",
        draw="image-first",
        score=("original",),
        selection="novel-best",
    ),
    "hsnet": Protocol(name="hsnet", draw="walk-list", **_HSNET),
    "fss1000": Protocol(
        name="fss1000",
        **{
            **_HSNET,
            "training_list": "all",
            "draw": "all-queries",
            "episodes": 2400,
            "selection": "base-val",  # the set has validation classes of its own
        },
    ),
}


def resolve_protocol(setting: dict[str, Any] | str, where: str = "protocol") -> Protocol:
    """A preset by name, or one with some axes changed: `{name: fssplat, episodes: 100}`."""
    changes = {"name": setting} if isinstance(setting, str) else dict(setting)
    name = str(changes.pop("name", "fssplat"))
    if name not in PROTOCOLS:
        raise InputError(f"{where}: protocol {name!r} is unknown. {known(name, PROTOCOLS)}")
    preset = PROTOCOLS[name]
    if not changes:
        return preset
    return validate(Protocol, {**preset.model_dump(), **changes}, where, "protocol.")

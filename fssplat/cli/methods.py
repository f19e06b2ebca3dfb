"""`fssplat methods`: which networks exist, and what can be set in each."""

import inspect
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from fssplat.common.printing import say

if TYPE_CHECKING:
    from fssplat.methods import FewShotSegmenter

SOURCE = re.compile(r"^Source {3}(.*(?:\n {9}.*)*)", re.MULTILINE)


def methods(
    name: str = typer.Argument("", help="One method, e.g. hsnet or my_module:MyMethod."),
) -> None:
    """Show the methods and their options, losses, presets: fssplat methods hsnet

    Without a name: every method in short.
    """
    from fssplat.backbones import BACKBONES
    from fssplat.cli.text_columns import columns
    from fssplat.methods import METHODS, method_named

    if name:
        method = method_named(name)
        say(columns([(name, what_it_is(method))], widest=80))
        say(columns(details(method), indent=2))
        return
    for known, method in METHODS.items():
        say(columns([(known, what_it_is(method))]))
        say(columns(summary(method), indent=2))
        say("")
    say(columns([("backbones", ", ".join([*BACKBONES, "timm:<name>"]))]), end="\n\n")
    say("`fssplat methods hsnet` shows what each option of a method means.")
    say("`fssplat launch X.yaml --set 'grid.method=[prior, hsnet]'` runs those two.")


def what_it_is(method: "type[FewShotSegmenter]") -> str:
    """The first line of the module's docstring, without the method's name."""
    text = inspect.getdoc(sys.modules[method.__module__]) or method.__doc__ or ""
    first = text.strip().partition("\n\n")[0].replace("\n", " ")
    short, colon, rest = first.partition(": ")
    return rest if colon and len(short.split()) == 1 else first[:1].lower() + first[1:]


def paper(method: "type[FewShotSegmenter]") -> str:
    """The text under `Source` in the module's docstring; empty if there is none."""
    text = inspect.getdoc(sys.modules[method.__module__]) or ""
    found = SOURCE.search(text)
    if found is None:
        return ""
    words = " ".join(found[1].split()).removesuffix(
        ", and its public code where the paper is silent."
    )
    return re.sub(r'[;,]? "(Eq\. |Algorithm )[^;.]*?below.*$', "", words).strip(" ;,")


def summary(method: "type[FewShotSegmenter]") -> Iterator[tuple[str, str]]:
    """What can be set in a method, in a few lines; names without their meaning."""
    from fssplat.experiment.describe import describe

    yield "paper", paper(method) or "see its module"
    options = ", ".join(f"{one.name}={one.default}" for one in describe(method.Options))
    yield "options", options or "none"
    yield from terms(method)


def terms(method: "type[FewShotSegmenter]") -> Iterator[tuple[str, str]]:
    """Losses, momentum terms, presets, and sizes of training images."""
    from fssplat.experiment.datasets import BUILT_IN
    from fssplat.experiment.describe import as_yaml

    trained = "" if method.TRAINED else " (no training)"
    yield "loss_weights", as_yaml(method.LOSS_WEIGHTS)[1:-1] + trained
    yield "momentum", as_yaml(method.MOMENTUM)[1:-1] or "none"
    for preset, value in method.PRESETS.items() or [("", {})]:
        changes = as_yaml(value)[1:-1] or "the paper's settings"
        yield "preset", f"{preset}: {changes}" if preset else "none"
    sizes = {data: method.recipe(data, "resnet50").get("size", 473) for data in BUILT_IN}
    yield "size", ", ".join(f"{size} on {data}" for data, size in sizes.items())


def details(method: "type[FewShotSegmenter]") -> Iterator[tuple[str, str]]:
    """Everything that an experiment can set in a method, each with its meaning."""
    from fssplat.backbones import BACKBONES
    from fssplat.cli.settings_page import meaning
    from fssplat.experiment.datasets import BUILT_IN
    from fssplat.experiment.describe import as_yaml, describe

    yield "paper", paper(method) or "see its module"
    for one in describe(method.Options):
        mark = "; scoring only" if one.name in method.SCORING_OPTIONS else ""
        kind = one.type.replace("`", "")
        yield f"options.{one.name}", f"{meaning(one)} [{kind}; default {one.default}{mark}]"
    yield from terms(method)
    for data in BUILT_IN:
        if options := method.options_for(data):
            yield f"options on {data}", as_yaml(options)[1:-1]
        yield f"training on {data}", as_yaml(method.recipe(data, "resnet50"))[1:-1]
    ways = method.ways_of(method.Options())
    yield (
        "way",
        "any number of classes per episode" if ways is None else f"{ways} class per episode",
    )
    fusion = {"network": "by the network", "vote": "by vote", "mean-mask": "by the mean mask"}
    yield "shots", f"any number, combined {fusion[method.SHOT_FUSION]}"
    yield "backbones", ", ".join([*BACKBONES, "timm:<name>"])

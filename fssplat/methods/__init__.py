"""What is the network? Every method, by the name that YAML, tables and commands use.

A new method is one file and one line here. A method outside the package is named `module:Class`;
only such a name is imported from a string.
"""

import os
import sys
from collections.abc import Iterable
from importlib import import_module

from fssplat.backbones import build_backbone
from fssplat.common.errors import InputError, first_line
from fssplat.common.printing import command_line
from fssplat.common.similar import known
from fssplat.experiment.checks.problems import validate
from fssplat.experiment.schema import BackboneSpec, MethodSpec
from fssplat.methods.base import FewShotSegmenter
from fssplat.methods.hmfs import HMFS
from fssplat.methods.hsnet import HSNet
from fssplat.methods.jc2a import JC2A
from fssplat.methods.mining import MiningFSS
from fssplat.methods.mmnet import MMNet
from fssplat.methods.panet import PANet
from fssplat.methods.pfenet import PFENet
from fssplat.methods.prior import Prior
from fssplat.methods.sdaanet import SDAANet

__all__ = ["METHODS", "FewShotSegmenter", "build_method", "method_named", "methods_named"]

METHODS: dict[str, type[FewShotSegmenter]] = {
    "hmfs": HMFS,
    "hsnet": HSNet,
    "jc2a": JC2A,
    "mining": MiningFSS,
    "mmnet": MMNet,
    "panet": PANet,
    "pfenet": PFENet,
    "prior": Prior,
    "sdaanet": SDAANet,
}


def method_named(name: str) -> type[FewShotSegmenter]:
    """Return a method of the list above, or the class that `module:Class` names.

    Raises InputError if the name is not in the list, if the module cannot be imported, or if the
    class is not a method.
    """
    if ":" in name:
        return _imported(name)
    if name not in METHODS:
        raise InputError(f"method {name!r} is unknown. {known(name, METHODS)}")
    return METHODS[name]


def methods_named(names: Iterable[str]) -> dict[str, type[FewShotSegmenter]]:
    """Return the list above, extended by those `names` that are written as `module:Class`."""
    return {**METHODS, **{name: method_named(name) for name in names if ":" in name}}


def _imported(name: str) -> type[FewShotSegmenter]:
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), attribute]):
        raise InputError(
            f"method {name!r}: is not module:Class, as in my_module:MyMethod. Correct it."
        )
    if os.getcwd() not in sys.path:  # last, so that no file there replaces a package
        sys.path.append(os.getcwd())
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError as error:
        raise InputError(
            f"method {name!r}: {first_line(error)}. Install its package, or put its folder in "
            "PYTHONPATH."
        ) from error
    except (Exception, SystemExit) as error:  # of the module's own code, as it is imported
        show = command_line(["python", "-c", f"import {module}"])
        raise InputError(
            f"method {name!r}: the module {module} fails with {type(error).__name__}: "
            f"{first_line(error)}. `{show}` shows where; correct it."
        ) from error
    if not (isinstance(found, type) and issubclass(found, FewShotSegmenter)):
        raise InputError(
            f"method {name!r}: {module} has no class {attribute} that is a "
            "fssplat.methods.FewShotSegmenter. See docs/add-a-method.md."
        )
    return found


def build_method(spec: MethodSpec, backbone: BackboneSpec) -> FewShotSegmenter:
    """The network with its backbone built as the method needs it; the head by the current seed.

    Raises InputError for an unknown name or option, and for missing backbone weights.
    """
    method = method_named(spec.name)
    options = validate(method.Options, spec.options, f"{spec.name}.options")
    layout = method.backbone_layout(backbone.name, options)
    return method(build_backbone(backbone, layout), options)

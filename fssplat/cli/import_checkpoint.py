"""`fssplat import-checkpoint`: convert weights of a public implementation."""

from pathlib import Path
from typing import Any

import typer

from fssplat.common.errors import InputError
from fssplat.common.printing import say


def import_checkpoint(
    file: Path = typer.Argument(help="A .pth or .safetensors state dict of the public code."),
    method: str = typer.Option(help="Its method: hmfs, hsnet, mining, mmnet, pfenet or sdaanet."),
    backbone: str = typer.Option(help="Its backbone, e.g. resnet50_v2 for PFENet."),
    out: Path = typer.Option(help="Folder for head.safetensors and backbone.safetensors."),
    changes: list[str] = typer.Option(
        [],
        "--set",
        metavar="KEY=VALUE",
        help="An option of the method in that training: --set ckmm=true",
    ),
) -> None:
    """Convert published weights to safetensors files, and check every name and shape.

    fssplat import-checkpoint hsnet.pt --method hsnet --backbone resnet50 --out weights/hsnet
    """
    from safetensors.torch import save_file

    from fssplat.backbones.weights import read_state
    from fssplat.common.whole_files import write_whole
    from fssplat.engine import checkpoint
    from fssplat.experiment.schema import BackboneSpec, MethodSpec
    from fssplat.methods import METHODS, build_method
    from fssplat.methods.import_public import load_public, require_public

    require_public(method)
    state = read_state(file)
    preset = METHODS[method].PRESETS.get("public-code", {}).get("options", {})
    spec = MethodSpec(name=method, options={**preset, **parsed(changes)})
    network = build_method(spec, BackboneSpec(name=backbone, weights="random"))
    load_public(network, method, backbone, state, str(file))

    header = checkpoint.Header(key="imported", method=method, backbone=backbone, step=0, steps=0)
    learnt = {f"weights/{name}": value for name, value in checkpoint.weights(network).items()}
    body = {name: value.contiguous() for name, value in network.backbone.state_dict().items()}
    try:
        out.mkdir(parents=True, exist_ok=True)
        checkpoint.save(out / "head.safetensors", header, learnt)
        write_whole(out / "backbone.safetensors", lambda place: save_file(body, place))
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"--out {out}: cannot be written ({reason}). Choose another.") from error
    say(f"Wrote {len(learnt)} tensors of {method} to {out / 'head.safetensors'}")
    say(f"To score them, set training.checkpoint to {out / 'head.safetensors'}")
    say(f"and backbones.{backbone}.weights to {out / 'backbone.safetensors'}")


def parsed(changes: list[str]) -> dict[str, Any]:
    """Parse options: `bins=[60, 30]` -> {"bins": [60, 30]}.

    Raises InputError if an option is not KEY=VALUE, or the value is not YAML.
    """
    import yaml

    found = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise InputError(f"--set {change}: write key=value, e.g. --set ckmm=true.")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(
                f"--set {change}: {value} is not YAML. Close every bracket."
            ) from error
    return found

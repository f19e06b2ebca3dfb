"""`fssplat schema`: the JSON schema of an experiment file, for completion and checks in editors."""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fssplat.common.errors import InputError
from fssplat.common.printing import say

if TYPE_CHECKING:
    from pydantic import BaseModel

Schema = dict[str, Any]
TITLE = "Experiment of fssplat"
INTERPOLATION = {"type": "string", "pattern": r"\$\{"}  # such as ${oc.env:HOME}


def schema(
    out: Path | None = typer.Option(
        None, help="Write to this file.  [default: print it]", show_default=False
    ),
) -> None:
    """Print the JSON schema of experiment files: fssplat schema --out schema.json

    Editors with a YAML language server use the file that this line of an experiment names:
    # yaml-language-server: $schema=schema.json
    """
    from fssplat.common.whole_files import write_bytes

    text = json.dumps(experiment_schema(), indent=1) + "\n"
    if out is None:
        say(text, end="")
        return
    try:
        write_bytes(out, text.encode())
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"--out {out}: cannot be written ({reason}). Choose another.") from error
    say(f"Wrote {out}")


def experiment_schema() -> Schema:
    """JSON schema (draft 2020-12) of a file as people write it.

    Settings that a layer changes need not be complete: `training` may have one key. A file that
    extends another may lack everything.
    """
    from fssplat.experiment.protocols import PROTOCOLS, Protocol
    from fssplat.experiment.schema import ExperimentSpec, TrainingSpec
    from fssplat.search.space import Parameter, SearchSpec

    defs: Schema = {}
    whole = _partial(ExperimentSpec, defs)
    training, protocol = _partial(TrainingSpec, defs), _partial(Protocol, defs)
    defs |= {"TrainingSpec": training, "ProtocolChanges": protocol}
    _partial(Parameter, defs)
    search = _partial(SearchSpec, defs)
    search["properties"]["space"] = {"type": "object"}
    search["properties"]["training"] = {"$ref": "#/$defs/TrainingSpec"}
    defs["Search"] = search
    properties = whole["properties"]
    del properties["layers"]
    names = {"enum": list(PROTOCOLS)}
    properties["protocol"] = _about(
        {"anyOf": [names, {"$ref": "#/$defs/ProtocolChanges"}]}, properties["protocol"]
    )
    properties["search"] = _about({"$ref": "#/$defs/Search"}, properties["search"])
    for place in (properties, defs["MethodEntry"]["properties"], defs["Override"]["properties"]):
        place["training"] = _about({"$ref": "#/$defs/TrainingSpec"}, place["training"])
    defs["MethodEntry"] = {"anyOf": [{"type": "string"}, defs["MethodEntry"]]}
    properties |= {
        "extends": {"type": "string", "description": "another file whose settings are below"},
        "profile": {"type": "string", "description": "name of the profile to apply"},
        "profiles": {"type": "object", "description": "named settings that --set profile=... uses"},
    }
    for unused in ("Layer", "MethodChanges"):
        defs.pop(unused, None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": TITLE,
        **whole,
        "$defs": dict(sorted(defs.items())),
    }


def _partial(model: "type[BaseModel]", defs: Schema) -> Schema:
    """The schema of a spec in which nothing is required; specs inside it are put into `defs`."""
    from fssplat.experiment.describe import comments

    made = deepcopy(model.model_json_schema())
    inner = {one.__name__: one for one in _specs_in(model)}
    for name, one in made.pop("$defs", {}).items():
        defs.setdefault(name, _written(one, comments(inner[name]) if name in inner else {}))
    return _written(made, comments(model))


def _written(made: Schema, meanings: Mapping[str, str]) -> Schema:
    """Without what only Python needs; each setting has its meaning, and may be ${...}."""
    made = {key: value for key, value in made.items() if key not in ("title", "required")}
    made.pop("description", None)
    for name, entry in made.get("properties", {}).items():
        entry.pop("title", None)
        kinds = entry.get("anyOf", [entry])
        if not any(one.get("type") == "string" or "$ref" in one for one in kinds):
            default = {"default": entry.pop("default")} if "default" in entry else {}
            entry = {"anyOf": [*entry.get("anyOf", [entry]), INTERPOLATION], **default}
        if meanings.get(name):
            entry["description"] = meanings[name]
        made["properties"][name] = entry
    return made


def _specs_in(model: "type[BaseModel]") -> "list[type[BaseModel]]":
    """The spec and all specs inside it."""
    from typing import get_args

    from pydantic import BaseModel

    found: list[type[BaseModel]] = []

    def visit(kind: Any) -> None:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if kind not in found:
                found.append(kind)
                for field in kind.model_fields.values():
                    visit(field.annotation)
            return
        for argument in get_args(kind):
            visit(argument)

    visit(model)
    return found


def _about(entry: Schema, described: Mapping[str, Any]) -> Schema:
    text = described.get("description")
    return {**entry, "description": text} if text else entry

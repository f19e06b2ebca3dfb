"""How the numbers were made: code, machines, packages, data, protocol, and every command."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from fssplat.common.json_files import json_object
from fssplat.experiment.protocols import PROTOCOLS, Protocol
from fssplat.report.document.content import Code, Line, Part, Section, Table, Text, text_headings
from fssplat.report.evidence.gather import Evidence
from fssplat.report.sections.labels import short_title
from fssplat.results.reading import content

DEFAULT = PROTOCOLS["fssplat"]
IMPORTANT = (  # packages that are named; report.json of a launch has all of them
    "torch", "torchvision", "numpy", "timm", "ray", "pillow", "safetensors", "pyarrow",
)  # fmt: skip


def provenance(evidence: Evidence) -> Section:
    """The last chapter."""
    launches = recorded_launches(evidence)
    commands = [source.command for source in evidence.sources]
    typed = [str(one["command"]) for one in launches.values() if one.get("command")]
    parts: list[Part] = [
        Code("\n".join(dict.fromkeys([*commands, *typed])), "Commands"),
        launch_table(launches),
        protocol_table(evidence),
        data_table(evidence),
        rows_table(evidence),
        Text(checklist(evidence, launches)),
    ]
    return Section("provenance", "How it was made", tuple(parts))


def recorded_launches(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """What the store recorded of each launch that made a result: environment and command."""
    found: dict[str, dict[str, Any]] = {}
    for source in evidence.sources:
        mine = [one for one in source.trials if one in evidence.results]
        ids = {str(evidence.results[one].about.get("launch") or "") for one in mine}
        names = [f"launches/{one}/{file}.json" for one in sorted(ids) if one.isprintable() and one
                 and "/" not in one for file in ("environment", "command")]  # fmt: skip
        files = source.store.files.read_many(names)
        for launch in sorted(filter(None, ids)):
            merged = {
                key: value
                for file in ("environment", "command")
                for key, value in _object(files.get(f"launches/{launch}/{file}.json")).items()
            }
            found[launch] = merged
    return found


def launch_table(launches: Mapping[str, Mapping[str, Any]]) -> Table:
    """One line per launch."""
    lines = []
    for launch, facts in launches.items():
        gpus = facts.get("gpus")
        machine = [f"{facts.get('cores', '?')} cores", _gigabytes(facts.get("memory_bytes"))]
        machine += [str(gpu) for gpu in gpus] if isinstance(gpus, list) else []
        diff = str(facts.get("uncommitted") or "")
        changes = hashlib.sha256(diff.encode()).hexdigest()[:8] if diff else "none"
        packages = facts.get("packages")
        known = packages if isinstance(packages, dict) else {}
        listed = ", ".join(f"{one} {known[one]}" for one in IMPORTANT if one in known)
        commit = str(facts.get("commit") or "not recorded")
        python = str(facts.get("python", "?"))
        lines.append(Line((launch, commit, changes, ", ".join(machine), python, listed)))
    texts = ("launch", "commit", "uncommitted changes", "machine", "Python", "packages")
    return Table(
        name="launches",
        caption="The launches that made these results. Uncommitted changes are named by the first "
        "8 digits of their SHA-256; the store has them in launches/<launch>/environment.json.",
        headings=text_headings(*texts),
        lines=tuple(lines),
    )


def protocol_table(evidence: Evidence) -> Table:
    """The axes of each protocol that differ from the default."""
    protocols = {one.protocol.hash: one.protocol for one in evidence.trials.values()}
    lines = [
        Line((f"{protocol.name} ({key})", axis, here, default))
        for key, protocol in sorted(protocols.items())
        for axis, here, default in changed_axes(protocol)
    ]
    texts = "protocol", "axis", "here", "default"
    return Table(
        name="protocols",
        caption="Axes of the protocol that differ from the default protocol `fssplat`"
        + ("." if lines else ": none."),
        headings=text_headings(*texts),
        lines=tuple(lines),
    )


def changed_axes(protocol: Protocol) -> Iterator[tuple[str, str, str]]:
    """Axis, its value here, and its default."""
    for axis in sorted(type(protocol).model_fields):
        here, default = getattr(protocol, axis), getattr(DEFAULT, axis)
        if axis != "name" and here != default:
            yield axis, str(here), str(default)


def data_table(evidence: Evidence) -> Table:
    """Fingerprints of the data sets and weights that the trials read."""
    found = {name: key for source in evidence.sources for name, key in source.fingerprints.items()}
    lines = [Line((name, key)) for name, key in sorted(found.items()) if not name.startswith("/")]
    return Table(
        name="data",
        caption="Fingerprints of data sets, lists and weights: equal fingerprints mean equal "
        "content." + ("" if lines else " They cannot be computed on this machine."),
        headings=text_headings("name", "fingerprint"),
        lines=tuple(lines),
    )


def rows_table(evidence: Evidence) -> Table:
    """Where each row comes from: its trials and launches."""
    lines = []
    for block in evidence.blocks:
        for row in block.rows:
            ids = " ".join(cell.trial_id for cell in row.cells)
            about = [cell.result.about for cell in row.cells]
            launches = sorted({str(one.get("launch") or "not recorded") for one in about})
            sources = sorted({str(one.get("source") or "not recorded") for one in about})
            texts = (" ".join(launches), " ".join(sources), ids)
            lines.append(Line((short_title(block), row.method, row.backbone, *texts)))
    names = "table", "method", "backbone", "launches", "source code", "trials"
    return Table(
        name="rows",
        caption="The trials of every row, the launches that ran them, and the hash of the source "
        "code that scored them.",
        headings=text_headings(*names),
        lines=tuple(lines),
    )


def checklist(evidence: Evidence, launches: Mapping[str, Mapping[str, Any]]) -> str:
    """A paragraph for a reproducibility checklist such as that of NeurIPS."""
    trials = list(evidence.trials.values())
    seeds = sorted({trial.training.seed for trial in trials if trial.training.steps != 0})
    draws = sorted({seed for trial in trials for seed in trial.protocol.episode_seeds})
    counts = sorted({trial.protocol.episode_count(trial.dataset.name) for trial in trials})
    commits = sorted(
        {str(one.get("commit"))[:12] for one in launches.values() if one.get("commit")}
    )
    devices = sorted({str(one.about.get("device", "?")) for one in evidence.results.values()})
    return (
        "For a reproducibility checklist: every number comes from the stored test episodes of the "
        f"trials listed above ({_listed(counts)} episodes per episode seed; episode seeds "
        f"{_listed(draws)}; training seeds {_listed(seeds) or 'none'}). Base classes are trained "
        "on, novel classes only tested. Intervals: symmetric bootstrap-t over query images, paired "
        "on the same episodes, and Student's t over classes. The store has every setting. "
        f"Code: commit {_listed(commits) or 'not recorded'}. Devices: {_listed(devices)}."
    )


def _listed(values: list[Any]) -> str:
    return ", ".join(map(str, values))


def _gigabytes(value: Any) -> str:
    return f"{value / 2**30:.0f} GiB" if isinstance(value, int | float) else "memory unknown"


def _object(data: bytes | OSError | None) -> dict[str, Any]:
    try:
        return json_object(content(data)) if data is not None else {}
    except ValueError:
        return {}

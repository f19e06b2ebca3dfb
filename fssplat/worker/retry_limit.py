"""How often a job may lose its worker: without limit while it gets further, a few times where not.

A machine that is taken away again and again must not fail a long training that resumes each time,
and a job that kills every worker at the same place must not keep a cluster busy for ever.
"""

import json
from pathlib import Path

from fssplat.experiment.schema import digest
from fssplat.results.store import Store

NOTES = ("lives.json", "error.txt")


def deaths(store: Store, key: str, launch: str, folder: Path, trials: int) -> int:
    """How many attempts of this launch have died in a row where this one is about to start.

    An attempt got further when `folder` has other files than before, such as a new checkpoint, or
    when fewer `trials` are left. Counts this attempt as a death until `survived` is called.
    """
    place = digest(_names(folder), trials)
    before = _note(store, key)
    same = before.get("launch") == launch and before.get("place") == place
    count = int(str(before["deaths"])) if same else 0
    note = {"launch": launch, "place": place, "deaths": count + 1}
    store.files.write(_name(key), json.dumps(note).encode())
    return count


def survived(store: Store, key: str) -> None:
    """The attempt came to an end of its own."""
    store.files.delete(_name(key))


def _names(folder: Path) -> list[str]:
    """Of what the job has left so far, half-written files and our own notes apart."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*"))
    return sorted(name for name in found if name not in NOTES)


def _name(key: str) -> str:
    return f"jobs/{key}/lives.json"


def _note(store: Store, key: str) -> dict[str, object]:
    data = store.files.read(_name(key))
    try:
        note = json.loads(data) if data else {}
    except ValueError:
        return {}
    return note if isinstance(note, dict) and {"launch", "place", "deaths"} <= set(note) else {}

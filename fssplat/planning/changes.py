"""What has changed since a result was made: the commit, Python, packages and modules."""

from collections.abc import Iterator, Mapping
from typing import Any

from fssplat.common.json_files import json_object
from fssplat.experiment.trial import Trial
from fssplat.results import environment
from fssplat.results.reading import content
from fssplat.results.records import Result
from fssplat.results.source_code import changed_modules
from fssplat.results.store import Store


def changes_since(store: Store, trial: Trial, result: Result) -> Iterator[str]:
    """One line for each difference between the recorded environment and today's."""
    launch = str(result.about.get("launch") or "none")
    then = _recorded(store, launch)
    if not then:
        yield "its environment was not recorded"
    for name, now in (("commit", environment.commit()), ("python", environment.python())):
        if then.get(name, now) != now:
            yield f"{name}: {then[name] or 'none'} -> {now or 'none'}"
    packages: Any = then.get("packages")
    if isinstance(packages, Mapping):
        now_packages = environment.packages()
        for name in sorted({*packages, *now_packages}):
            before, now = packages.get(name, "none"), now_packages.get(name, "none")
            if before != now:
                yield f"package {name}: {before} -> {now}"
    modules = changed_modules(store, result, trial)
    if modules is None:
        yield "its source code was not recorded"
    else:
        yield from (f"source {module}" for module in modules)


def _recorded(store: Store, launch: str) -> dict[str, Any]:
    found = store.files.read_many([f"launches/{launch}/environment.json"])
    try:
        return json_object(content(next(iter(found.values()), b"")))
    except ValueError:
        return {}

"""The source code that can change a method's numbers, as one hash per method.

A hash covers the syntax trees of the method's module and of all modules that it and the engine
import, also indirectly. Comments, docstrings and the layout of the text change no hash. Modules are
found by their import statements; none is imported.
"""

import ast
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import fssplat
from fssplat.common.json_files import json_object
from fssplat.common.whole_files import replacing, write_json
from fssplat.data.cache import cache_folder
from fssplat.experiment.trial import Job, Trial
from fssplat.results.reading import content
from fssplat.results.records import Result
from fssplat.results.store import Store

SCORING = ("fssplat.engine.run",)  # what runs a job; it includes the training
TRAINING = ("fssplat.engine.training.loop", "fssplat.engine.job_data", "fssplat.engine.network")
SELECTING = ("fssplat.engine.scoring", "fssplat.engine.training.selection")
REGISTRY = "fssplat.methods"  # imports every method; only the rest of its code counts
OMITTED = ("type_comment", "type_ignores", "type_params", "kind", "ctx")  # of a syntax tree
RECENT_S = 2.0  # a file that changed this recently may change again within one clock tick
SOURCE, WEIGHTS = "source.json", "weights.safetensors"  # in the folder of a job
INSTALLED = ("site-packages", "dist-packages")

Freshness = Literal["current", "stale", "unknown"]


@dataclass(frozen=True)
class SourceCode:
    """The modules that a method's numbers depend on, each with the hash of its syntax tree."""

    modules: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """The hash of all modules; empty if the source of one cannot be read."""
        if not all(self.modules.values()):
            return ""
        text = json.dumps(dict(self.modules), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def scoring_source(method: str) -> SourceCode:
    """The source that can change a result of a method, which can be `module:Class`."""
    return _source(method, SCORING, ())


@cache
def training_source(method: str, selection: str = "last") -> SourceCode:
    """The source that can change the weights that a method learns.

    The code of scoring is part of it only if scores select the weights.
    """
    return _source(method, TRAINING, () if selection != "last" else SELECTING)


def freshness(trial: Trial, result: Result) -> Freshness:
    """Whether today's source is that of the result: `unknown` if its hash was not recorded."""
    name = trial.method.name
    pairs = [(result.about.get("source"), scoring_source(name).digest)]
    if trial.training.steps != 0:
        today = training_source(name, trial.protocol.selection).digest
        pairs.append((result.about.get("training_source"), today))
    if any(then and now and then != now for then, now in pairs):
        return "stale"
    return "current" if all(then and now for then, now in pairs) else "unknown"


# ------------------------------------------------------------------ the records of a job


def record_training_source(job: Job, folder: Path) -> None:
    """Write the hash of the training's source into the job's folder, before its first step.

    A training that goes on from a checkpoint keeps the hash of the attempt that began it; one that
    failed before its first checkpoint begins anew. Weights of unknown source get none.
    """
    begun = (folder / WEIGHTS).exists() or any((folder / "checkpoints").glob("*"))
    if job.trains and not begun:
        source = training_source(job.first.method.name, job.first.protocol.selection)
        write_json(folder / SOURCE, {"source": source.digest, "modules": dict(source.modules)})


def recorded_source(store: Store, key: str, trial: Trial) -> dict[str, str]:
    """The hashes to record beside a new result of a job. Lists their modules in the store."""
    source = scoring_source(trial.method.name)
    found = {"source": source.digest}
    name = f"sources/{source.digest}.json"
    if source.digest and store.files.read(name) is None:
        store.files.write(name, json.dumps(dict(source.modules), indent=1).encode())
    if trial.training.steps != 0:
        found["training_source"] = _training_record(store, key).get("source", "")
    return found


def weights_are_stale(store: Store, job: Job) -> bool:
    """Whether a job has weights, or checkpoints, that today's source did not make."""
    today = training_source(job.first.method.name, job.first.protocol.selection).digest
    return job.trains and _training_record(store, job.key).get("source", "") != today


def changed_modules(store: Store, result: Result, trial: Trial) -> tuple[str, ...] | None:
    """The modules that differ from those of a result; None if its modules were not recorded."""
    name, key = trial.method.name, str(result.about.get("job", ""))
    data = store.files.read_many([f"sources/{result.about.get('source') or 'none'}.json"])
    try:
        then = json_object(content(next(iter(data.values()), b"")))
    except ValueError:
        return None
    changed = _differences(then, scoring_source(name).modules)
    training = _training_record(store, key) if trial.training.steps != 0 and key else {}
    if training.get("source") == result.about.get("training_source") and training:
        now = training_source(name, trial.protocol.selection).modules
        changed |= _differences(training.get("modules", {}), now)
    return tuple(sorted(changed))


def _differences(then: Mapping[str, Any], now: Mapping[str, str]) -> set[str]:
    return {name for name in {*then, *now} if then.get(name) != now.get(name)}


def _training_record(store: Store, key: str) -> dict[str, Any]:
    data = store.files.read_many([f"jobs/{key}/{SOURCE}"])
    try:
        record = json_object(content(next(iter(data.values()), b"")))
    except ValueError:
        return {}
    whole = isinstance(record.get("source"), str) and isinstance(record.get("modules"), dict)
    return record if whole else {}


# ------------------------------------------------------------------ modules and their imports


class _Module(NamedTuple):
    digest: str
    imports: tuple[str, ...]  # names that may be modules, and names in modules


def _source(method: str, roots: tuple[str, ...], without: tuple[str, ...]) -> SourceCode:
    name = method.partition(":")[0] if ":" in method else _module_of(method)
    folders, cached = _Folders(name), _cache()
    found: dict[str, str] = {}
    waiting = [name, *roots]
    while waiting:
        module = waiting.pop()
        if module in found or module.startswith(without):
            continue
        path = folders.file(module)
        if path is None and module != name:
            continue
        read = cached.module(module, path) if path is not None else _Module("", ())
        found[module] = read.digest
        waiting += _parents(module)
        waiting += [known for known in map(folders.module, read.imports) if known]
    cached.save()
    return SourceCode(dict(sorted(found.items())))


def _module_of(method: str) -> str:
    from fssplat.methods import method_named

    return method_named(method).__module__


def _parents(module: str) -> Iterator[str]:
    parts = module.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts)))


class _Folders:
    """The folders whose modules count: this package's, and that of a method outside it."""

    def __init__(self, method: str) -> None:
        self._packages = {"fssplat": Path(fssplat.__file__).resolve().parent.parent}
        top = method.partition(".")[0]
        self._beside: Path | None = None
        if top != "fssplat" and (place := _folder_of(top)) is not None:
            self._packages[top] = place
            self._beside = None if place.name in INSTALLED else place  # its neighbours count, too

    def file(self, module: str) -> Path | None:
        """The file of a module that counts; None for any other name."""
        folder = self._packages.get(module.partition(".")[0], self._beside)
        return _file_in(str(folder), module) if folder is not None else None

    def module(self, name: str) -> str:
        """The module that an imported name is, or is defined in; empty if it does not count."""
        if self.file(name) is not None:
            return name
        parent = name.rpartition(".")[0]
        return parent if parent and self.file(parent) is not None else ""


@cache
def _file_in(folder: str, module: str) -> Path | None:
    stem = os.path.join(folder, *module.split("."))
    candidates = (f"{stem}.py", os.path.join(stem, "__init__.py"))
    return next((Path(path) for path in candidates if os.path.isfile(path)), None)


def _folder_of(package: str) -> Path | None:
    """The folder in which a top-level module or package is."""
    loaded = sys.modules.get(package)
    file = getattr(loaded, "__file__", None)
    try:
        spec = find_spec(package) if file is None else None
    except (ImportError, ValueError):
        return None
    file = file or (spec.origin if spec is not None else None)
    if file is None or not file.endswith(".py"):
        return None
    path = Path(file).resolve()
    return path.parent.parent if path.name == "__init__.py" else path.parent


def _read_module(module: str, path: Path) -> _Module:
    data = path.read_bytes()
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):
        return _Module(hashlib.sha256(data).hexdigest()[:16], ())
    is_package = path.name == "__init__.py"
    if module == REGISTRY:
        tree.body = [node for node in tree.body if not _lists_methods(node)]
    imports = tuple(dict.fromkeys(_imports(tree, module, is_package)))
    parts: list[str] = []
    _serialise(tree, parts)
    digest = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return _Module(digest, imports)


def _lists_methods(node: ast.stmt) -> bool:
    """Whether a statement of the registry imports or lists methods."""
    names = [ast.unparse(target) for target in getattr(node, "targets", [])]
    names += [ast.unparse(node.target)] if isinstance(node, ast.AnnAssign) else []
    imported = isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{REGISTRY}.")
    return bool({"METHODS", "__all__"} & set(names)) or (
        imported and getattr(node, "module", "") != f"{REGISTRY}.base"
    )


def _imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Every name that is imported anywhere in a module, also inside functions."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _serialise(node: ast.AST, parts: list[str]) -> None:
    """Append a syntax tree as text without positions, docstrings and empty fields.

    `ast.dump` is slower, and what it prints depends on the version of Python.
    """
    parts.append(type(node).__name__)
    for field in node._fields:
        value = getattr(node, field, None)
        if value is None or field in OMITTED:
            continue
        if isinstance(value, ast.AST):
            parts.append(field)
            _serialise(value, parts)
        elif isinstance(value, list):
            items = value[1:] if field == "body" and _has_docstring(node, value) else value
            parts.append(f"{field} {len(items)}")
            for item in items:
                if isinstance(item, ast.AST):
                    _serialise(item, parts)
                else:
                    parts.append(repr(item))
        else:
            parts.append(f"{field} {value!r}")


def _has_docstring(node: ast.AST, body: list[Any]) -> bool:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    if not isinstance(node, documented) or not body or not isinstance(body[0], ast.Expr):
        return False
    value = body[0].value
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


class _Cache:
    """Hashes of files from earlier processes: parsing all of them takes about a second."""

    def __init__(self) -> None:
        version = "".join(map(str, sys.version_info[:2]))
        self._path = cache_folder() / f"source-{version}-{_own_digest()}.json"
        self._known, self._changed = self._load(), False
        self._read: dict[str, _Module] = {}  # in this process

    def module(self, module: str, path: Path) -> _Module:
        if module not in self._read:
            self._read[module] = self._from_disk(module, path)
        return self._read[module]

    def _from_disk(self, module: str, path: Path) -> _Module:
        try:
            facts = path.stat()
            key = [facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino]
            name = f"{module} {path}"
            known = self._known.get(name)
            if known is not None and known[0] == key:
                return _Module(known[1], tuple(known[2]))
            read = _read_module(module, path)
        except OSError:
            return _Module("", ())
        if time.time() - facts.st_ctime > RECENT_S:
            self._known[name] = [key, read.digest, list(read.imports)]
            self._changed = True
        return read

    def save(self) -> None:
        if not self._changed:
            return
        self._changed = False
        try:
            with replacing(self._path) as temporary:
                temporary.write_text(json.dumps(self._known))
        except OSError:
            return  # a cache that cannot be written costs time only

    def _load(self) -> dict[str, Any]:
        try:
            known = json.loads(self._path.read_text())
            return {name: [key, digest, imports] for name, (key, digest, imports) in known.items()}
        except (OSError, ValueError, AttributeError, TypeError, RecursionError):
            return {}


@cache
def _cache() -> _Cache:
    return _Cache()


@cache
def _own_digest() -> str:
    """Changes when this module does, and then the cache of its former version is not used."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]

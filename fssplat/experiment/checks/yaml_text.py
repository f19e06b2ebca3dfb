"""Reads YAML that may be damaged or hostile: each damage is one line that says where it is."""

import re
from typing import Any

MOST_CHARACTERS = 2_000_000
MOST_NESTED = 30  # lists and mappings inside one another; libyaml overruns its stack at 50,000
# Parts of PyYAML's and OmegaConf's messages -> what they mean.
CLEARER = {
    "no viable alternative": "a ${...} that cannot be read",
    "not a supported primitive": "a set, a date or another value that no setting has",
    "Incompatible key type": "a key that is not a name",
    "cannot start any token": "a tab or another character that YAML does not allow here",
    "found another document": "a second document begins here; a file has one",
    "could not determine a constructor": "a tag (!...) that is not plain YAML",
    "recursive aliases": "an alias that contains itself",
    "aliases expand": "aliases (*...) that repeat too many values",
}
SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
OCTAL = re.compile(r"[-+]?0[0-7_]+")
# OmegaConf's limit, which stops texts whose aliases (`*name`) repeat each other.
TOO_MANY = re.compile(r"node expansion exceeds the configured limit of (\d+)")
PLAIN = (str, int, float, bool, type(None))


class YamlError(ValueError):
    """Says in one line what is wrong with a YAML text, after its line and column if known."""

    def __init__(self, problem: str, remedy: str = "Fix the YAML there.") -> None:
        super().__init__(problem)
        self.remedy = remedy


def yaml_value(text: str) -> Any:
    """The mapping, list or scalar of a YAML text; None if it is empty.

    Raises YamlError, also for a text that is nested so deeply that a parser could crash, and for
    values that no setting has, such as dates and sets.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if len(text) > MOST_CHARACTERS:
        raise YamlError(f"{len(text):,} characters; settings have at most {MOST_CHARACTERS:,}")
    try:
        _check_events(text)
        values = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        found = ascii(chr(error.character)) if isinstance(error.character, int) else "a character"
        raise YamlError(f"line {line}, column {column}: {found} is not allowed in YAML") from error
    except yaml.YAMLError as error:
        limit = TOO_MANY.search(str(error))
        if limit:
            raise YamlError(
                f"more than {limit[1]} values, counted with those that aliases repeat",
                "Give fewer values.",
            ) from error
        raise YamlError(_placed(error, _clearer(error))) from error
    except YamlError:
        raise
    except OmegaConfBaseException as error:
        key = str(error.full_key or "").removeprefix("value").removeprefix(".")
        raise YamlError(f"{key}: {_clearer(error)}".removeprefix(": ")) from error
    except ValueError as error:  # a number of more digits than Python reads
        raise YamlError("a number has more than 4,300 digits") from error
    assert isinstance(values, dict)
    value = values["value"]
    _check_plain(value, "")
    return value


def _check_events(text: str) -> None:
    """Raises YamlError for more than MOST_NESTED levels, and for a number that YAML reads as
    another one than it looks like. Events need no recursion."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        problem = ""
        if depth > MOST_NESTED:
            problem = f"more than {MOST_NESTED} lists and mappings inside one another"
        elif isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
            problem = _misread(event.value)
        if problem:
            raise YamlError(_at(event.start_mark, problem))


def _misread(text: str) -> str:
    """What is wrong with an unquoted 1:30, which YAML reads as 90, or 010, which it reads as 8."""
    number = SEXAGESIMAL.fullmatch(text) or OCTAL.fullmatch(text)
    base = "60" if ":" in text else "8"
    return (
        f"{text} would be read in base {base}. Quote it, or write a plain number" if number else ""
    )


def _placed(error: Any, problem: str) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return _at(mark, problem) if mark else problem


def _at(mark: Any, problem: str) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _clearer(error: Any) -> str:
    problem = str(getattr(error, "problem", None) or error).strip().partition("\n")[0]
    for part, meaning in CLEARER.items():
        if part in problem:
            return meaning
    return problem.rstrip(".")


def _check_plain(value: Any, name: str) -> None:
    """Raises YamlError for a value or a key that is not a plain one."""
    where = name or "the whole"
    if isinstance(value, list):
        for place, item in enumerate(value):
            _check_plain(item, f"{name}[{place}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, PLAIN):
                raise YamlError(f"{where}: a key is a {type(key).__name__}; a key is a name")
            _check_characters(str(key), f"a key of {where}")
            _check_plain(item, f"{name}.{key}".removeprefix("."))
    elif isinstance(value, str):
        _check_characters(value, where)
    elif not isinstance(value, PLAIN):
        kind = {"bytes": "binary text"}.get(type(value).__name__, f"a {type(value).__name__}")
        raise YamlError(
            f"{where}: {kind}; a setting is a text, a number, true, false, a list or a mapping"
        )


def _check_characters(text: str, where: str) -> None:
    """Raises YamlError for NUL, which no path has, and for half of a surrogate pair."""
    if "\0" in text:
        raise YamlError(f"{where}: a NUL character (\\0)")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise YamlError(f"{where}: {text[error.start]!a} is no character") from error

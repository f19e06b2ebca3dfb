"""`--class`: which of the annotated classes to look for, and how they are called.

cat            the class cat, or the name of the only class if it has none
red=cat        the pixels of this colour, grey value or class are called cat
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from PIL import ImageColor

from fssplat.common.errors import InputError
from fssplat.common.similar import known

UNNAMED = "object"  # the only class of masks without names


@dataclass(frozen=True)
class ClassChoice:
    """Classes that a person has chosen."""

    names: Mapping[str, str]  # value or class as annotated -> what it is called
    alone: tuple[str, ...] = ()  # names without a value

    def __bool__(self) -> bool:
        return bool(self.names or self.alone)

    def resolved(self, found: Iterable[str], where: str) -> dict[str, str]:
        """Annotated class -> name, of the chosen ones; all of them if none is chosen.

        `found` are the classes of all supports: names, or values of masks without names. Raises
        InputError for a choice that is not there, and for several classes without names.
        """
        found = list(dict.fromkeys(found))
        values = [name for name in found if is_value(name)]
        chosen = {_as_found(value, found): name for value, name in self.names.items()}
        chosen |= {name: name for name in self.alone if name in found}
        missing = [name for name in self.alone if name not in found]
        if len(found) == len(values) == 1 and len(missing) <= 1 and not self.names:
            return {found[0]: missing[0] if missing else UNNAMED}
        absent = [name for name in chosen if name not in found]
        if missing or absent:
            wrong = (missing or absent)[0]
            raise InputError(f"--class {wrong}: not in {where}. {known(wrong, found)}")
        if values and not chosen:
            raise InputError(
                f"{where}: the masks have the values 0, {', '.join(values[:8])}: several classes "
                f"without names. Name those to look for, as in --class '{values[0]}=cat'."
            )
        return chosen or {name: name for name in found}


EVERY_CLASS = ClassChoice({})


def parsed_choice(texts: Iterable[str]) -> ClassChoice:
    """--class as typed. Raises InputError for an empty name, or for one that is used twice."""
    names: dict[str, str] = {}
    alone: list[str] = []
    for text in texts:
        value, equals, name = text.partition("=")
        if not value.strip() or (equals and not name.strip()):
            raise InputError(f"--class {text}: write a name, or a value and a name: red=cat.")
        if equals:
            names[value.strip()] = name.strip()
        else:
            alone.append(value.strip())
    twice = [name for name in alone if alone.count(name) > 1]
    if twice:
        raise InputError(f"--class {twice[0]}: given twice. Leave one out.")
    return ClassChoice(names, tuple(alone))


def is_value(name: str) -> bool:
    """Whether a class is called by a grey value or a colour, since nobody has named it."""
    return name == "opaque" or name.isdecimal() or (name.startswith("#") and len(name) == 7)


def _as_found(value: str, found: Iterable[str]) -> str:
    """The value as masks have it: `red` is #ff0000."""
    if value in found:
        return value
    try:
        red, green, blue = ImageColor.getrgb(value)[:3]
    except ValueError:
        return value
    return f"#{red:02x}{green:02x}{blue:02x}"

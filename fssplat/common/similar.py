"""Finds the known name that a mistyped one stands for: "Did you mean training.lr?"."""

from collections.abc import Iterable

FEWEST_SHARED = 3  # characters that a name and its longer form share, as `coco` and `coco-20i`
MOST = 3  # names in one hint
MOST_MISTAKES = 10  # more are never of interest


def known(given: object, names: Iterable[str]) -> str:
    """`Did you mean resnet50? Known: resnet50, vgg16.`, for the end of a message."""
    listed = list(names)
    hint = did_you_mean(given, listed)
    return f"{hint + ' ' if hint else ''}Known: {', '.join(listed) or 'none'}."


def did_you_mean(given: object, names: Iterable[str]) -> str:
    """`Did you mean resnet50?`; empty if no known name is similar enough."""
    found = similar(str(given), names)
    if not found:
        return ""
    *first, last = found
    return f"Did you mean {', '.join(first) + ' or ' if first else ''}{last}?"


def similar(given: str, names: Iterable[str]) -> list[str]:
    """The known names that `given` may stand for, at most three; empty if none is similar enough.

    In order: the same apart from case and punctuation, the last part of a dotted name (`steps` for
    `training.steps`), one typing mistake, a name that begins with the other, a few mistakes, and
    initials (`learning_rate` for `lr`).
    """
    names = list(dict.fromkeys(names))
    wanted, leaf = _letters(given), _letters(given.rpartition(".")[2])
    if not leaf:
        return []
    same = [name for name in names if _letters(name) == wanted]
    inside = [name for name in names if _letters(name.rpartition(".")[2]) == leaf]
    return (
        same[:1]
        or _within(given, inside)[:MOST]
        or _nearest(given, leaf, names, most=1)[:1]
        or _longer_or_shorter(given, leaf, names)[:MOST]
        or _nearest(given, leaf, names, most=len(leaf))[:1]
        or _initials(given, names)[:1]
    )


def _within(given: str, names: list[str]) -> list[str]:
    """The names in the same section, or else all, those that are least deep first."""
    section = given.rpartition(".")[0]
    here = [name for name in names if section and name.rpartition(".")[0] == section]
    return here or sorted(names, key=lambda name: name.count("."))


def _nearest(given: str, leaf: str, names: list[str], most: int) -> list[str]:
    """Names whose last part is a few typing mistakes away: first those in the same section, then
    those with the fewest mistakes, then longer and shorter forms (`training` for `trainin`)."""
    section, limit = given.rpartition(".")[0].lower(), min(most, allowed(leaf))
    ranked = []
    for name in names:
        above, _, last = name.rpartition(".")
        count = mistakes(leaf, _letters(last))
        if count > limit and section and name.count(".") == given.count("."):
            count = mistakes(_letters(given), _letters(name))  # the mistake may be in the section
        if count <= limit:
            short, long = sorted((leaf, _letters(last)), key=len)
            other_form = not long.startswith(short)
            ranked.append((above.lower() != section, count, other_form, name.count("."), name))
    return [name for *_, name in sorted(ranked, key=lambda item: item[:4])]


def _longer_or_shorter(given: str, leaf: str, names: list[str]) -> list[str]:
    found = []
    for name in names:
        last = _letters(name.rpartition(".")[2])
        short, long = sorted((leaf, last), key=len)
        if len(short) >= FEWEST_SHARED and long.startswith(short):
            found.append(name)
    return _within(given, found)


def _initials(given: str, names: list[str]) -> list[str]:
    words = given.rpartition(".")[2].lower().replace("-", "_").split("_")
    first = "".join(word[:1] for word in words)
    return [name for name in names if len(words) > 1 and name.rpartition(".")[2] == first]


def allowed(text: str) -> int:
    """Typing mistakes that a name of this length may have: 1, or more from 6 characters on."""
    return 1 if len(text) < 6 else 2 if len(text) < 10 else 3


def mistakes(one: str, other: str) -> int:
    """Characters added, left out, replaced, or swapped with their neighbour.

    The restricted Damerau-Levenshtein distance. A name of one or two characters allows swaps only,
    because each replacement would make another such name.
    """
    longer = abs(len(one) - len(other))
    if longer > MOST_MISTAKES:
        return longer  # at least; the table below would be as large as both texts together
    if len(one) <= 2 and sorted(one) != sorted(other):
        return max(len(one), len(other), 2)
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, right in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (left != right))
            swapped = i > 1 and j > 1 and left == other[j - 2] and one[i - 2] == right
            row.append(min(cost, last[j - 2] + 1) if swapped else cost)
    return row[-1]


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())

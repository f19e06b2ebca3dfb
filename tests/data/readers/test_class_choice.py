"""`--class`: names, values and colours, and what is refused."""

import pytest

from fssplat.common.errors import InputError
from fssplat.data.readers.class_choice import parsed_choice


@pytest.mark.parametrize(
    ("typed", "found", "names"),
    [
        ([], ["255"], {"255": "object"}),
        (["cat"], ["255"], {"255": "cat"}),
        ([], ["cat", "dog"], {"cat": "cat", "dog": "dog"}),
        (["dog"], ["cat", "dog"], {"dog": "dog"}),
        (["red=cat"], ["#ff0000", "#00ff00"], {"#ff0000": "cat"}),
        (["#00ff00=dog", "red=cat"], ["#ff0000", "#00ff00"], {"#00ff00": "dog", "#ff0000": "cat"}),
        (["1=cat", "2=cat"], ["1", "2", "3"], {"1": "cat", "2": "cat"}),
        (["person=human"], ["person", "dog"], {"person": "human"}),
    ],
)
def test_classes_are_named_and_chosen(
    typed: list[str], found: list[str], names: dict[str, str]
) -> None:
    assert parsed_choice(typed).resolved(found, "refs") == names


@pytest.mark.parametrize(
    ("typed", "found", "message"),
    [
        ([], ["1", "2"], r"refs: the masks have the values 0, 1, 2: .* --class '1=cat'"),
        (["cot"], ["cat", "dog"], r"--class cot: not in refs\. Did you mean cat\?"),
        (["blue=cat"], ["#ff0000", "#00ff00"], r"--class #0000ff: not in refs"),
        (["cat", "dog"], ["255"], r"--class cat: not in refs"),
    ],
)
def test_a_choice_that_cannot_be_right_is_one_line(
    typed: list[str], found: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        parsed_choice(typed).resolved(found, "refs")


@pytest.mark.parametrize("typed", [["=cat"], ["red="], ["cat", "cat"]])
def test_a_choice_without_a_name_or_given_twice_is_refused(typed: list[str]) -> None:
    with pytest.raises(InputError, match="--class "):
        parsed_choice(typed)

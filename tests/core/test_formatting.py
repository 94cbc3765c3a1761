"""Numbers and lists as text."""

from __future__ import annotations

import pytest

from trtpoets.core import formatting


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "100 %"),
        (0.0, "0 %"),
        (0.99999, ">99.9 %"),
        (0.00001, "<0.1 %"),
        (0.9994, "99.9 %"),
        (0.5, "50.0 %"),
        (None, "–"),
    ],
)
def test_only_all_is_100_percent(value: float | None, text: str) -> None:
    assert formatting.percent(value) == text


def test_words() -> None:
    assert [formatting.points(x) for x in (0.012, -0.023, 0.0001, None)] == ["+1.2", "−2.3", "0.0", "–"]
    assert [formatting.milliseconds(x) for x in (0.123, 12.34, 123.4, None)] == ["0.12", "12.3", "123", "–"]
    assert [formatting.seconds(x) for x in (2.25, 300, 7200, None)] == ["2.2 s", "5.0 min", "2.0 h", "–"]
    assert [formatting.many(x, "class", "classes") for x in (1, 2000)] == ["1 class", "2,000 classes"]
    assert [formatting.joined(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert formatting.targets(["sm87", "sm80+", "sm777"]) == "Orin (sm87), Ampere and later (sm80+) and sm777"
    assert [formatting.tiny(x) for x in (3.4e-7, 0.0)] == ["3.4\u00a0×\u00a010⁻⁷", "0"]
    assert formatting.shown("a\udcff.jpg") == r"a\xff.jpg"


def test_only_the_first_names_of_a_list_are_shown() -> None:
    assert formatting.first_names(["ant", "b\ne"], 2) == "ant, b\\ne"
    assert formatting.first_names([str(number) for number in range(2000)], 1) == "0 and 1,999 more"
    assert formatting.first_names([], 3) == ""

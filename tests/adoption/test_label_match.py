"""Folder names of photos are matched to labels."""

from __future__ import annotations

from tests.support.errors import raises
from trtpoets.adoption.label_match import match_folders
from trtpoets.core.errors import BadInput


def test_folder_names() -> None:
    labels = ["Daisy", "rose", "sun_flowers", "black berry", "Café", "glass"]
    match = match_folders(["daisy", "Roses", "sun flower", "black-berries", "03_cafe", "glasses", "tulips"], labels)
    assert match.labels == {
        "daisy": "Daisy",
        "Roses": "rose",
        "sun flower": "sun_flowers",
        "black-berries": "black berry",
        "03_cafe": "Café",
        "glasses": "glass",
    }
    assert list(match.unmatched) == ["tulips"]
    assert match.warnings == ("the folder tulips is not used: none of the 6 labels is similar to it",)


def test_exact_names_come_first() -> None:
    assert match_folders(["rose", "roses"], ["roses", "rose"]).labels == {"rose": "rose", "roses": "roses"}
    assert match_folders(["class 1", "1"], ["1", "class 1"]).unmatched == {}


def test_ambiguous_folder_names() -> None:
    match = match_folders(["ROSE", "tulip", "Tulips", "daisy"], ["rose", "Rose", "tulip", "daisy"])
    assert match.labels == {"tulip": "tulip", "daisy": "daisy"}
    assert "several labels" in match.unmatched["ROSE"]
    assert "Tulips" in match.unmatched
    both = match_folders(["TULIP", "Tulip", "daisy"], ["tulip", "daisy"])
    assert set(both.unmatched) == {"TULIP", "Tulip"}


def test_photos_of_none_of_the_classes() -> None:
    with raises(BadInput, "TP9447", "cat and dog", "rose and tulip"):
        match_folders(["cat", "dog"], ["rose", "tulip"])
    with raises(BadInput, "TP9447", "992 others"):
        match_folders(["cat"], [f"thing {number}" for number in range(1000)])

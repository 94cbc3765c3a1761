"""Class names of well-known data sets, where the photos' folders bear them."""

from __future__ import annotations

import pytest

from trtpoets.adoption.standard_labels import STANDARD, standard_labels
from trtpoets.core.original import Source


@pytest.mark.parametrize(("name", "labels"), STANDARD.items())
def test_folders_with_the_names_of_a_data_set_give_its_order(name: str, labels: tuple[str, ...]) -> None:
    result = standard_labels(sorted(labels, reverse=True), len(labels))
    assert result is not None
    ordered, evidence = result
    assert ordered == labels
    assert evidence.source is Source.ASSUMED and f"named like classes of {name}," in evidence.text


def test_some_of_the_classes_are_enough() -> None:
    result = standard_labels(["cat", "dog"], 10)
    assert result is not None and result[0] == STANDARD["CIFAR-10"]


@pytest.mark.parametrize(("folders", "classes"), [(["cat", "elk"], 10), (["cat", "dog"], 11), (["rose"], 2)])
def test_other_names_or_numbers_of_classes_give_none(folders: list[str], classes: int) -> None:
    assert standard_labels(folders, classes) is None


def test_classes_of_a_data_set_differ() -> None:
    assert all(len(set(labels)) == len(labels) > 1 for labels in STANDARD.values())

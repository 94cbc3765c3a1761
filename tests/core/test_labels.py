"""Indices of labels."""

from __future__ import annotations

from trtpoets.core.labels import label_indices


def test_each_name_has_the_index_of_its_label() -> None:
    assert label_indices(["cow", "ant", "cow"], ("ant", "bee", "cow")) == [2, 0, 2]


def test_unknown_names_have_no_index() -> None:
    assert label_indices(["elk", "bee", "Bee", ""], ["ant", "bee"]) == [-1, 1, -1, -1]
    assert label_indices(iter(()), ["ant"]) == []

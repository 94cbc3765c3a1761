"""Folder names that describe a purpose, not a class."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.photo_folders import HALVES, classes
from trtpoets.core.errors import BadInput
from trtpoets.train.dataset import DatasetConfig, dataset_from_folder


@pytest.mark.parametrize("names", [("train", "test"), ("images", "masks"), ("Test", "valid"), ("images", "labels")])
def test_roles_are_never_classes_silently(tmp_path: Path, names: tuple[str, str]) -> None:
    classes(tmp_path, 20, names=names)
    with raises(BadInput, "TP2061"):
        dataset_from_folder(tmp_path, HALVES)
    assert set(dataset_from_folder(tmp_path, DatasetConfig(30, 30, class_folders=True)).labels) == set(names)


@pytest.mark.parametrize("names", [("mask", "no_mask"), ("raw", "half-raw", "ripe"), ("labels", "no labels")])
def test_a_name_of_a_role_that_another_class_repeats_is_a_class(tmp_path: Path, names: tuple[str, ...]) -> None:
    classes(tmp_path, 20, names=names)
    assert dataset_from_folder(tmp_path, HALVES).labels == tuple(sorted(names))

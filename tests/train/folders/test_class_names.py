"""Class names that cannot be distinguished or stored."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.photo_folders import HALVES, classes
from trtpoets.core.errors import BadInput
from trtpoets.train.dataset import dataset_from_folder


@pytest.mark.parametrize(
    ("other", "values"),
    [
        ("rose\u00a0", (r"'rose\xa0'", "white space")),
        (" rose", ("' rose'", "white space")),
        ("ro\u200bse", (r"'ro\u200bse'", "invisible")),
        ("Rose", ("'Rose'", "case")),
    ],
)
def test_class_names_that_look_alike(tmp_path: Path, other: str, values: tuple[str, str]) -> None:
    classes(tmp_path, 2, names=("rose", other, "tulip"))
    with raises(BadInput, "TP2031", "'rose'", *values):
        dataset_from_folder(tmp_path, HALVES)


def test_class_names_in_two_unicode_forms(tmp_path: Path) -> None:
    classes(tmp_path, 2, names=[unicodedata.normalize(form, "r\u00f6se") for form in ("NFC", "NFD")])
    with raises(BadInput, "TP2031", r"'ro\u0308se'", r"'r\xf6se'", "Unicode"):
        dataset_from_folder(tmp_path, HALVES)

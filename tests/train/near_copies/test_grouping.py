"""Families of near-copies in the splits of a data set."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.near_copies import CONFIG
from trtpoets.core.errors import BadInput
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Photo, Split
from trtpoets.train.dataset import Dataset, dataset_from_json
from trtpoets.train.near_copies.grouping import across_splits, positions_of_groups, with_families
from trtpoets.train.photo_table import table_of
from trtpoets.train.split import positions_of, split_at


def dataset(labels: dict[str, int], *, given_splits: bool = False) -> Dataset:
    photos = []
    for label, count in labels.items():
        for number in range(count):
            digest = hashlib.sha256(f"{label}{number}".encode()).hexdigest()
            split = split_at(positions_of([("", digest)])[0], CONFIG)
            photos.append(Photo(Path(f"/p/{label}/{number}.jpg"), label, split, digest))
    table = table_of(photos, Path("/p"))
    return Dataset(Path("/p"), tuple(sorted(labels)), table, (), (), (), CONFIG, splits_given=given_splits)


def test_a_dataset_keeps_families_together_and_others_where_they_are() -> None:
    before = dataset({"a": 100, "b": 100})
    families = [(number, number + 1, number + 2) for number in range(0, 60, 3)]
    after = with_families(before, families)
    for family in families:
        assert len({after.photos[index].split for index in family}) == 1
    assert after.photos[60:] == before.photos[60:]
    assert not across_splits(after)
    assert len(after.families) == 20
    again = dataset_from_json(to_json(after.document))
    assert again.families == after.families
    assert again == after
    assert after.document.families_count == 20
    assert after.document.families_photos == 60
    assert with_families(before, ()) == before


def test_given_splits_are_kept_and_copies_across_them_known() -> None:
    before = dataset({"a": 100, "b": 100}, given_splits=True)
    test = next(i for i, photo in enumerate(before.photos) if photo.split is Split.TEST)
    train = next(i for i, photo in enumerate(before.photos) if photo.split is Split.TRAIN)
    after = with_families(before, [(train, test)])
    assert after.photos == before.photos
    assert len(across_splits(after)) == 1


def test_a_family_with_several_labels_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    with_families(dataset({"a": 100, "b": 100}), [(0, 100)])
    assert "several labels, for example /p/a/0.jpg and /p/b/0.jpg" in caplog.text


def test_the_photos_of_a_group_have_one_position_that_depends_on_their_content() -> None:
    digests = [hashlib.sha256(f"{number}".encode()).hexdigest() for number in range(2000)]
    groups = np.arange(2000) // 2
    positions = positions_of_groups(groups, digests, "draw:")
    assert (positions[::2] == positions[1::2]).all()
    assert positions.min() >= 0 and positions.max() < 100
    assert abs((positions < 25).mean() - 0.25) < 0.05
    order = np.random.default_rng(0).permutation(2000)
    shuffled = positions_of_groups(7 * groups[order], [digests[place] for place in order.tolist()], "draw:")
    assert (shuffled == positions[order]).all()
    assert (positions_of_groups(groups, digests, "other:") != positions).all()


def test_a_class_of_one_family_is_an_error_that_says_so() -> None:
    with raises(BadInput, "TP2077", "class 'a' has 40 photos (only 1", "near-copies"):
        with_families(dataset({"a": 40, "b": 100}), [tuple(range(40))])

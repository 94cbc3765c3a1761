"""The rule that divides photos."""

from __future__ import annotations

import hashlib
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.errors import raises
from trtpoets.core.errors import BadInput
from trtpoets.core.types import Split
from trtpoets.train.split import DatasetConfig, check_config, check_splits, positions_of, split_at


def content(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


names = st.builds(
    lambda group, rest: f"{group}_nohash_{rest}.jpg" if group else f"{rest}.jpg",
    st.sampled_from(["", "", "a", "b", "c"]),
    st.integers(0, 9),
)
files = st.lists(st.tuples(names, st.integers(0, 12).map(content)), max_size=20)


@given(files)
def test_groups_and_copies_share_a_position(some: list[tuple[str, str]]) -> None:
    positions = positions_of(some)
    assert all(0 <= position < 100 for position in positions)
    for (name, sha256), position in zip(some, positions, strict=True):
        for (other_name, other_sha256), other in zip(some, positions, strict=True):
            group, other_group = (n.split("_nohash_")[0] for n in (name, other_name))
            if sha256 == other_sha256 or ("_nohash_" in name and "_nohash_" in other_name and group == other_group):
                assert position == other


@given(files, st.randoms())
def test_order_and_names_without_group_play_no_part(some: list[tuple[str, str]], random: object) -> None:
    expected = sorted(zip((sha for _, sha in some), positions_of(some), strict=True))
    renamed = [(name if "_nohash_" in name else f"x{name}", sha) for name, sha in some]
    random.shuffle(renamed)  # type: ignore[attr-defined]
    assert sorted(zip((sha for _, sha in renamed), positions_of(renamed), strict=True)) == expected


@given(st.lists(st.tuples(names, st.integers()), max_size=20, unique_by=lambda file: file[1]), st.integers(0, 20))
def test_new_photos_do_not_move_other_photos(some: list[tuple[str, int]], before: int) -> None:
    hashed = [(name, content(number)) for name, number in some]
    assert positions_of(hashed[:before]) == positions_of(hashed)[:before]


def test_a_photo_in_two_groups_makes_them_one() -> None:
    apart = positions_of([("a_nohash_1", content(1)), ("b_nohash_1", content(2))])
    joined = positions_of([("a_nohash_1", content(1)), ("b_nohash_1", content(2)), ("b_nohash_2", content(1))])
    assert len(set(apart)) == 2
    assert len(set(joined)) == 1
    assert joined[0] not in apart


def test_joined_groups_are_spread_over_the_splits_as_all_others() -> None:
    """The lowest of two positions would put 19 % of them into test and 1 % into validation."""
    files: list[tuple[str, str]] = []
    for pair in range(3000):
        shared = content(2 * pair)
        files += [
            (f"{pair}a_nohash_1", shared),
            (f"{pair}b_nohash_1", shared),
            (f"{pair}b_nohash_2", content(2 * pair + 1)),
        ]
    positions = positions_of(files)
    splits = [split_at(position, DatasetConfig()) for position in positions[::3]]
    for split, share in ((Split.TEST, 0.1), (Split.VALIDATION, 0.1), (Split.TRAIN, 0.8)):
        assert splits.count(split) / len(splits) == pytest.approx(share, abs=0.02)


def test_groups_that_are_not_joined_keep_their_position() -> None:
    """These are the positions of earlier versions: nothing moves when this one reads the folder again."""
    files = [
        ("a_nohash_1.jpg", content(1)),
        ("b_nohash_1.jpg", content(2)),
        ("c.jpg", content(3)),
        ("d.jpg", content(4)),
    ]
    assert positions_of(files, [(content(3), content(4))]) == pytest.approx(
        [41.32444682047627, 32.7482586652696] + [3.7531666576882117] * 2
    )


def test_positions_are_even() -> None:
    positions = positions_of([(f"{number}.jpg", content(number)) for number in range(4000)])
    shares = [sum(start <= position < start + 10 for position in positions) for start in range(0, 100, 10)]
    assert min(shares) > 330 and max(shares) < 470  # 400 each, within 3.7 deviations


def test_the_rule_stays_as_it_is() -> None:
    """Another rule would move the test photos of everyone's datasets: these are numbers of this one."""
    assert positions_of([("a.jpg", content(1)), ("b_nohash_1.jpg", content(2))]) == pytest.approx(
        [42.00240, 32.74826], abs=1e-5
    )


def test_the_borders_of_the_splits() -> None:
    config = DatasetConfig(validation_percent=20, test_percent=10)
    assert [split_at(x, config) for x in (0, 9.99, 10, 79.9, 80, 99.9)] == [
        *(Split.TEST, Split.TEST, Split.TRAIN, Split.TRAIN, Split.VALIDATION, Split.VALIDATION)
    ]


@pytest.mark.parametrize(
    ("validation", "test", "code", "values"),
    [
        (10, 0, "TP2075", ("test photos", "0")),
        (-1, 10, "TP2075", ("validation photos", "-1")),
        (10, float("nan"), "TP2075", ("test photos", "nan")),
        (50, 50, "TP2076", ("50 %",)),
    ],
)
def test_shares_that_leave_a_split_empty(validation: float, test: float, code: str, values: tuple[str, ...]) -> None:
    with raises(BadInput, code, *values):
        check_config(DatasetConfig(validation, test))


def test_the_hint_gives_a_share_that_works() -> None:
    positions = {"roses": [5.0, 50.0, 95.0], "tulips": [17.4, 50.0, 95.0]}
    with raises(BadInput, "TP2077", "class 'tulips' has 3 photos", "test split") as caught:
        check_splits(positions, DatasetConfig())
    assert caught.value.hint.endswith("or use --test-percent 18")
    check_splits(positions, DatasetConfig(test_percent=18))
    with pytest.raises(BadInput):
        check_splits(positions, DatasetConfig(test_percent=17))


def test_no_share_is_proposed_that_would_not_work() -> None:
    with raises(BadInput, "TP2077", "test split") as caught:
        check_splits({"roses": [5.0, 50.0, 95.0], "tulips": [60.0, 95.0]}, DatasetConfig())
    assert "--test-percent" not in caught.value.hint


def test_a_class_with_nothing_to_train_on() -> None:
    with raises(BadInput, "TP2077", "class 'tulips' has 2 photos", "train split") as caught:
        check_splits({"roses": [5.0, 50.0, 95.0], "tulips": [5.0, 95.0]}, DatasetConfig())
    assert "at least 3" in caught.value.hint


def test_validation_photos_missing_in_one_class_or_in_all(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_splits({"roses": [5.0, 50.0, 95.0], "tulips": [5.0, 50.0]}, DatasetConfig())
    assert "class 'tulips' has 2 photos, but none in the validation split" in caplog.text
    with raises(BadInput, "TP2078", "1 more", "'tulips'") as caught:
        check_splits({"roses": [5.0, 50.0, 85.0], "tulips": [5.0, 50.0, 80.0]}, DatasetConfig())
    assert caught.value.hint.endswith("or use --validation-percent 20")


def test_a_class_that_is_one_group() -> None:
    with raises(BadInput, "TP2077", "'tulips'", "3 photos", "only 1", "near-copies", "_nohash_", "train"):
        check_splits({"roses": [5.0, 50.0, 95.0], "tulips": [5.0] * 3}, DatasetConfig())

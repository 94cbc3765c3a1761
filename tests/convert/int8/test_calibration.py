"""Calibration: choice of photos, ranges by each method, and checks of photos and network."""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.activations import activations
from tests.support.errors import raises
from trtpoets.convert.int8.calibration import (
    CalibrationConfig,
    Method,
    Ranges,
    calibration_from_photos,
    calibration_photos,
    default_photos,
    with_number,
)
from trtpoets.core.errors import BadArtefact, BadInput, BadPhoto
from trtpoets.core.files import sha256_of_file
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import OnnxModel, Photo, Split


def photo_list(counts: dict[str, int], split: Split = Split.TRAIN) -> list[Photo]:
    return [
        Photo(Path(f"{label}/{i}.jpg"), label, split, f"{label}-{i}") for label in counts for i in range(counts[label])
    ]


def chosen(available: list[Photo], **config: Any) -> set[str]:
    return {photo.sha256 for photo in calibration_photos(available, CalibrationConfig(**config))}


def test_photos_are_training_photos_in_proportion_to_the_labels() -> None:
    photos = (
        photo_list({"a": 60, "b": 30, "c": 10})
        + photo_list({"d": 50}, Split.TEST)
        + photo_list({"e": 50}, Split.VALIDATION)
    )
    selected = calibration_photos(photos, CalibrationConfig(photos=20))
    assert Counter(photo.label for photo in selected) == {"a": 12, "b": 6, "c": 2}


def test_the_choice_does_not_depend_on_order_or_on_other_photos() -> None:
    photos = photo_list({"a": 40, "b": 40})
    first = chosen(photos, photos=20)
    assert chosen(photos[::-1], photos=20) == first
    assert chosen(photos, photos=20, seed=1) != first
    grown = chosen([*photos, Photo(Path("new.jpg"), "a", Split.TRAIN, "new")], photos=20)
    assert len(grown - first) <= 1


def test_rare_labels_get_a_photo_and_identical_photos_count_once() -> None:
    photos = photo_list({"a": 1000, "b": 1}) + photo_list({"a": 1000})
    selected = calibration_photos(photos, CalibrationConfig(photos=10))
    assert Counter(photo.label for photo in selected) == {"a": 9, "b": 1}
    assert len({photo.sha256 for photo in selected}) == 10


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 100))
def test_quotas_add_up(counts: list[int], wanted: int) -> None:
    photos = photo_list({f"label {i}": count for i, count in enumerate(counts)})
    if not photos:
        return
    logging.disable(logging.WARNING)
    quotas = Counter(photo.label for photo in calibration_photos(photos, CalibrationConfig(photos=wanted)))
    logging.disable(logging.NOTSET)
    assert sum(quotas.values()) == min(wanted, sum(counts))
    if wanted >= sum(count > 0 for count in counts):
        assert len(quotas) == sum(count > 0 for count in counts)


def test_too_few_photos_are_used_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert len(calibration_photos(photo_list({"a": 5}), CalibrationConfig(photos=8))) == 5
    assert "calibrating with all 5 training photos instead of 8" in caplog.text
    assert "add at least 3 photos" in caplog.text


@pytest.mark.parametrize(
    ("training", "labels", "photos"), [(60, 2, 32), (128, 2, 32), (400, 2, 100), (512, 2, 128), (9000, 2, 128)]
)
def test_a_quarter_of_the_training_photos_is_the_default(training: int, labels: int, photos: int) -> None:
    assert default_photos(training, labels) == photos
    counts = dict.fromkeys([f"label {number}" for number in range(labels)], training // labels)
    available = [*photo_list(counts), *photo_list({"other": 500}, Split.VALIDATION)]
    assert with_number(CalibrationConfig(seed=3), available) == CalibrationConfig(photos=photos, seed=3)
    assert with_number(CalibrationConfig(photos=7), available).photos == 7
    assert len(chosen(available)) == photos


def test_each_label_has_a_calibration_photo_by_default() -> None:
    assert default_photos(400, 120) == 120
    assert default_photos(4000, 1000) == 128


def test_a_warning_names_classes_without_calibration_photos(caplog: pytest.LogCaptureFixture) -> None:
    calibration_photos(photo_list({"a": 9, "b": 5, "c": 5}), CalibrationConfig(photos=3))
    assert caplog.text == ""
    calibration_photos(photo_list({"a": 9, "b": 5, "c": 5}), CalibrationConfig(photos=2))
    assert "calibrating with 2 photos of 3 classes: some classes have none, for example 'c'" in caplog.text
    assert "use --photos 3 to have one photo of each" in caplog.text
    caplog.clear()
    calibration_photos(photo_list({"a": 9}) + photo_list({"b": 5}, Split.TEST), CalibrationConfig(photos=4))
    assert "all calibration photos are of one class, 'a': ranges may be too narrow for others" in caplog.text


def test_a_photo_that_is_also_in_the_test_split_is_refused() -> None:
    leak = Photo(Path("copy.jpg"), "a", Split.TEST, "a-3")
    with raises(BadInput, "TP3017", "3.jpg", "copy.jpg"):
        calibration_photos([*photo_list({"a": 5}), leak], CalibrationConfig(photos=5))


def test_no_training_photos() -> None:
    with raises(BadInput, "TP3015", "2"):
        calibration_photos(photo_list({"a": 2}, Split.TEST), CalibrationConfig())


@pytest.mark.parametrize("wrong", [{"photos": 0}, {"batch_size": 0}, {"percentile": 101.0}, {"percentile": 12}])
def test_invalid_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        CalibrationConfig(**wrong)


@pytest.mark.parametrize("method", [Method.ENTROPY, Method.PERCENTILE, Method.MSE])
def test_other_methods_clip_the_range(model: OnnxModel, photos: list[Photo], method: Method) -> None:
    widest = calibration_from_photos(model, photos, CalibrationConfig(method=Method.MINMAX)).by_method[0].tensors
    ranges = (
        calibration_from_photos(model, photos, CalibrationConfig(method=method, percentile=95.0)).by_method[0].tensors
    )
    assert all(widest[name][0] <= low <= high <= widest[name][1] for name, (low, high) in ranges.items())
    assert any(high < widest[name][1] for name, (_, high) in ranges.items())


def test_percentile_of_real_activations(model: OnnxModel, photos: list[Photo]) -> None:
    config = CalibrationConfig(method=Method.PERCENTILE, percentile=90.0)
    low, high = calibration_from_photos(model, photos, config).by_method[0].tensors["project:0"]
    (array,) = activations(model, photos, ["project:0"])
    exact = np.quantile(np.abs(array), 0.9)
    assert max(-low, high) == pytest.approx(exact, rel=0.02)


def test_ranges_survive_json_and_have_a_hash(model: OnnxModel, photos: list[Photo]) -> None:
    ranges = calibration_from_photos(model, photos, CalibrationConfig(method=Method.MINMAX)).by_method[0]
    again = from_json(Ranges, json.loads(json.dumps(to_json(ranges))), "ranges.json")
    assert again == ranges
    assert again.hash == ranges.hash
    assert (
        calibration_from_photos(model, photos[1:], CalibrationConfig(method=Method.MINMAX)).by_method[0].hash
        != ranges.hash
    )
    with raises(BadArtefact, "TP1101", "ranges.json", "method is 'guess'"):
        from_json(Ranges, {**to_json(ranges), "method": "guess"}, "ranges.json")


def test_missing_and_damaged_photos(model: OnnxModel, photos: list[Photo], tmp_path: Path) -> None:
    with raises(BadInput, "TP3016"):
        calibration_from_photos(model, [], CalibrationConfig())
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photos[0].path.read_bytes()[:300])
    with raises(BadPhoto, "TP1065", "broken.jpg"):
        calibration_from_photos(
            model, [Photo(broken, "rose", Split.TRAIN, sha256_of_file(broken))], CalibrationConfig()
        )
